"""The `tensor` loss: dipoles or polarizabilities, of atoms and in total."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from deepmd.array_model.losses.base import Errors, Label, Loss, Target, atomic_square, total_square
from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Pairs

WEIGHT = "atomic_weight"


@dataclass(frozen=True)
class TensorLoss(Loss):
    """Options of the `tensor` loss.

    Attributes
    ----------
    pref, pref_atomic : constant prefactors of the total and of the atomic tensor
    enable_atomic_weight : differences of atomic tensors are multiplied by `atomic_weight` of the data
    """

    pref: float = 0.0
    pref_atomic: float = 0.0
    enable_atomic_weight: bool = False
    target: Target = field(default=Target(), metadata={"derived": True})

    kind: ClassVar[str] = "tensor"
    predicts: ClassVar[tuple[str, ...]] = ("dipole", "polar")
    names: ClassVar[dict[str, str]] = {"pref_weight": "pref", "pref_atomic_weight": "pref_atomic"}

    def __post_init__(self) -> None:
        if min(self.pref, self.pref_atomic) < 0.0 or self.pref + self.pref_atomic == 0.0:
            raise ValueError(f"pref is {self.pref}, pref_atomic {self.pref_atomic}; they must not be negative, and one of them positive")

    def suited(self, target: Target) -> TensorLoss:
        """Return the loss for a model."""
        return replace(self, target=target)

    def start(self, term: str) -> float:
        """Prefactor, the same at all learning rates."""
        return self.pref if term == "global" else self.pref_atomic

    def limit(self, term: str) -> float:
        """Prefactor, the same at all learning rates."""
        return self.start(term)

    def terms(self) -> tuple[str, ...]:
        """Terms that are on."""
        return tuple(term for term in ("local", "global") if self.start(term) > 0.0)

    def label(self, term: str) -> str:
        """Return the label that a term compares with."""
        return self.target.label if term == "global" else self.target.atomic_label

    def labels(self) -> dict[str, Label]:
        """Return the data that the loss reads."""
        found = {self.label(term): Label((self.target.width,), per_atom=term == "local") for term in self.terms()}
        return {**found, WEIGHT: Label((), per_atom=True, missing=1.0)} if self.enable_atomic_weight else found

    def needed(self) -> frozenset[str]:
        """Return the outputs that the loss reads."""
        names = {"global": self.target.name, "local": f"atom_{self.target.name}"}
        return frozenset(names[term] for term in self.terms())

    def columns(self) -> dict[str, str]:
        """Return what the learning curve calls each term."""
        return {term: f"rmse_{term}_{self.target.name}" for term in self.terms()}

    def errors(self, prediction: dict[str, Array], label: dict[str, Array], pairs: Pairs, natoms_F: Array, *, xp: Namespace) -> Errors:
        """Return mean square differences: totals (F, d), shown per atom, and atomic values (N, d) of the atoms that have one."""
        out = {}
        name, counted = self.target.name, (pairs, self.target.without, natoms_F)
        if "local" in self.terms():
            delta_Nd = label[self.label("local")] - prediction[f"atom_{name}"]
            if self.enable_atomic_weight:
                delta_Nd = delta_Nd * xp.expand_dims(label[WEIGHT], axis=-1)
            out["local"] = atomic_square(delta_Nd, *counted, xp=xp)
        if "global" in self.terms():
            out["global"] = total_square(label[self.label("global")] - prediction[name], *counted, xp=xp)
        return out

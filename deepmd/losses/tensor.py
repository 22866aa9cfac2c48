"""The `tensor` loss: dipoles or polarizabilities, atomic and total (docs/input.md#loss)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.namespace import Array, Namespace
from deepmd.losses.base import Label, OutputLoss, Term

WEIGHT = "atomic_weight"


@dataclass(frozen=True)
class TensorLoss(OutputLoss):
    """Options of the `tensor` loss.

    Attributes
    ----------
    pref, pref_atomic : constant prefactors of the total and of the atomic tensor
    enable_atomic_weight : multiply differences of atomic tensors by `atomic_weight` of the data
    """

    pref: float = 0.0
    pref_atomic: float = 0.0
    enable_atomic_weight: bool = False

    kind: ClassVar[str] = "tensor"
    predicts: ClassVar[tuple[str, ...]] = ("dipole", "polar")
    aliases: ClassVar[dict[str, str]] = {"pref_weight": "pref", "pref_atomic_weight": "pref_atomic"}

    def every_term(self) -> dict[str, Term]:
        """Return the terms of atomic values (local) and totals (global)."""
        return {
            part: self.target.make_term(f"rmse_{part}_{self.target.output.name}", atomic=part == "local")
            for part in ("local", "global")
        }

    def options_of(self, term: str) -> tuple[str, str]:
        """Return one name twice: prefactors are constant."""
        name = "pref" if term == "global" else "pref_atomic"
        return name, name

    def weight_labels(self) -> dict[str, Label]:
        """Return the weights of atoms, `atomic_weight`."""
        return {WEIGHT: Label((), per_atom=True, missing=1.0)} if self.enable_atomic_weight else {}

    def difference(self, term: str, delta: Array, label: dict[str, Array], *, xp: Namespace) -> Array:
        """Return differences of totals, or of atomic values (N, d) times their weights."""
        return (
            delta * xp.expand_dims(label[WEIGHT], axis=-1) if self.enable_atomic_weight and term == "local" else delta
        )

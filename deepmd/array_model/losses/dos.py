"""The `dos` loss: densities of states and their cumulative sums, of atoms and in total."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from deepmd.array_model.losses.base import Errors, Label, Loss, Target, atomic_square, total_square
from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Pairs

TERMS = {"ados": "local_dos", "acdf": "local_cdf", "dos": "global_dos", "cdf": "global_cdf"}
"""Terms and what the learning curve calls them: density and cumulative sum, of atoms and in total."""


@dataclass(frozen=True)
class DosLoss(Loss):
    """Options of the `dos` loss."""

    start_pref_dos: float = 0.0
    limit_pref_dos: float = 0.0
    start_pref_cdf: float = 0.0
    limit_pref_cdf: float = 0.0
    start_pref_ados: float = 1.0
    limit_pref_ados: float = 1.0
    start_pref_acdf: float = 0.0
    limit_pref_acdf: float = 0.0
    target: Target = field(default=Target(), metadata={"derived": True})

    kind: ClassVar[str] = "dos"
    predicts: ClassVar[tuple[str, ...]] = ("dos",)

    def __post_init__(self) -> None:
        for term in TERMS:
            if min(self.start(term), self.limit(term)) < 0.0:
                raise ValueError(f"start_pref_{term} is {self.start(term)}, limit_pref_{term} {self.limit(term)}; they must not be negative")
        if not self.terms():
            raise ValueError("all prefactors are zero: there is nothing to train on")

    def suited(self, target: Target) -> DosLoss:
        """Return the loss for a model."""
        return replace(self, target=target)

    def terms(self) -> tuple[str, ...]:
        """Terms that are on."""
        return tuple(term for term in TERMS if self.start(term) != 0.0 or self.limit(term) != 0.0)

    def label(self, term: str) -> str:
        """Return the label that a term compares with."""
        return self.target.atomic_label if term.startswith("a") else self.target.label

    def labels(self) -> dict[str, Label]:
        """Return the data that the loss reads."""
        return {self.label(term): Label((self.target.width,), per_atom=term.startswith("a")) for term in self.terms()}

    def needed(self) -> frozenset[str]:
        """Return the outputs that the loss reads."""
        return frozenset("atom_dos" if term.startswith("a") else "dos" for term in self.terms())

    def columns(self) -> dict[str, str]:
        """Return what the learning curve calls each term."""
        return {term: f"rmse_{TERMS[term]}" for term in self.terms()}

    def errors(self, prediction: dict[str, Array], label: dict[str, Array], pairs: Pairs, natoms_F: Array, *, xp: Namespace) -> Errors:
        """Return mean square differences: totals (F, d), shown per atom, and atomic values (N, d) of the atoms that have one."""
        out = {}
        for term in self.terms():
            atomic = term.startswith("a")
            delta = label[self.label(term)] - prediction["atom_dos" if atomic else "dos"]
            if term.endswith("cdf"):
                delta = cumulative(delta, xp=xp)
            out[term] = (atomic_square if atomic else total_square)(delta, pairs, self.target.without, natoms_F, xp=xp)
        return out


def cumulative(x_Nd: Array, *, xp: Namespace) -> Array:
    """Cumulative sums (N, d) along the last axis."""
    columns = xp.unstack(x_Nd, axis=1)
    sums = [columns[0]]
    for column in columns[1:]:
        sums.append(sums[-1] + column)
    return xp.stack(sums, axis=1)

"""The `dos` loss: densities of states and their cumulative sums, atomic and total (docs/input.md#loss)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.namespace import Array, Namespace
from deepmd.losses.base import OutputLoss, Term

COLUMNS = {"ados": "rmse_local_dos", "acdf": "rmse_local_cdf", "dos": "rmse_global_dos", "cdf": "rmse_global_cdf"}
"""{term: name in the learning curve}: density and cumulative sum, atomic and total."""


@dataclass(frozen=True)
class DosLoss(OutputLoss):
    """Options of the `dos` loss."""

    start_pref_dos: float = 0.0
    limit_pref_dos: float = 0.0
    start_pref_cdf: float = 0.0
    limit_pref_cdf: float = 0.0
    start_pref_ados: float = 1.0
    limit_pref_ados: float = 1.0
    start_pref_acdf: float = 0.0
    limit_pref_acdf: float = 0.0

    kind: ClassVar[str] = "dos"
    predicts: ClassVar[tuple[str, ...]] = ("dos",)

    def every_term(self) -> dict[str, Term]:
        """Return the terms of `COLUMNS`."""
        return {term: self.target.make_term(column, atomic=term.startswith("a")) for term, column in COLUMNS.items()}

    def difference(self, term: str, delta: Array, label: dict[str, Array], *, xp: Namespace) -> Array:
        """Return differences of densities, or of their cumulative sums, (N, d) or (F, d)."""
        return cumulative(delta, xp=xp) if term.endswith("cdf") else delta


def cumulative(x_Nd: Array, *, xp: Namespace) -> Array:
    """Cumulative sums (N, d) along the last axis."""
    columns = xp.unstack(x_Nd, axis=1)
    sums = [columns[0]]
    for column in columns[1:]:
        sums.append(sums[-1] + column)
    return xp.stack(sums, axis=1)

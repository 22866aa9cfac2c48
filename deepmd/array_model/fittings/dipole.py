"""dipole: atomic dipoles from invariant and equivariant features (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.contracts import Features, Widths
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.outputs import Output

DIPOLE = Output("dipole", 3, differentiable=True, label="dipole", atomic_label="atom_dipole")
"""Dipole, in the unit of the data."""


@dataclass(frozen=True)
class DipoleFitting(Fitting):
    """Options of the dipole fitting. `sel_type` lists the types that have a dipole, None means all.

    The dipole of an atom is the sum of its equivariant features times the outputs of its net
    (Zhang et al., Phys. Rev. B 102, 041121 (2020)).
    """

    kind = "dipole"

    sel_type: tuple[int, ...] | int | None = None

    aliases: ClassVar[dict[str, str]] = {**Fitting.aliases, "dipole_type": "sel_type"}
    needs_equivariant: ClassVar[bool] = True

    output = DIPOLE

    def net_width(self, widths: Widths) -> int:
        """Width of the last layer: one output for each equivariant feature."""
        return widths.equivariant

    def finish(
        self,
        params: Params,
        f_NK: Array,
        features: Features,
        bias_Td: Array,
        std_Td: Array,
        neighbours: Neighbours,
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic dipoles (N, 3), sum_m f_m Q_m. No bias, because a constant vector does not rotate with the system."""
        return xp.sum(xp.expand_dims(f_NK, axis=-1) * features.equivariant_NG3, axis=1)

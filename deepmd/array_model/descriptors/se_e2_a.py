"""se_e2_a: distances and directions of all neighbours (docs/theory/sectioned.md#se_e2_a)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deepmd.array_model.contracts import Features, Widths
from deepmd.array_model.descriptors.sectioned import OfPairs
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.spectral import Expansion


@dataclass(frozen=True)
class SeE2A(OfPairs):
    """Options of the descriptor."""

    kind = "se_e2_a"

    axis_neuron: int = 4
    type_one_side: bool = False

    aliases = {"n_axis_neuron": "axis_neuron", "n_neuron": "neuron"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.axis_neuron <= self.neuron[-1]:
            raise ValueError(
                f"axis_neuron is {self.axis_neuron}: needs 1 <= axis_neuron <= neuron[-1], "
                f"and neuron is {list(self.neuron)}"
            )

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1] * self.axis_neuron, self.neuron[-1])

    def apply(
        self, params: Params, neighbours: Neighbours, expansion: Expansion | None = None, *, xp: Namespace
    ) -> Features:
        """Features of each centre.

        g_i = (1/S) sum_j G(s_ij) (x) R_ij over all S slots, D_i = g_i g_i^T cut to `axis_neuron` columns. Slots beyond
        the widths of the batch are empty for every atom. Their contribution depends on the centre type only, and is
        summed once per type.
        """
        sum_N4G = (
            self._spectral(params, neighbours, expansion, xp=xp)
            if expansion
            else self._direct(params, neighbours, xp=xp)
        )
        g_N4G = sum_N4G / float(sum(self.slots))
        g_NG4 = xp.matrix_transpose(g_N4G)
        d_NGX = xp.matmul(g_NG4, g_N4G[:, :, : self.axis_neuron])
        return Features(
            invariant_ND=xp.astype(xp.reshape(d_NGX, (-1, self.neuron[-1] * self.axis_neuron)), xp.float64),
            equivariant_NG3=xp.astype(g_NG4[:, :, 1:], xp.float64),
        )

    def sum_section(self, rows: Array, embedding: Callable[[Array], Array], *, xp: Namespace) -> Array:
        """Return the sum of R (x) G(s) over a section (N, 4, G)."""
        return xp.matmul(xp.matrix_transpose(rows), embedding(rows[:, :, 0:1]))

    def _spectral(self, params: Params, neighbours: Neighbours, expansion: Expansion, *, xp: Namespace) -> Array:
        """Return sum_j R_j (x) G(s_j) over all slots (N, 4, G) from moments.

        Mean and deviation are read from slot 0, because all slots agree.
        """
        # R = row / dstd - davg / dstd, and 0 for excluded neighbours; adjoint: a gradient by R times 1 / dstd
        inverse_NCM = xp.expand_dims(xp.take(1.0 / params["dstd"][:, 0, :], neighbours.type_N, axis=0), axis=-1)
        shift_NCM = xp.expand_dims(xp.take(params["davg"][:, 0, :], neighbours.type_N, axis=0), axis=-1) * inverse_NCM
        if self.exclude_types:
            shown_N1M = xp.matrix_transpose(
                self.zero_excluded_rows(xp.ones_like(neighbours.disp_NM3[:, :, 0:1]), neighbours, xp=xp)
            )
            inverse_NCM, shift_NCM = (
                xp.astype(shown_N1M, dtype_of(self.precision, xp=xp)) * each for each in (inverse_NCM, shift_NCM)
            )
        normalise, adjoint = (
            (lambda rows_N4M: rows_N4M * inverse_NCM - shift_NCM),
            (lambda by_r_NCM: by_r_NCM * inverse_NCM),
        )
        return self.sum_moments(params, neighbours, expansion, normalise, adjoint, self.rest(params, neighbours), xp=xp)

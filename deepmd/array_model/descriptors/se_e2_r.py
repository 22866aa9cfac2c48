"""se_e2_r: distances of all neighbours, no angles (docs/theory/sectioned.md#se_e2_r)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deepmd.array_model.contracts import Features, Widths
from deepmd.array_model.descriptors.sectioned import OfPairs
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.spectral import Expansion

SCALE = 5.0
"""Divisor of the features in DeePMD-kit and its files (docs/theory/sectioned.md#se_e2_r)."""


@dataclass(frozen=True)
class SeE2R(OfPairs):
    """Options of the descriptor.

    Without `type_one_side` each pair of types has a net; in DeePMD-kit only its TensorFlow backend does this.
    """

    kind = "se_e2_r"

    type_one_side: bool = False

    num_columns = 1

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1], 0)

    def apply(
        self, params: Params, neighbours: Neighbours, expansion: Expansion | None = None, *, xp: Namespace
    ) -> Features:
        """Features of each centre: D_i = 1/(5 S) sum_j G(s_ij) over all S slots.

        Slots beyond the widths of the batch are empty for every atom. Their contribution depends on the centre type
        only, and is summed once per type.
        """
        sum_NG = (
            self._spectral(params, neighbours, expansion, xp=xp)
            if expansion
            else self._direct(params, neighbours, xp=xp)
        )
        return Features(xp.astype(sum_NG / (SCALE * float(sum(self.slots))), xp.float64), None)

    def sum_section(self, rows: Array, embedding: Callable[[Array], Array], *, xp: Namespace) -> Array:
        """Return the sum of G(s) over a section (N, G)."""
        return xp.sum(embedding(rows), axis=1)

    def _spectral(self, params: Params, neighbours: Neighbours, expansion: Expansion, *, xp: Namespace) -> Array:
        """Return sum_j G(s_j) over all slots (N, G) from moments with R = 1.

        Mean and deviation are read from slot 0, because all slots agree. Excluded neighbours have R = 0 in the moments
        and add G(0) each afterwards, because their normalised row is 0.
        """
        shown_NM1 = self.zero_excluded_rows(xp.ones_like(neighbours.disp_NM3[:, :, 0:1]), neighbours, xp=xp)
        shown_N1M = xp.matrix_transpose(xp.astype(shown_NM1, dtype_of(self.precision, xp=xp)))
        rest = [xp.ones_like(empty) for empty in self.rest(params, neighbours)]
        out_NG = self.sum_moments(params, neighbours, expansion, lambda rows_N4M: shown_N1M, None, rest, xp=xp)[:, 0, :]
        if not self.exclude_types:
            return out_NG
        zero_11 = xp.zeros_like(params["davg"][0:1, 0, :])
        by_centre = [
            [embedding(zero_11) for embedding in self._embeddings(params, centre, xp=xp)]
            for centre in range(len(self.slots))
        ]
        for at_zero, shown in zip(
            zip(*by_centre, strict=True), xp.split(shown_N1M[:, 0, :], neighbours.widths, axis=1), strict=True
        ):
            hidden_N1 = xp.sum(1.0 - shown, axis=1, keepdims=True)
            out_NG = out_NG + hidden_N1 * xp.take(xp.concat(list(at_zero), axis=0), neighbours.type_N, axis=0)
        return out_NG

"""se_e2_r: distances of all neighbours, no angles (DeepPot-SE, Zhang et al., NeurIPS 2018; spec core, section 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.pairs import Pairs
from deepmd.array_model.registry import register

SCALE = 5.0
"""DeePMD-kit divides by it, and files mean numbers that are divided by it."""


@register("descriptor", "se_e2_r", aliases=("se_r",))
@dataclass(frozen=True)
class SeE2R(Sectioned):
    """Options of the descriptor. Without `type_one_side` each pair of types has a net, as in DeePMD-kit's TensorFlow alone."""

    type_one_side: bool = True

    columns = 1
    type_name = "se_r"
    stored = ("type_one_side",)
    constants = {"spin": None}

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1], 0)

    def apply(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Features:
        """Features of each centre: D_i = 1/(5 S) sum_j G(s_ij) over all S slots.

        Slots beyond the widths of the batch are empty for every atom and depend on the centre type only: they are summed once per type.
        """
        evaluate = self._spectral if isinstance(self.evaluation, int) else self._direct
        return Features(xp.astype(evaluate(params, pairs, xp=xp) / (SCALE * float(sum(self.slots))), xp.float64), None)

    # -- parts ------------------------------------------------------------------------------------------------------

    @property
    def keys_of_nets(self) -> int:  # type: ignore[override]
        """Number of types that a net belongs to: the neighbour, or centre and neighbour."""
        return 1 if self.type_one_side else 2

    def _nets(self, params: Params, centre: int) -> list[Params]:
        """Nets of a centre type, by neighbour type."""
        count = len(self.slots)
        return [params["embeddings"][neighbour if self.type_one_side else centre + neighbour * count] for neighbour in range(count)]

    def _direct(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Array:
        """Sum of G(s) over all slots (N, G), every net evaluated for every slot."""
        rows, rest = self.rows(params, pairs, xp=xp), self.rest(params, pairs)

        def total(centre: int, sections: Sequence[Array]) -> Array:
            terms = [xp.sum(embedding(s), axis=1) for embedding, s in zip(self._embeddings(params, centre, xp=xp), sections, strict=True)]
            return sum(terms[1:], terms[0])

        if self.type_one_side:
            return total(0, rows) + xp.take(total(0, rest), pairs.type_N, axis=0)
        by_centre = zip(*(xp.split(section, pairs.counts, axis=0) for section in rows), strict=True)
        parts = [total(centre, own) + total(centre, [empty[centre : centre + 1, :, :] for empty in rest]) for centre, own in enumerate(by_centre)]
        return xp.concat(parts, axis=0)

    def _spectral(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Array:
        """Sum of G(s) over all slots (N, G) from moments; mean and deviation are those of the first slot, as of all."""
        shown_NM1 = self.without_excluded(xp.ones_like(pairs.disp_NM3[:, :, 0:1]), pairs, xp=xp)
        shown_N1M = xp.matrix_transpose(xp.astype(shown_NM1, dtype_of(self.precision, xp=xp)))
        rest = [xp.ones_like(empty) for empty in self.rest(params, pairs)]
        out_NG = self.summed(params, pairs, lambda rows_N4M: shown_N1M, None, rest, xp=xp)[:, 0, :]
        if not self.exclude_types:
            return out_NG
        zero_11 = xp.zeros_like(params["davg"][0:1, 0, :])
        by_centre = [[embedding(zero_11) for embedding in self._embeddings(params, centre, xp=xp)] for centre in range(len(self.slots))]
        for at_zero, shown in zip(zip(*by_centre, strict=True), xp.split(shown_N1M[:, 0, :], pairs.widths, axis=1), strict=True):
            hidden_N1 = xp.sum(1.0 - shown, axis=1, keepdims=True)
            out_NG = out_NG + hidden_N1 * xp.take(xp.concat(list(at_zero), axis=0), pairs.type_N, axis=0)
        return out_NG

    # -- files ------------------------------------------------------------------------------------------------------

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[Any, Params]:
        """Return options and parameters from the stored form, whose number of nets counts: DeePMD-kit's torch passes over `type_one_side`."""
        serial.require(tree, "type_one_side", [None, True, False], "descriptor se_e2_r")
        return super().deserialize({**tree, "type_one_side": tree["embeddings"].get("ndim") != 2})

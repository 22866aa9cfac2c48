"""se_e2_r: distances of all neighbours, no angles (DeepPot-SE, Zhang et al., NeurIPS 2018; spec core, section 6.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import apply_net
from deepmd.array_model.pairs import Pairs
from deepmd.array_model.registry import register

SCALE = 5.0
"""DeePMD-kit divides by it, and files mean numbers that are divided by it."""


@register("descriptor", "se_e2_r", aliases=("se_r",))
@dataclass(frozen=True)
class SeE2R(Sectioned):
    """Options of the descriptor. Its nets belong to the type of the neighbour alone, so that `type_one_side` cannot be false."""

    type_one_side: bool = True

    columns = 1
    type_name = "se_r"
    stored = ("type_one_side",)
    constants = {"spin": None}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.type_one_side:
            raise ValueError("type_one_side is false; se_e2_r has one net for each type of neighbour: accepted is true")

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

    def _nets(self, params: Params, centre: int) -> list[Params]:
        nets: list[Params] = params["embeddings"]
        return nets

    def _direct(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Array:
        """Sum of G(s) over all slots (N, G), every net evaluated for every slot."""

        def total(sections: list[Array]) -> Array:
            terms = [xp.sum(apply_net(self._net(), net, s, xp=xp), axis=1) for net, s in zip(params["embeddings"], sections, strict=True)]
            return sum(terms[1:], terms[0])

        return total(self.rows(params, pairs, xp=xp)) + xp.take(total(self.rest(params, pairs)), pairs.type_N, axis=0)

    def _spectral(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Array:
        """Sum of G(s) over all slots (N, G) from moments; mean and deviation are those of the first slot, as of all."""
        shown_NM1 = self.without_excluded(xp.ones_like(pairs.disp_NM3[:, :, 0:1]), pairs, xp=xp)
        shown_N1M = xp.matrix_transpose(xp.astype(shown_NM1, dtype_of(self.precision, xp=xp)))
        rest = [xp.ones_like(empty) for empty in self.rest(params, pairs)]
        out_NG = self.summed(params, pairs, lambda rows_N4M: shown_N1M, None, rest, xp=xp)[:, 0, :]
        if not self.exclude_types:
            return out_NG
        for net, shown in zip(params["embeddings"], xp.split(shown_N1M[:, 0, :], pairs.widths, axis=1), strict=True):
            hidden_N1 = xp.sum(1.0 - shown, axis=1, keepdims=True)
            out_NG = out_NG + hidden_N1 * apply_net(self._net(), net, xp.zeros_like(params["davg"][0:1, 0, :]), xp=xp)
        return out_NG

    # -- files ------------------------------------------------------------------------------------------------------

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[Any, Params]:
        """Return options and parameters from the stored form; DeePMD-kit passes over `type_one_side`."""
        serial.require(tree, "type_one_side", [None, True, False], "descriptor se_e2_r")
        return super().deserialize({**tree, "type_one_side": True})

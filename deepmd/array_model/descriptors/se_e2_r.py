"""se_e2_r: distances of all neighbours, no angles (DeepPot-SE, Zhang et al., NeurIPS 2018; spec core, section 6.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.networks import apply_net, init_net
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
    ndim = 1
    type_name = "se_r"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.type_one_side:
            raise ValueError("type_one_side is false; se_e2_r has one net for each type of neighbour: accepted is true")

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1], 0)

    def init(self, ntypes: int, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator (spec core, section 13.3)."""
        nets = [init_net(self.net(), None if self.seed is None else [t, self.seed], draw) for t in range(ntypes)]
        return self.with_nets(nets, draw, xp=xp)

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change."""
        return {"embeddings": self.trainable}

    def apply(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Features:
        """Features of each centre: D_i = 1/(5 S) sum_j G(s_ij) over all S slots.

        Slots beyond the widths of the batch are empty for every atom and depend on the centre type only: they are summed once per type.
        """

        def total(sections: list[Array]) -> Array:
            terms = [xp.sum(apply_net(self.net(), net, s, xp=xp), axis=1) for net, s in zip(params["embeddings"], sections, strict=True)]
            return sum(terms[1:], terms[0])

        d_ND = total(self.rows(params, pairs, xp=xp)) + xp.take(total(self.rest(params, pairs)), pairs.type_N, axis=0)
        return Features(xp.astype(d_ND / (SCALE * float(sum(self.slots))), xp.float64), None)

    def extra_keys(self) -> dict[str, Any]:
        """Return the keys of this kind."""
        return {"type_one_side": True, "spin": None}

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[Any, Params]:
        """Return options and parameters from the stored form."""
        serial.require(tree, "type_one_side", [None, True], "descriptor se_e2_r")
        return super().deserialize(tree)

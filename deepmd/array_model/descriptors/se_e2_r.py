"""se_e2_r: distances of all neighbours, no angles (DeepPot-SE, Zhang et al., NeurIPS 2018; spec core, section 6.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial, spectral
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.environment import environment_adjoint, environment_columns, without_excluded
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import apply_net, init_net
from deepmd.array_model.pairs import Pairs
from deepmd.array_model.registry import register

SCALE = 5.0
"""DeePMD-kit divides by it, and files mean numbers that are divided by it."""


@register("descriptor", "se_e2_r", aliases=("se_r",))
@dataclass(frozen=True)
class SeE2R(Sectioned, Expandable):
    """Options of the descriptor. Its nets belong to the type of the neighbour alone, so that `type_one_side` cannot be false."""

    type_one_side: bool = True
    evaluation: str | int = "auto"
    """How the embedding nets are evaluated (see `se_e2_a`)."""

    columns = 1
    type_name = "se_r"
    stored = ("type_one_side",)

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
        nets = [init_net(self._net(), None if self.seed is None else [t, self.seed], draw) for t in range(ntypes)]
        return {**self.no_statistics(ntypes, draw, xp=xp), "embeddings": nets}

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
        scale, disp_NM3 = params["tables"]["scale"], xp.astype(pairs.disp_NM3, dtype_of(self.precision, xp=xp))
        switched = self.rcut_smth, self.rcut, self.env_protection
        one_NM1 = xp.ones_like(disp_NM3[:, :, 0:1])
        shown_N1M = xp.matrix_transpose(without_excluded(one_NM1, pairs, self.exclude_types, xp=xp))
        rest_1J = xp.concat([xp.sum(xp.ones_like(rest[0:1, :, 0]), axis=1, keepdims=True) for rest in self.rest(params, pairs)], axis=1)
        both = [self._expansion(params, centre, xp=xp) for centre in range(len(self.slots))]
        how = pairs.widths, pairs.counts, [coefficients for coefficients, _ in both], int(self.evaluation)

        def differentiated(disp_NM3: Array) -> tuple[Array, Any]:
            rows_N4M, to_disp = environment_adjoint(disp_NM3, *switched, xp=xp)
            x_NM = spectral.abscissa(rows_N4M[:, 0, :], scale)
            sums_N1G, to_rows = spectral.contracted_adjoint(x_NM, shown_N1M, *how, xp=xp)

            def adjoint(grad_N1G: Array) -> Array:
                radial_N1M = xp.expand_dims(to_rows(grad_N1G)[0] * scale, axis=1)
                return to_disp(xp.concat([radial_N1M, xp.zeros_like(rows_N4M[:, 1:, :])], axis=1))

            return sums_N1G, adjoint

        if xp.with_adjoint is not None:
            sums_N1G = xp.with_adjoint(differentiated, disp_NM3)
        else:
            s_NM = environment_columns(disp_NM3, *switched, xp=xp)[0]
            sums_N1G = spectral.contracted(spectral.abscissa(s_NM, scale), shown_N1M, *how, xp=xp)
        rest_TG = xp.concat([xp.matmul(rest_1J, start_JG) for _, start_JG in both], axis=0)
        out_NG = sums_N1G[:, 0, :] + xp.take(rest_TG, pairs.type_N, axis=0)
        if not self.exclude_types:
            return out_NG
        for net, shown in zip(params["embeddings"], xp.split(shown_N1M[:, 0, :], pairs.widths, axis=1), strict=True):
            hidden_N1 = xp.sum(1.0 - shown, axis=1, keepdims=True)
            out_NG = out_NG + hidden_N1 * apply_net(self._net(), net, xp.zeros_like(rest_1J[:, 0:1]), xp=xp)
        return out_NG

    # -- files ------------------------------------------------------------------------------------------------------

    def stored_parts(self, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
        """Return the nets, and no spin."""
        return {**super().stored_parts(params, type_map), "spin": None}

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[Any, Params]:
        """Return options and parameters from the stored form; DeePMD-kit passes over `type_one_side`."""
        serial.require(tree, "type_one_side", [None, True, False], "descriptor se_e2_r")
        return super().deserialize({**tree, "type_one_side": True})

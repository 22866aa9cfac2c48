"""se_e3: angles between all pairs of neighbours (three-body embedding, Wang et al., Nucl. Fusion 2022; spec core, section 6.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import spectral
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params
from deepmd.array_model.networks import apply_net, init_net
from deepmd.array_model.pairs import Pairs
from deepmd.array_model.registry import register
from deepmd.array_model.tree import map_leaves

TERMS_PER_WIDTH = 12
"""An expansion of this many terms for each neuron of a net costs what the net does."""


@register("descriptor", "se_e3", aliases=("se_at", "se_a_3be", "se_t"))
@dataclass(frozen=True)
class SeE3(Sectioned, Expandable):
    """Options of the descriptor."""

    evaluation: str | int = "auto"
    """How the embedding nets are evaluated (see `se_e2_a`)."""

    keys_of_nets = 2
    type_name = "se_e3"

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1], 0)

    def init(self, ntypes: int, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator (spec core, section 13.3). Nets that have no use are zero."""

        def net(first: int, second: int) -> Params:
            new = init_net(self._net(), None if self.seed is None else [first * ntypes + second, self.seed], draw)
            return new if first <= second else map_leaves(xp.zeros_like, new)  # type: ignore[no-any-return]

        return self.with_nets([net(first, second) for second in range(ntypes) for first in range(ntypes)], draw, xp=xp)

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change: the nets of each unordered pair of types."""
        types = range(len(self.slots))
        return {"embeddings": [self.trainable and first <= second for second in types for first in types]}

    def apply(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Features:
        """Features of each centre.

        D_i = sum_{a <= b} 1/(sel_a sel_b) sum_{j in a, k in b} t_jk G^{ab}(t_jk) over all slots, with t_jk the scalar product of the
        directional parts of the rows of j and k. Rows of empty slots differ from zero where `davg` does, so every slot is paired.
        """
        evaluate = self._spectral if isinstance(self.evaluation, int) else self._direct
        each = evaluate(params, pairs, xp=xp)
        terms = [d_ND / float(self.slots[first] * self.slots[second]) for (first, second), d_ND in each.items()]
        return Features(xp.astype(sum(terms[1:], terms[0]), xp.float64), None)

    # -- parts ------------------------------------------------------------------------------------------------------

    @property
    def _couples(self) -> list[tuple[int, int]]:
        """Unordered pairs of types of neighbours."""
        return [(first, second) for second in range(len(self.slots)) for first in range(second + 1)]

    def _present(self) -> list[tuple[int, int]]:
        """Those of them that have slots."""
        return [(first, second) for first, second in self._couples if self.slots[first] * self.slots[second]]

    def _direct(self, params: Params, pairs: Pairs, *, xp: Namespace) -> dict[tuple[int, int], Array]:
        """Sum of t G(t) over all slots (N, D) for each pair of types, every net evaluated for every pair of slots."""
        each = zip(self.rows(params, pairs, xp=xp), self.rest(params, pairs), strict=True)
        whole = [xp.concat([rows, xp.take(rest, pairs.type_N, axis=0)], axis=1)[:, :, 1:] for rows, rest in each]
        out = {}
        for first, second in self._present():
            t_NMM = xp.matmul(whole[first], xp.matrix_transpose(whole[second]))
            t_NP1 = xp.reshape(t_NMM, (-1, self.slots[first] * self.slots[second], 1))
            g_NPD = apply_net(self._net(), params["embeddings"][first + second * len(self.slots)], t_NP1, xp=xp)
            out[first, second] = xp.matmul(xp.matrix_transpose(t_NP1), g_NPD)[:, 0, :]
        return out

    def _spectral(self, params: Params, pairs: Pairs, *, xp: Namespace) -> dict[tuple[int, int], Array]:
        """Sum the same from moments; one slot with the mean and deviation of the first stands for all that no atom of the batch fills."""
        empty_T13 = -params["davg"][:, 0:1, 1:] / params["dstd"][:, 0:1, 1:]
        empty_N13 = xp.take(empty_T13, pairs.type_N, axis=0)
        whole = [xp.concat([rows[:, :, 1:], empty_N13], axis=1) for rows in self.rows(params, pairs, xp=xp)]
        counts = []
        for rows, sel in zip(whole, self.slots, strict=True):
            one_M = xp.ones_like(rows[0, :-1, 0])
            counts.append(xp.concat([one_M, float(sel) - xp.sum(one_M, axis=0, keepdims=True)], axis=0))
        contraction, out = dict(zip(self._couples, self._expansion(params, 0, xp=xp)[0], strict=True)), {}
        for first, second in self._present():
            t_NMM = xp.matmul(whole[first], xp.matrix_transpose(whole[second]))
            share_MM = xp.expand_dims(counts[first], axis=1) * counts[second]
            size = xp.shape(counts[first])[0] * xp.shape(counts[second])[0]
            t_NP, share_P = xp.reshape(t_NMM, (-1, size)), xp.reshape(share_MM, (-1,))
            moments_NK = spectral.product_moments(t_NP, share_P, params["tables"]["scale"], int(self.evaluation), xp=xp)
            out[first, second] = xp.matmul(moments_NK, contraction[first, second])
        return out

    # -- expansions: functions of the scalar product, one group for all centres ------------------------------------

    def functions(self, ntypes: int) -> tuple[int, ...]:
        """Return the number of unordered pairs of types."""
        return (len(self._couples),)

    def _obstacle(self, ntypes: int, *, stored: bool) -> str:
        if not stored and PRECISIONS[self.precision] != "float64":
            return f"the precision is {self.precision}, in which slopes of scalar products lose digits"
        return super()._obstacle(ntypes, stored=stored)

    def _values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        t_K1, nets = xp.expand_dims(s_K, axis=-1), params["embeddings"]
        return [apply_net(self._net(), nets[first + second * len(self.slots)], t_K1, xp=xp) for first, second in self._couples]

    def _reach(self, params: Params, s: float, *, xp: Namespace) -> float:
        mean_T3, std_T3 = params["davg"][:, 0, 1:], params["dstd"][:, 0, 1:]
        longest_T = (s + xp.sqrt(xp.sum(mean_T3 * mean_T3, axis=-1))) * xp.max(1.0 / std_T3, axis=1)
        return float(xp.max(longest_T * longest_T, axis=None))

    def _argument(self, x: Array, scale: Array, *, xp: Namespace) -> Array:
        return spectral.product_at(x, scale, xp=xp)

    def _pays(self, count: int) -> bool:
        return count <= TERMS_PER_WIDTH * sum(self.neuron)

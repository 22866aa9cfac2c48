"""se_e3: angles between all pairs of neighbours (docs/theory/sectioned.md#se_e3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import spectral
from deepmd.array_model.contracts import Draw, Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours, spans
from deepmd.array_model.networks import apply_net, summed_net
from deepmd.array_model.tree import map_leaves

TERMS_PER_WIDTH = 6
"""Break-even: an expansion with this many terms per neuron of a net costs as much as the net."""

BLOCKS = 4
"""Blocks of a section. Because t_jk = t_kj, only 1/2 + 1/(2 BLOCKS) of the pairs within a section are evaluated."""

Slots = tuple[Array, Array]
"""Directional parts of rows (N, M, 3), and the number of slots that each row stands for (M,)."""


@dataclass(frozen=True)
class SeE3(Sectioned):
    """Options of the descriptor."""

    kind = "se_e3"

    types_per_net = 2

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1], 0)

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; nets of pairs of types a > b are unused and 0."""
        params = super().init(type_map, draw, xp=xp)
        nets = [
            net if used else map_leaves(xp.zeros_like, net)
            for net, used in zip(params["embeddings"], self._net_is_used, strict=True)
        ]
        return {**params, "embeddings": nets}

    def flags(self) -> Any:
        """Trainable parameters: the nets of each unordered pair of types."""
        return {"embeddings": [self.trainable and used for used in self._net_is_used]}

    def apply(
        self, params: Params, neighbours: Neighbours, expansion: spectral.Expansion | None = None, *, xp: Namespace
    ) -> Features:
        """Features of each centre.

        D_i = sum_{a <= b} 1/(sel_a sel_b) sum_{j in a, k in b} t_jk G^{ab}(t_jk) over all slots, with t_jk the scalar
        product of the directional parts of the rows of j and k. Every slot counts, because rows of empty slots differ
        from 0 if `davg` does. Slots that no atom of the batch fills have equal rows, because mean and deviation agree
        in all slots: one of them stands for all.
        """
        each = (
            self._spectral(params, neighbours, expansion, xp=xp)
            if expansion
            else self._direct(params, neighbours, xp=xp)
        )
        terms = [d_ND / float(self.slots[first] * self.slots[second]) for (first, second), d_ND in each.items()]
        return Features(xp.astype(sum(terms[1:], terms[0]), xp.float64), None)

    @property
    def _net_is_used(self) -> list[bool]:
        """Whether each net is used, in the order of files (first type fastest): True for pairs of types a <= b."""
        types = range(len(self.slots))
        return [first <= second for second in types for first in types]

    @property
    def _type_pairs(self) -> list[tuple[int, int]]:
        """Unordered pairs of neighbour types."""
        return [(first, second) for second in range(len(self.slots)) for first in range(second + 1)]

    def _slots(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> list[list[Slots]]:
        """Return the directional rows of each section in `BLOCKS` blocks of equal length.

        A section has the slots of the batch, one empty slot that counts for all others of `sel`, and padding with
        count 0. What exceeds the blocks is padding, and dropped.
        """
        empty_T13 = -params["davg"][:, 0:1, 1:] / params["dstd"][:, 0:1, 1:]
        empty_NB3 = xp.concat([xp.take(empty_T13, neighbours.type_N, axis=0)] * BLOCKS, axis=1)
        out = []
        sections = zip(
            self.rows(params, neighbours, xp=xp), neighbours.widths, self.slots, spans(self.slots), strict=True
        )
        for rows_NM4, width, sel, (start, _) in sections:
            one_M, zero_1 = (
                xp.ones_like(params["davg"][0, start : start + width, 0]),
                xp.zeros_like(params["davg"][0, 0:1, 0]),
            )
            count_M = xp.concat(
                [one_M, float(sel) - xp.sum(one_M, axis=0, keepdims=True), *[zero_1] * (BLOCKS - 1)], axis=0
            )
            rows_NM3 = xp.concat([rows_NM4[:, :, 1:], empty_NB3], axis=1)
            # BLOCKS * length is at least width + 1; the remainder, at most BLOCKS - 1 entries, is padding
            length = width // BLOCKS + 1
            sizes = (*[length] * BLOCKS, width + BLOCKS - BLOCKS * length)
            out.append(
                list(zip(xp.split(rows_NM3, sizes, axis=1), xp.split(count_M, sizes, axis=0), strict=True))[:BLOCKS]
            )
        return out

    def _products(
        self, params: Params, neighbours: Neighbours, *, xp: Namespace
    ) -> dict[tuple[int, int], tuple[Array, Array]]:
        """Return {(a, b): (scalar products t (N, P) of slots, number of pairs that each stands for (P,))}."""
        slots, out = self._slots(params, neighbours, xp=xp), {}
        for first, second in (pair for pair in self._type_pairs if self.slots[pair[0]] * self.slots[pair[1]]):
            left, right = slots[first], slots[second]
            if first < second:
                sides = [(left, right)]
            else:  # t_jk = t_kj: each block times itself, and twice times the blocks behind it
                sides = [
                    ([block], [block, *((rows, 2.0 * count) for rows, count in right[k + 1 :])])
                    for k, block in enumerate(left)
                ]
            t, share = [], []
            for pair in sides:
                (a_NM3, a_M), (b_NM3, b_M) = (
                    (xp.concat([r for r, _ in side], axis=1), xp.concat([c for _, c in side], axis=0)) for side in pair
                )
                size = xp.shape(a_M)[0] * xp.shape(b_M)[0]
                t.append(xp.reshape(xp.matmul(a_NM3, xp.matrix_transpose(b_NM3)), (-1, size)))
                share.append(xp.reshape(xp.expand_dims(a_M, axis=1) * b_M, (-1,)))
            out[first, second] = xp.concat(t, axis=1), xp.concat(share, axis=0)
        return out

    def _direct(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> dict[tuple[int, int], Array]:
        """Return the sum of t G(t) over all pairs of slots (N, D) for each pair of types, by direct evaluation."""
        out = {}
        for (first, second), (t_NP, share_P) in self._products(params, neighbours, xp=xp).items():
            net = params["embeddings"][first + second * len(self.slots)]
            out[first, second] = summed_net(self.net(), net, t_NP, t_NP * share_P, xp=xp)
        return out

    def _spectral(
        self, params: Params, neighbours: Neighbours, expansion: spectral.Expansion, *, xp: Namespace
    ) -> dict[tuple[int, int], Array]:
        """Return the sum of t G(t) over all pairs of slots (N, D) for each pair of types, from moments."""
        contraction, out = (
            dict(zip(self._type_pairs, self.contractions(params, expansion, 0, xp=xp)[0], strict=True)),
            {},
        )
        for pair, (t_NP, share_P) in self._products(params, neighbours, xp=xp).items():
            moments_NK = spectral.product_moments(t_NP, share_P, expansion.tables["scale"], expansion.terms, xp=xp)
            out[pair] = xp.matmul(moments_NK, contraction[pair])
        return out

    # -- expansions: functions of the scalar product, one group for all centre types -------------------------------

    def functions(self, ntypes: int) -> tuple[int, ...]:
        """Return the number of unordered pairs of types."""
        return (len(self._type_pairs),)

    def obstacle(self, ntypes: int, *, auto: bool, stored: bool) -> str:
        """Return the reason not to expand: precision; "" if expanding is fine."""
        if not stored and PRECISIONS[self.precision] != "float64":
            return f"the precision is {self.precision}, in which slopes of scalar products lose digits"
        return super().obstacle(ntypes, auto=auto, stored=stored)

    def values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        """Functions of all pairs of types, (K, G) each, at scalar products s_K."""
        t_K1, nets = xp.expand_dims(s_K, axis=-1), params["embeddings"]
        return [
            apply_net(self.net(), nets[first + second * len(self.slots)], t_K1, xp=xp)
            for first, second in self._type_pairs
        ]

    def domain_end(self, params: Params, s: float, *, xp: Namespace) -> float:
        """Return a bound of scalar products if s is the largest radial part: ((s + |mean|) max(1 / deviation))^2."""
        mean_T3, std_T3 = params["davg"][:, 0, 1:], params["dstd"][:, 0, 1:]
        longest_T = (s + xp.sqrt(xp.sum(mean_T3 * mean_T3, axis=-1))) * xp.max(1.0 / std_T3, axis=1)
        return float(xp.max(longest_T * longest_T, axis=None))

    def argument(self, x: Array, scale: Array, *, xp: Namespace) -> Array:
        """Return the scalar product at an abscissa."""
        return spectral.product_at(x, scale, xp=xp)

    def is_cheaper(self, count: int) -> bool:
        """Break-even: True if an expansion of `count` terms costs less than the nets."""
        return count <= TERMS_PER_WIDTH * sum(self.neuron)

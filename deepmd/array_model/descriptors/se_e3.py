"""se_e3: angles between all pairs of neighbours (three-body embedding, Wang et al., Nucl. Fusion 2022; spec core, section 6.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.namespace import Namespace, Params
from deepmd.array_model.networks import apply_net, init_net
from deepmd.array_model.pairs import Pairs
from deepmd.array_model.registry import register
from deepmd.array_model.tree import map_leaves


@register("descriptor", "se_e3", aliases=("se_at", "se_a_3be", "se_t"))
@dataclass(frozen=True)
class SeE3(Sectioned):
    """Options of the descriptor."""

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
        count = len(self.slots)
        each = zip(self.rows(params, pairs, xp=xp), self.rest(params, pairs), strict=True)
        whole = [xp.concat([rows, xp.take(rest, pairs.type_N, axis=0)], axis=1)[:, :, 1:] for rows, rest in each]
        terms = []
        for second, sel_b in enumerate(self.slots):
            for first, sel_a in enumerate(self.slots[: second + 1]):
                if not sel_a * sel_b:
                    continue
                t_NP1 = xp.reshape(xp.matmul(whole[first], xp.matrix_transpose(whole[second])), (-1, sel_a * sel_b, 1))
                g_NPD = apply_net(self._net(), params["embeddings"][first + second * count], t_NP1, xp=xp)
                terms.append(xp.matmul(xp.matrix_transpose(t_NP1), g_NPD)[:, 0, :] / float(sel_a * sel_b))
        return Features(xp.astype(sum(terms[1:], terms[0]), xp.float64), None)

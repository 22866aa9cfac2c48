"""se_e3_tebd: angles between all pairs of neighbours, whose types are embedded (docs/theory/mixed.md#se_e3_tebd)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.contracts import Features, Widths
from deepmd.array_model.descriptors.mixed import Mixed
from deepmd.array_model.namespace import Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.networks import apply_net


@dataclass(frozen=True)
class SeE3Tebd(Mixed):
    """Options of the descriptor."""

    kind = "se_e3_tebd"

    use_tebd_bias: bool = True
    smooth: bool = True

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1] + (self.tebd_dim if self.concat_output_tebd else 0), 0)

    def apply(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Features:
        """Features of each centre.

        D_i = 1/S^2 sum_jk t_jk G(t_jk, e_j, e_k) over all ordered pairs of the S slots. t_jk is the scalar product of
        the directional parts of the rows of j and k, e_j the type vector of j. In strip mode G = Gs(t_jk)
        (1 + w_j w_k Gt(e_j, e_k)) with the switch w if `smooth`, otherwise w = 1 (docs/theory/mixed.md#se_e3_tebd).
        """
        rows = self.rows(params, neighbours, xp=xp)
        table_TE = self.type_embedding().table(params["type_embedding"], xp=xp)
        rows_NM3 = rows.rows_NM4[:, :, 1:]
        t_NMM = xp.matmul(rows_NM3, xp.matrix_transpose(rows_NM3))
        # t_jk times the number of slots that j and k stand for
        weighted_NM3 = rows_NM3 * xp.expand_dims(rows.count_NM, axis=-1)
        weight_NMM = xp.matmul(weighted_NM3, xp.matrix_transpose(weighted_NM3))
        t_P1, types = xp.reshape(t_NMM, (-1, 1)), len(neighbours.counts) + 1  # the table ends with a vector for no atom
        pair_Q = xp.reshape(xp.expand_dims(rows.type_NM * types, axis=2) + xp.expand_dims(rows.type_NM, axis=1), (-1,))
        pairs_QE = self.concat_type_vectors(table_TE, xp=xp)
        nets, (weights,) = self.nets(), params["embeddings"]
        if self.tebd_input_mode == "concat":
            g_PD = apply_net(
                nets["embeddings"], weights, xp.concat([t_P1, xp.take(pairs_QE, pair_Q, axis=0)], axis=1), xp=xp
            )
        else:
            g_PD = apply_net(nets["embeddings"], weights, t_P1, xp=xp)
            gate_PD = xp.take(
                apply_net(nets["embeddings_strip"], params["embeddings_strip"][0], pairs_QE, xp=xp), pair_Q, axis=0
            )
            if self.smooth:
                w_N1M = xp.expand_dims(rows.switch_NM, axis=1)
                gate_PD = gate_PD * xp.reshape(xp.matrix_transpose(w_N1M) * w_N1M, (-1, 1))
            g_PD = g_PD * (1.0 + gate_PD)
        g_NMMD = xp.reshape(g_PD, (*xp.shape(weight_NMM), self.neuron[-1]))
        d_ND = (
            xp.sum(xp.sum(xp.expand_dims(weight_NMM, axis=-1) * g_NMMD, axis=2), axis=1) / float(sum(self.slots)) ** 2
        )
        parts = [d_ND, xp.take(table_TE, neighbours.type_N, axis=0)] if self.concat_output_tebd else [d_ND]
        return Features(xp.astype(xp.concat(parts, axis=1), xp.float64), None)

"""se_atten (DPA-1) and se_atten_v2: type embeddings and attention (docs/theory/mixed.md#se_atten)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model import spectral
from deepmd.array_model.attention import GatedAttention, unit
from deepmd.array_model.contracts import Draw, Features, Widths
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.descriptors.mixed import Mixed, Rows
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.networks import apply_net

WIDTH_PER_TYPE = 16
"""Break-even of expansions: nets cost less if this times the number of types exceeds the sum of `neuron`.

The cost of an expansion grows with the number of types, because each neighbour type has its own moments.
"""


@dataclass(frozen=True)
class SeAtten(Mixed, Expandable):
    """Options of the descriptor.

    `sel` is the number of slots for neighbours of all types; a list is summed.
    """

    kind = "se_atten"

    axis_neuron: int = 4
    attn: int = 128
    attn_layer: int = 2
    attn_dotr: bool = True
    attn_mask: bool = False
    smooth_type_embedding: bool = False
    normalize: bool = True
    temperature: float | None = None
    scaling_factor: float = 1.0
    trainable_ln: bool = True
    ln_eps: float | None = None
    type_one_side: bool = False
    stripped_type_embedding: bool | None = None
    """Deprecated: `tebd_input_mode` "strip"."""
    lmax: int = 1
    evaluation: str | int = "auto"
    """Requested evaluation of the embedding nets (see `Sectioned`); attention layers need direct evaluation."""

    fixed: ClassVar[dict[str, Any]] = {}
    """Options whose value the kind fixes."""
    aliases = {"n_axis_neuron": "axis_neuron", "n_neuron": "neuron", "smooth_type_embdding": "smooth_type_embedding"}

    def __post_init__(self) -> None:
        if self.stripped_type_embedding is not None:
            object.__setattr__(
                self, "tebd_input_mode", "strip" if self.stripped_type_embedding else self.tebd_input_mode
            )
            object.__setattr__(self, "stripped_type_embedding", None)
        super().__post_init__()
        if not 1 <= self.axis_neuron <= self.neuron[-1]:
            raise ValueError(
                f"axis_neuron is {self.axis_neuron}: needs 1 <= axis_neuron <= neuron[-1], "
                f"and neuron is {list(self.neuron)}"
            )
        if self.attn < 1 or self.attn_layer < 0:
            raise ValueError(f"attn is {self.attn}, attn_layer {self.attn_layer}: needs a positive width, layers >= 0")
        if self.scaling_factor <= 0.0 or (self.ln_eps is not None and self.ln_eps <= 0.0):
            raise ValueError("scaling_factor and ln_eps must be positive")
        for name, value in {"attn_mask": False, "lmax": 1, **self.fixed}.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)!r}; accepted: {value!r}")

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(
            self.neuron[-1] * self.axis_neuron + (self.tebd_dim if self.concat_output_tebd else 0), self.neuron[-1]
        )

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator (docs/theory/networks.md#fresh-weights)."""
        return {
            **super().init(type_map, draw, xp=xp),
            "attention": self.attention().init(self.seeds(2, 0), draw, xp=xp),
        }

    def flags(self) -> Any:
        """Trainable parameters: all, the layer norms only with `trainable_ln`."""
        return self.trainable and (self.trainable_ln or ("norm",))

    def apply(
        self, params: Params, neighbours: Neighbours, expansion: spectral.Expansion | None = None, *, xp: Namespace
    ) -> Features:
        """Features of each centre: D_i = g_i g_i^T cut to `axis_neuron` columns, g_i = (1/S) sum_j G_ij (x) R_ij.

        Empty slots contribute, with the type of atom 0 of the frame. The last slot of a row counts for all slots that
        are not stored (docs/theory/mixed.md#se_atten).
        """
        rows = self.rows(params, neighbours, xp=xp)
        sum_N4G = (
            self._spectral(params, neighbours, rows, expansion, xp=xp)
            if expansion
            else self._direct(params, neighbours, rows, xp=xp)
        )
        g_NG4 = xp.matrix_transpose(sum_N4G / float(sum(self.slots)))
        d_NGX = xp.matmul(g_NG4, xp.matrix_transpose(g_NG4[:, : self.axis_neuron, :]))
        invariant_ND = xp.reshape(d_NGX, (-1, self.neuron[-1] * self.axis_neuron))
        if self.concat_output_tebd:
            invariant_ND = xp.concat(
                [invariant_ND, xp.take(self._vectors(params, xp=xp), neighbours.type_N, axis=0)], axis=1
            )
        return Features(
            invariant_ND=xp.astype(invariant_ND, xp.float64), equivariant_NG3=xp.astype(g_NG4[:, :, 1:], xp.float64)
        )

    @property
    def num_types_read(self) -> int:
        """Number of types whose vectors the nets read."""
        return 1 if self.type_one_side else 2

    def attention(self) -> GatedAttention:
        """Options of the attention layers."""
        same = {
            name: getattr(self, name)
            for name in ("normalize", "temperature", "scaling_factor", "trainable_ln", "precision")
        }
        sizes = self.attn_layer, self.neuron[-1], self.attn, sum(self.slots)
        return GatedAttention(
            *sizes,
            dotr=self.attn_dotr,
            smooth=self.smooth_type_embedding,
            ln_eps=1e-5 if self.ln_eps is None else self.ln_eps,
            **same,
        )

    def _vectors(self, params: Params, *, xp: Namespace) -> Array:
        """Vector of each type (T, E)."""
        return self.type_embedding().table(params["type_embedding"], xp=xp)[: xp.shape(params["davg"])[0], :]

    def _direct(self, params: Params, neighbours: Neighbours, rows: Rows, *, xp: Namespace) -> Array:
        """Return sum_j R_j (x) G_j over all slots (N, 4, G), with the nets evaluated for every slot."""
        types_TE, pair_NM, rows_NM4, gate_NM = (
            self._vectors(params, xp=xp),
            rows.type_NM,
            rows.rows_NM4,
            rows.switch_NM,
        )
        if not self.type_one_side:  # row of `concat_type_vectors`: neighbour T + centre
            pair_NM = pair_NM * xp.shape(types_TE)[0] + xp.expand_dims(neighbours.type_N, axis=-1)
        if not self.smooth_type_embedding:
            gate_NM = xp.astype(rows.seen_NM, dtype_of(self.precision, xp=xp))
        g_NMG = self._embed(
            params, rows_NM4[:, :, 0:1], self.concat_type_vectors(types_TE, xp=xp), pair_NM, gate_NM, xp=xp
        )
        if self.attn_layer:
            g_NMG = self.attention().apply(
                params["attention"],
                g_NMG,
                unit(rows_NM4[:, :, 1:], self.precision, xp=xp),
                gate_NM,
                rows.count_NM,
                xp=xp,
            )
        return xp.matmul(xp.matrix_transpose(rows_NM4 * xp.expand_dims(rows.count_NM, axis=-1)), g_NMG)

    def _embed(
        self, params: Params, s_NM1: Array, vectors_PE: Array, pair_NM: Array, gate_NM: Array, *, xp: Namespace
    ) -> Array:
        """Output of the embedding nets for each slot (N, M, G)."""

        def of_pairs(table: Array, width: int) -> Array:
            return xp.reshape(xp.take(table, xp.reshape(pair_NM, (-1,)), axis=0), (*xp.shape(pair_NM), width))

        nets = self.nets()
        if self.tebd_input_mode == "concat":
            x_NMK = xp.concat([s_NM1, of_pairs(vectors_PE, xp.shape(vectors_PE)[1])], axis=-1)
            return apply_net(nets["embeddings"], params["embeddings"][0], x_NMK, xp=xp)
        g_NMG = apply_net(nets["embeddings"], params["embeddings"][0], s_NM1, xp=xp)
        t_NMG = of_pairs(
            apply_net(nets["embeddings_strip"], params["embeddings_strip"][0], vectors_PE, xp=xp), self.neuron[-1]
        )
        return g_NMG * (1.0 + (t_NMG * xp.expand_dims(gate_NM, axis=-1) if self.smooth_type_embedding else t_NMG))

    # -- expansions: without attention layers, functions of s for each pair of types --------------------------------

    def functions(self, ntypes: int) -> tuple[int, ...]:
        """Return the number of functions of each centre type: one per neighbour type, and a common one if gated."""
        return (ntypes + self._gated,) * ntypes

    @property
    def _gated(self) -> bool:
        """Whether the switch scales the strip net: G_s = Net(x_s) + w_s Net(x_s) StripNet."""
        return self.tebd_input_mode == "strip" and self.smooth_type_embedding

    def obstacle(self, ntypes: int, *, auto: bool, stored: bool) -> str:
        """Return the reason not to expand: attention layers, or under `auto` a higher cost; "" if expanding is fine."""
        if self.attn_layer:
            return "attention layers need the nets of every neighbour"
        if auto and ntypes * WIDTH_PER_TYPE > sum(self.neuron):
            return f"for {ntypes} types the nets themselves cost less"
        return super().obstacle(ntypes, auto=auto, stored=stored)

    def values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        """Functions of a centre type, (K, G) each, at values of s before normalisation."""
        types_TE, nets = self._vectors(params, xp=xp), self.nets()
        vectors_TE = self.concat_type_vectors(types_TE, xp=xp)
        if not self.type_one_side:
            vectors_TE = xp.reshape(vectors_TE, (-1, *xp.shape(types_TE)[:1], 2 * self.tebd_dim))[:, centre, :]
        s_K1 = self._normalise(params, centre, s_K, xp=xp)
        if self.tebd_input_mode == "concat":
            # [s, e_neighbour, e_centre] of all pairs of types and nodes, (T, K, 1 + E)
            s_1K1, vectors_T1E = xp.expand_dims(s_K1, axis=0), xp.expand_dims(vectors_TE, axis=1)
            x_TKE = xp.concat(
                [s_1K1 + xp.zeros_like(vectors_T1E[:, :, 0:1]), vectors_T1E + xp.zeros_like(s_1K1)], axis=-1
            )
            g_TKG = apply_net(nets["embeddings"], params["embeddings"][0], x_TKE, xp=xp)
            return [g_TKG[neighbour, :, :] for neighbour in range(xp.shape(types_TE)[0])]
        g_KG = apply_net(nets["embeddings"], params["embeddings"][0], s_K1, xp=xp)
        gates_TG = apply_net(nets["embeddings_strip"], params["embeddings_strip"][0], vectors_TE, xp=xp)
        gates = [gates_TG[neighbour, :] for neighbour in range(xp.shape(types_TE)[0])]
        return [g_KG, *(g_KG * gate for gate in gates)] if self._gated else [g_KG * (1.0 + gate) for gate in gates]

    def _spectral(
        self, params: Params, neighbours: Neighbours, rows: Rows, expansion: spectral.Expansion, *, xp: Namespace
    ) -> Array:
        """Return sum_j R_j (x) G_j over all slots (N, 4, G) from the moments of each neighbour type.

        Rows of other types have weight 0 there. Gated functions weigh rows with the switch: empty slots vanish.
        """
        weights = [rows.count_NM] if self._gated else []
        for neighbour in range(len(neighbours.counts)):
            here_NM = xp.astype(xp.equal(rows.type_NM, neighbour), dtype_of(self.precision, xp=xp))
            weights.append(here_NM * (rows.switch_NM if self._gated else rows.count_NM))
        # weights of J functions times 4 columns of R, (N, 4 J, M): products with the polynomials give all moments
        rows_N41M = xp.expand_dims(xp.matrix_transpose(rows.rows_NM4), axis=2)
        rows_NCM = xp.reshape(
            rows_N41M * xp.expand_dims(xp.stack(weights, axis=1), axis=1),
            (-1, 4 * len(weights), *xp.shape(rows.s_NM)[1:]),
        )
        x_NM = spectral.abscissa(rows.s_NM, expansion.tables["scale"])
        moments_NCK = spectral.moments(x_NM, rows_NCM, expansion.terms, xp=xp)
        moments_N4K = xp.reshape(moments_NCK, (-1, 4, len(weights) * 2 * expansion.terms))
        parts = []
        for centre, part in enumerate(xp.split(moments_N4K, neighbours.counts, axis=0)):
            stored = expansion.tables.get("coefficients")
            c_KG = (
                stored[centre] if stored else xp.concat(self.contractions(params, expansion, centre, xp=xp)[0], axis=0)
            )
            parts.append(xp.matmul(part, c_KG))
        return xp.concat(parts, axis=0)


@dataclass(frozen=True)
class SeAttenV2(SeAtten):
    """se_atten with types in a net of their own, smooth at the cutoff."""

    kind = "se_atten_v2"

    tebd_input_mode: str = "strip"
    set_davg_zero: bool = False
    smooth_type_embedding: bool = True

    fixed = {"tebd_input_mode": "strip", "smooth_type_embedding": True}

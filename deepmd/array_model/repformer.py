"""Repformer block of DPA-2: updates of nodes g1, pairs g2 and vectors h (docs/theory/dpa2.md#repformer-layer)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from deepmd.array_model.attention import SHIFT, layer_norm, presence
from deepmd.array_model.contracts import STRICT
from deepmd.array_model.messages import add_updates, affine, check_updates, symmetrise, take_features
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours, slot_counts
from deepmd.array_model.networks import activation


@dataclass(frozen=True)
class Repformer:
    """Options of the block; `nsel` is a number once neighbour statistics have resolved "auto"."""

    rcut: float
    rcut_smth: float
    nsel: int | str
    nlayers: int = 3
    g1_dim: int = 128
    g2_dim: int = 16
    axis_neuron: int = 4
    direct_dist: bool = False
    update_g1_has_conv: bool = True
    update_g1_has_drrd: bool = True
    update_g1_has_grrg: bool = True
    update_g1_has_attn: bool = True
    update_g2_has_g1g1: bool = True
    update_g2_has_attn: bool = True
    update_h2: bool = False
    attn1_hidden: int = 64
    attn1_nhead: int = 4
    attn2_hidden: int = 16
    attn2_nhead: int = 4
    attn2_has_gate: bool = False
    activation_function: str = "tanh"
    update_style: str = "res_avg"
    update_residual: float = 0.001
    update_residual_init: str = "norm"
    set_davg_zero: bool = True
    trainable_ln: bool = True
    use_sqrt_nnei: bool = True
    g1_out_conv: bool = True
    g1_out_mlp: bool = True
    ln_eps: float | None = None

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        activation(self.activation_function)
        if not 0.0 <= self.rcut_smth < self.rcut:
            raise ValueError(f"rcut_smth ({self.rcut_smth}) must lie in [0, rcut), and rcut is {self.rcut}")
        sizes = (
            self.nlayers,
            self.g1_dim,
            self.g2_dim,
            self.attn1_hidden,
            self.attn1_nhead,
            self.attn2_hidden,
            self.attn2_nhead,
        )
        if min(sizes) < 1 or (isinstance(self.nsel, int) and self.nsel < 1):
            raise ValueError("nsel, nlayers, g1_dim, g2_dim, hidden widths and numbers of heads must be positive")
        if not 1 <= self.axis_neuron <= min(self.g1_dim, self.g2_dim):
            raise ValueError(f"axis_neuron ({self.axis_neuron}) must lie in [1, min(g1_dim, g2_dim)]")
        check_updates(self)
        if not self.node_inputs:
            raise ValueError(
                "nothing updates the nodes: with g1_out_mlp one of "
                "update_g1_has_conv (without g1_out_conv), _grrg, _drrd is needed"
            )

    @property
    def node_inputs(self) -> dict[str, int]:
        """Parts of X, the input of `linear1`, and their widths, in order (docs/theory/dpa2.md#repformer-layer)."""
        parts = {
            "self": 0 if self.g1_out_mlp else self.g1_dim,
            "conv": self.g2_dim if self.update_g1_has_conv and not self.g1_out_conv else 0,
            "grrg": self.axis_neuron * self.g2_dim if self.update_g1_has_grrg else 0,
            "drrd": self.axis_neuron * self.g1_dim if self.update_g1_has_drrd else 0,
        }
        return {name: width for name, width in parts.items() if width}

    @property
    def has_map(self) -> bool:
        """Whether layers have the attention of pairs."""
        return self.update_g2_has_attn or self.update_h2

    def affine_shapes(self, last: bool) -> dict[str, tuple[int, int, bool]]:
        """(in, out, has a bias) of the affine maps of a layer, by their path in the parameters of the layer.

        The last layer does not update pairs and vectors.
        """
        d1, d2, h1, h2 = self.g1_dim, self.g2_dim, self.attn1_nhead, self.attn2_nhead
        out = {"linear1": (sum(self.node_inputs.values()), d1, True)}
        if self.g1_out_mlp:
            out["g1_self_mlp"] = (d1, d1, True)
        if self.update_g1_has_conv:
            out["proj_g1g2"] = (d2, d1, False) if self.g1_out_conv else (d1, d2, False)
        if self.update_g1_has_attn:
            out["loc_attn/mapq"] = (d1, self.attn1_hidden * h1, False)
            out["loc_attn/mapkv"] = (d1, (self.attn1_hidden + d1) * h1, False)
            out["loc_attn/head_map"] = (d1 * h1, d1, True)
        if last:
            return out
        out["linear2"] = (d2, d2, True)
        if self.update_g2_has_g1g1:
            out["proj_g1g1g2"] = (d1, d2, False)
        if self.has_map:
            out["attn2g_map/mapqk"] = (d2, self.attn2_hidden * 2 * h2, False)
        if self.update_g2_has_attn:
            out["attn2_mh_apply/mapv"] = (d2, d2 * h2, False)
            out["attn2_mh_apply/head_map"] = (d2 * h2, d2, True)
        if self.update_h2:
            out["attn2_ev_apply/head_map"] = (h2, 1, False)
        return out

    def residuals(self, last: bool) -> dict[str, list[int]]:
        """Widths of the residual factors of nodes, pairs and vectors."""
        if self.update_style != "res_residual":
            return {}
        nodes = 1 + self.g1_out_mlp + (self.update_g1_has_conv and self.g1_out_conv) + self.update_g1_has_attn
        pairs = 0 if last else 1 + self.update_g2_has_g1g1 + self.update_g2_has_attn
        return {
            "g1_residual": [self.g1_dim] * nodes,
            "g2_residual": [self.g2_dim] * pairs,
            "h2_residual": [1] if self.update_h2 and not last else [],
        }


@dataclass(frozen=True)
class Surroundings:
    """Quantities that all layers share; W counts the slots of a row.

    Attributes
    ----------
    neighbours : neighbours of the block; the last slot of a row stands for all slots of `nsel` that are not stored
    mask_NW : True for a neighbour
    s_NW : switch, 0 in empty slots
    w_NW : weights of sums over neighbours, 0 in empty slots
    sym, conv : c_sym and c_conv, numbers or (N, 1, 1)
    smooth : attention fades with the switch
    counts_NW : slots that each column stands for
    """

    neighbours: Neighbours
    mask_NW: Array
    s_NW: Array
    w_NW: Array
    sym: Any
    conv: Any
    smooth: bool
    counts_NW: Array


def apply_layers(
    block: Repformer,
    params: Params,
    g1_ND: Array,
    rows_NW4: Array,
    disp_NW3: Array,
    mask_NW: Array,
    s_NW: Array,
    smooth: bool,
    neighbours: Neighbours,
    *,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Run all layers; return node features (N, g1_dim) and equivariant features H^T (N, g2_dim, 3).

    Parameters
    ----------
    g1_ND : node features before the block
    rows_NW4, disp_NW3 : normalised environment rows, displacements (Angstrom)
    mask_NW, s_NW : True for a neighbour; switch, 0 in empty slots
    smooth : option of the descriptor
    """
    phi, total = activation(block.activation_function), float(block.nsel)
    filled_NW = xp.where(mask_NW, xp.ones_like(s_NW), xp.zeros_like(s_NW))
    if smooth:
        w_NW, sym, conv = s_NW, 1.0 / (math.sqrt(total) if block.use_sqrt_nnei else total), 1.0 / total
    else:
        count = xp.expand_dims(xp.sum(filled_NW, axis=1, keepdims=True), axis=-1)
        w_NW, conv = filled_NW, 1.0 / (1e-4 + count)
        sym = 1.0 / (1e-4 + xp.sqrt(count)) if block.use_sqrt_nnei else conv
    around = Surroundings(neighbours, mask_NW, s_NW, w_NW, sym, conv, smooth, slot_counts(s_NW, int(block.nsel), xp=xp))
    if block.direct_dist:
        y_NW1 = xp.sqrt(xp.sum(disp_NW3 * disp_NW3, axis=-1, keepdims=True)) / block.rcut
        h_NW3 = disp_NW3 / block.rcut
    else:
        y_NW1, h_NW3 = rows_NW4[:, :, 0:1], rows_NW4[:, :, 1:]
    g1_ND, g2_NWE = phi(g1_ND, xp=xp), phi(affine(params["g2_embd"], y_NW1, xp=xp), xp=xp)
    *inner, last = params["layers"]
    for layer in inner:
        g1_ND, g2_NWE, h_NW3 = _layer(block, phi, layer, g1_ND, g2_NWE, h_NW3, around, False, xp=xp)
    g1_ND, g2_NWE, h_NW3 = _layer(block, phi, last, g1_ND, g2_NWE, h_NW3, around, True, xp=xp)
    _, equivariant = symmetrise(g2_NWE, h_NW3, w_NW, sym, block.axis_neuron, xp=xp)
    return g1_ND, equivariant


def _layer(
    block: Repformer,
    phi: Any,
    layer: Params,
    g1: Array,
    g2: Array,
    h: Array,
    around: Surroundings,
    last: bool,
    *,
    xp: Namespace,
) -> tuple[Array, Array, Array]:
    """One layer; all updates read the features from the start of the layer."""
    near = take_features(g1, around.neighbours, xp=xp)
    nodes = _nodes(block, phi, layer, g1, g2, h, near, around, xp=xp)
    new_g1 = add_updates(block.update_style, g1, nodes, layer.get("g1_residual", []))
    if last:
        return new_g1, g2, h
    pairs = [phi(affine(layer["linear2"], g2, xp=xp), xp=xp)]
    weight_NW1 = xp.expand_dims(around.w_NW, axis=-1)
    if block.update_g2_has_g1g1:
        pairs.append(affine(layer["proj_g1g1g2"], weight_NW1 * xp.expand_dims(g1, axis=1) * near, xp=xp))
    directions = []
    if block.has_map:
        maps = _attention_map(block, layer["attn2g_map"], g2, h, around, xp=xp)
        if block.update_g2_has_attn:
            applied = _apply_heads(block, layer["attn2_mh_apply"], maps, g2, xp=xp)
            pairs.append(layer_norm(applied, layer["attn2_lm"], block.ln_eps or 1e-5, xp=xp))
        if block.update_h2:
            factors = layer["attn2_ev_apply"]["head_map"]["w"]
            directions.append(sum(xp.matmul(map_NWW, h) * factors[k : k + 1, :] for k, map_NWW in enumerate(maps)))
    new_g2 = add_updates(block.update_style, g2, pairs, layer.get("g2_residual", []))
    return new_g1, new_g2, add_updates(block.update_style, h, directions, layer.get("h2_residual", []))


def _nodes(
    block: Repformer,
    phi: Any,
    layer: Params,
    g1: Array,
    g2: Array,
    h: Array,
    near: Array,
    around: Surroundings,
    *,
    xp: Namespace,
) -> list[Array]:
    """Return the updates of the nodes in the order of docs/theory/dpa2.md#repformer-layer."""
    weight_NW1, out = xp.expand_dims(around.w_NW, axis=-1), []
    if block.g1_out_mlp:
        out.append(phi(affine(layer["g1_self_mlp"], g1, xp=xp), xp=xp))
    parts = {"self": g1}
    if block.update_g1_has_conv:
        if block.g1_out_conv:
            products = affine(layer["proj_g1g2"], g2, xp=xp) * near
        else:
            products = g2 * take_features(affine(layer["proj_g1g2"], g1, xp=xp), around.neighbours, xp=xp)
        # `conv` may be (N, 1, 1): multiply before the slot axis of length 1 is removed
        conv = xp.sum(xp.sum(weight_NW1 * products, axis=1, keepdims=True) * around.conv, axis=1)
        if block.g1_out_conv:
            out.append(conv)
        parts["conv"] = conv
    for name, g in (("grrg", g2), ("drrd", near)):
        if name in block.node_inputs:
            parts[name], _ = symmetrise(g, h, around.w_NW, around.sym, block.axis_neuron, xp=xp)
    joined = xp.concat([parts[name] for name in block.node_inputs], axis=1)
    out.append(phi(affine(layer["linear1"], joined, xp=xp), xp=xp))
    if block.update_g1_has_attn:
        out.append(_local_attention(block, layer["loc_attn"], g1, near, around, xp=xp))
    return out


def _heads(x: Array, width: int, heads: int, *, xp: Namespace) -> list[Array]:
    """Split (..., D heads), head index fastest, into an array (..., D) for each head; D = `width`."""
    sizes = xp.shape(x)
    return list(xp.unstack(xp.reshape(x, (*sizes[:-1], width, heads)), axis=-1))


def _attention_map(
    block: Repformer, layer: Params, g2: Array, h: Array, around: Surroundings, *, xp: Namespace
) -> list[Array]:
    """Attention of pairs AA_jk (N, W, W) of each head (docs/theory/dpa2.md#attention-of-pairs)."""
    heads = _heads(affine(layer["mapqk"], g2, xp=xp), block.attn2_hidden, 2 * block.attn2_nhead, xp=xp)
    gamma = xp.matmul(h, xp.matrix_transpose(h))
    fade = xp.expand_dims(around.s_NW, axis=2) * xp.expand_dims(around.s_NW, axis=1)
    seen = xp.expand_dims(around.mask_NW, axis=1)
    out = []
    for query, key in zip(heads[: block.attn2_nhead], heads[block.attn2_nhead :], strict=True):
        z = xp.matmul(query, xp.matrix_transpose(key)) / math.sqrt(block.attn2_hidden)
        z = z * gamma if block.attn2_has_gate else z
        out.append(_weights(z, fade, seen, around, xp=xp) * gamma / math.sqrt(3.0))
    return out


def _weights(z: Array, fade: Array, seen: Array, around: Surroundings, *, xp: Namespace) -> Array:
    """Attention weights: softmax of logits z over the last axis.

    Smooth: all slots of `nsel` are in the softmax, also those that are not stored, and weights fade with the switch.
    """
    if around.smooth:
        return xp.softmax((z + SHIFT) * fade - SHIFT + presence(xp.expand_dims(around.counts_NW, axis=1), xp=xp)) * fade
    like = xp.expand_dims(around.s_NW, axis=1)
    present = xp.where(seen, xp.ones_like(like), xp.zeros_like(like))
    return xp.softmax(z + presence(present, xp=xp)) * present


def _apply_heads(block: Repformer, layer: Params, maps: list[Array], g2: Array, *, xp: Namespace) -> Array:
    """Return O_j = sum_k AA_jk v_k, flattened with the head index fastest, mapped to (N, W, g2_dim)."""
    values = _heads(affine(layer["mapv"], g2, xp=xp), block.g2_dim, block.attn2_nhead, xp=xp)
    joined = xp.stack([xp.matmul(map_NWW, value) for map_NWW, value in zip(maps, values, strict=True)], axis=-1)
    sizes = xp.shape(g2)
    return affine(layer["head_map"], xp.reshape(joined, (*sizes[:-1], block.g2_dim * block.attn2_nhead)), xp=xp)


def _local_attention(
    block: Repformer, layer: Params, g1: Array, near: Array, around: Surroundings, *, xp: Namespace
) -> Array:
    """Attention of nodes, flattened with the head index slowest (docs/theory/dpa2.md#attention-of-nodes)."""
    hidden, out = block.attn1_hidden, []
    queries = _heads(affine(layer["mapq"], g1, xp=xp), hidden, block.attn1_nhead, xp=xp)
    keys_values = _heads(affine(layer["mapkv"], near, xp=xp), hidden + block.g1_dim, block.attn1_nhead, xp=xp)
    fade, seen = xp.expand_dims(around.s_NW, axis=1), xp.expand_dims(around.mask_NW, axis=1)
    for query, key_value in zip(queries, keys_values, strict=True):
        key, value = xp.split(key_value, (hidden, block.g1_dim), axis=2)
        z = xp.matmul(xp.expand_dims(query, axis=1), xp.matrix_transpose(key)) / math.sqrt(hidden)
        out.append(xp.sum(xp.matmul(_weights(z, fade, seen, around, xp=xp), value), axis=1))
    return affine(layer["head_map"], xp.concat(out, axis=1), xp=xp)

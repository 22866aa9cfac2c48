"""Stored forms of what several descriptors have: type embedding, attention layers, embedding of charge and spin."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from deepmd.array_model.attention import GatedAttention
from deepmd.array_model.charge_spin import TABLES, names_of
from deepmd.array_model.namespace import PRECISIONS, Params
from deepmd.array_model.networks import Net
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.kit.layouts import nets

OF_TYPES = tuple(each.name for each in fields(TypeEmbedding) if each.name != "seed")
"""Options of a type embedding that files hold."""

# -- type embedding -------------------------------------------------------------------------------------------------


def types_to_dict(types: TypeEmbedding, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    """Return the `TypeEmbedNet` dict."""
    return {
        "@class": "TypeEmbedNet",
        "@version": 2,
        "ntypes": len(type_map),
        "padding": True,
        **nets.options_to_dict(types, OF_TYPES),
        "type_map": list(type_map),
        "embedding": nets.net_to_dict(
            types.net(len(type_map)), params, types.precision, [types.trainable] * len(types.neuron)
        ),
    }


def types_from_dict(tree: dict[str, Any], type_map: tuple[str, ...]) -> tuple[TypeEmbedding, Params]:
    """Return options and parameters."""
    what = "type embedding"
    nets.check_version(tree, 2, what)
    nets.require(tree, "padding", [None, True], what)
    types = TypeEmbedding(**{"use_tebd_bias": True, **nets.options_from_dict(tree, {name: name for name in OF_TYPES})})
    params = nets.net_from_dict(types.net(len(type_map)), tree["embedding"], what)
    return types, {**params, "inputs": types.inputs(type_map)}


# -- charge and spin ------------------------------------------------------------------------------------------------


def charge_spin_to_dict(embedding: TypeEmbedding, params: Params) -> dict[str, Any]:
    """Return the stored forms by their keys in that of the descriptor."""
    tables = {
        name: {**types_to_dict(embedding, params[name], names_of(limits)), "type_map": None}
        for name, limits in TABLES.items()
    }
    return {**tables, "mix_cs_mlp": nets.layer_to_dict(params["mix_cs_mlp"], embedding.precision, embedding.trainable)}


def charge_spin_from_dict(tree: dict[str, Any], what: str) -> Params:
    """Return the parameters from the stored form of a descriptor."""
    tables = {name: types_from_dict(tree[name], names_of(limits))[1] for name, limits in TABLES.items()}
    return {**tables, "mix_cs_mlp": nets.affine_from_dict(tree["mix_cs_mlp"], f"{what}, mix_cs_mlp")}


# -- attention ------------------------------------------------------------------------------------------------------


def attention_to_dict(attention: GatedAttention, params: list[Params], trainable: bool) -> dict[str, Any]:
    """Return the `NeighborGatedAttention` dict."""

    def keys(*names: str) -> dict[str, Any]:
        """Return the keys that the stack, a layer and its inner part share, then those of `names`."""
        common = {
            "nnei": attention.slots,
            "embed_dim": attention.width,
            "hidden_dim": attention.hidden,
            "dotr": attention.dotr,
            "do_mask": False,
        }
        options = {name: getattr(attention, name) for name in ("scaling_factor", "normalize", "temperature", *names)}
        return {**common, **options, "precision": PRECISIONS[attention.precision]}

    outer, layers = keys("trainable_ln", "ln_eps"), []
    for layer in params:
        maps = {
            name: nets.net_to_dict(net, layer[name], attention.precision, [trainable])["layers"][0]
            for name, net in attention.nets.items()
        }
        inner = {**keys("smooth"), "num_heads": 1, "bias": True, **maps}
        norm = nets.layer_norm_to_dict(layer["norm"], attention.ln_eps, attention.trainable_ln, attention.precision)
        layers.append({**outer, "attention_layer": inner, "attn_layer_norm": norm})
    return {
        "@class": "NeighborGatedAttention",
        "@version": 1,
        "layer_num": attention.layers,
        **outer,
        "attention_layers": layers,
    }


def attention_from_dict(attention: GatedAttention, tree: dict[str, Any], what: str) -> list[Params]:
    """Return the parameters after checking that the stored layers are those that the options describe."""
    nets.check_version(tree, 1, what)
    nets.require(tree, "layer_num", [len(tree["attention_layers"])], what)
    nets.require(tree, "layer_num", [attention.layers], what)
    out = []
    for number, layer in enumerate(tree["attention_layers"]):
        inner, where = layer["attention_layer"], f"{what}, layer {number}"
        for key, value in (("num_heads", 1), ("do_mask", False), ("bias", True), ("smooth", attention.smooth)):
            nets.require(inner, key, [value], where)
        maps = {
            name: nets.net_from_dict(net, {**_around(net), "layers": [inner[name]]}, where)
            for name, net in attention.nets.items()
        }
        out.append({**maps, "norm": dict(layer["attn_layer_norm"]["@variables"])})
    return out


def _around(net: Net) -> dict[str, Any]:
    """Return the keys of a stored net around its layers."""
    return {"@version": 1, "in_dim": net.in_dim, "neuron": []}

"""The stored form of DPA-2 (docs/layouts.md#dpa-2)."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from deepmd.array_model.attention import SHIFT
from deepmd.array_model.descriptors.dpa2 import Dpa2, Repinit
from deepmd.array_model.descriptors.mixed import Mixed
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Params
from deepmd.array_model.repformer import Repformer
from deepmd.kit.layouts import nets, parts

WHAT = "descriptor dpa2"

OF_LAYERS = (
    *(
        "rcut",
        "rcut_smth",
        "g1_dim",
        "g2_dim",
        "axis_neuron",
        "update_g1_has_conv",
        "update_g1_has_drrd",
        "update_g1_has_grrg",
    ),
    *(
        "update_g1_has_attn",
        "attn1_hidden",
        "attn1_nhead",
        "attn2_hidden",
        "attn2_nhead",
        "attn2_has_gate",
        "activation_function",
    ),
    *("update_style", "trainable_ln", "use_sqrt_nnei", "g1_out_conv", "g1_out_mlp", "ln_eps"),
)
"""Options of the repformer that every stored layer repeats."""

OF_PAIRS = ("update_g2_has_g1g1", "update_g2_has_attn", "update_h2")
"""Options that are off in the last layer."""


def _starts(config: Dpa2) -> dict[str, Mixed]:
    """Return the parts before the repformer by the names of their parameters."""
    return {"repinit": config.pair, **({"three_body": config.three} if config.three else {})}


NAMES = {"repinit": "repinit_variable", "three_body": "repinit_three_body_variable"}


def to_dict(config: Dpa2, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    """Return the stored form of options and parameters."""
    precision, flag, ntypes = PRECISIONS[config.precision], config.trainable, len(type_map)
    block = asdict(config.repformer)
    block["ln_eps"] = 1e-5 if block["ln_eps"] is None else block["ln_eps"]
    starts: dict[str, Any] = {}
    for name, part in _starts(config).items():
        stored = params[name]
        starts[NAMES[name]] = {
            **{key: nets.embedding(net, stored[key][0], precision, flag, ntypes) for key, net in part.shapes().items()},
            "env_mat": nets.environment(part),
            "@variables": {"davg": stored["davg"], "dstd": stored["dstd"]},
        }
    own = params["repformers"]
    layers = [
        _layer_to_dict(config, block, layer, last, ntypes)
        for layer, last in zip(own["layers"], config.last, strict=True)
    ]
    repformers = {
        "g2_embd": nets.layer_to_dict(own["g2_embd"], precision, flag),
        "repformer_layers": layers,
        "env_mat": nets.environment(config.repformer),
        "@variables": {"davg": own["davg"], "dstd": own["dstd"]},
    }
    shape = {"@class": "Identity", "@version": 1}
    if "g1_shape_tranform" in params:
        shape = nets.layer_to_dict(params["g1_shape_tranform"], precision, flag)
    added = (
        {"tebd_transform": nets.layer_to_dict(params["tebd_transform"], precision, flag)}
        if config.add_tebd_to_repinit_out
        else {}
    )
    return {
        "@class": "Descriptor",
        "type": "dpa2",
        "@version": 3,
        "ntypes": ntypes,
        "repinit_args": asdict(config.repinit),
        "repformer_args": block,
        "concat_output_tebd": config.concat_output_tebd,
        "precision": precision,
        "smooth": config.smooth,
        "exclude_types": [list(pair) for pair in config.exclude_types],
        "env_protection": config.env_protection,
        "trainable": flag,
        "add_tebd_to_repinit_out": config.add_tebd_to_repinit_out,
        "use_econf_tebd": config.use_econf_tebd,
        "use_tebd_bias": config.use_tebd_bias,
        "type_map": list(type_map),
        "type_embedding": parts.types_to_dict(config.types(), params["type_embedding"], type_map),
        "g1_shape_tranform": shape,
        **added,
        **starts,
        "repformers_variable": repformers,
    }


def _headers(block: Repformer, smooth: bool, precision: str) -> dict[str, dict[str, Any]]:
    """Keys of the parts of a layer besides their maps."""
    heads = {"input_dim": block.g2_dim, "head_num": block.attn2_nhead, "precision": precision}
    soft = {"smooth": smooth, "attnw_shift": SHIFT}
    return {
        "attn2g_map": {
            "@class": "Atten2Map",
            "@version": 1,
            **heads,
            "hidden_dim": block.attn2_hidden,
            "has_gate": block.attn2_has_gate,
            **soft,
        },
        "attn2_mh_apply": {"@class": "Atten2MultiHeadApply", "@version": 1, **heads},
        "attn2_ev_apply": {"@class": "Atten2EquiVarApply", "@version": 1, **heads},
        "loc_attn": {
            "@class": "LocalAtten",
            "@version": 1,
            "input_dim": block.g1_dim,
            "hidden_dim": block.attn1_hidden,
            "head_num": block.attn1_nhead,
            **soft,
            "precision": precision,
        },
    }


def _layer_to_dict(config: Dpa2, options: dict[str, Any], params: Params, last: bool, ntypes: int) -> dict[str, Any]:
    block, precision = config.repformer, PRECISIONS[config.precision]
    headers, maps = _headers(block, config.smooth, precision), dict[str, Any]()
    for path in block.shapes(last):
        *outer, name = path.split("/")
        source = params[outer[0]][name] if outer else params[name]
        place = maps.setdefault(outer[0], dict(headers[outer[0]])) if outer else maps
        place[name] = nets.layer_to_dict(source, precision, config.trainable)
    if "attn2_lm" in params:
        maps["attn2_lm"] = nets.layer_norm_to_dict(params["attn2_lm"], options["ln_eps"], block.trainable_ln, precision)
    factors = {"@variables": {name: params[name] for name in block.residuals(last)}} if block.residuals(last) else {}
    return {
        "@class": "RepformerLayer",
        "@version": 2,
        **{name: options[name] for name in OF_LAYERS},
        **{name: options[name] and not last for name in OF_PAIRS},
        "sel": [options["nsel"]],
        "ntypes": ntypes,
        "update_chnnl_2": not last,
        "smooth": config.smooth,
        "precision": precision,
        **maps,
        **factors,
    }


def from_dict(tree: dict[str, Any]) -> tuple[Dpa2, Params]:
    """Return options and parameters from the stored form."""
    nets.check_version(tree, 4, WHAT)  # 4 adds the tables of a compressed model, which are not needed
    arguments = dict(tree["repformer_args"])
    if tree["@version"] < 3:  # before these were options
        arguments = {**arguments, "use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False}
    config = Dpa2(
        repinit=_options(Repinit, tree["repinit_args"]),
        repformer=_options(Repformer, arguments),
        concat_output_tebd=tree["concat_output_tebd"],
        precision=tree["precision"],
        smooth=tree["smooth"],
        exclude_types=tuple((a, b) for a, b in tree["exclude_types"]),
        env_protection=tree["env_protection"],
        trainable=bool(tree.get("trainable", True)),
        add_tebd_to_repinit_out=tree["add_tebd_to_repinit_out"],
        use_econf_tebd=tree.get("use_econf_tebd", False),
        use_tebd_bias=tree.get("use_tebd_bias", True),
    )
    types, table = parts.types_from_dict(tree["type_embedding"], tuple(tree["type_map"]))
    if (types.neuron, types.use_tebd_bias, types.use_econf_tebd) != (
        (config.repinit.tebd_dim,),
        config.use_tebd_bias,
        config.use_econf_tebd,
    ):
        raise InputError(f"{WHAT}: the stored type embedding is not the one of its options")
    params: Params = {"type_embedding": table}
    for name, part in _starts(config).items():
        stored = tree[NAMES[name]]
        found = {
            key: [nets.net_from_dict(net, stored[key]["networks"][0], f"{WHAT}, {name}, {key}")]
            for key, net in part.shapes().items()
        }
        nets.check_uniform(stored["@variables"], f"{WHAT}, {name}")
        params[name] = {**stored["@variables"], **found}
    if config.g1_shape:
        params["g1_shape_tranform"] = nets.affine_from_dict(tree["g1_shape_tranform"], f"{WHAT}, g1_shape_tranform")
    if config.add_tebd_to_repinit_out:
        params["tebd_transform"] = nets.affine_from_dict(tree["tebd_transform"], f"{WHAT}, tebd_transform")
    stored = tree["repformers_variable"]
    layers = [
        _layer_from_dict(config, layer, last, k)
        for k, (layer, last) in enumerate(zip(stored["repformer_layers"], config.last, strict=True))
    ]
    own = {
        **stored["@variables"],
        "g2_embd": nets.affine_from_dict(stored["g2_embd"], f"{WHAT}, g2_embd"),
        "layers": layers,
    }
    return config, {**params, "repformers": own}


def _options(cls: type, tree: dict[str, Any]) -> Any:
    known = {each.name for each in fields(cls)}
    return cls(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in tree.items() if name in known}
    )


def _layer_from_dict(config: Dpa2, tree: dict[str, Any], last: bool, number: int) -> Params:
    what, block, layer = f"{WHAT}, layer {number}", config.repformer, dict[str, Any]()
    nets.check_version(tree, 2, what)
    for path in block.shapes(last):
        *outer, name = path.split("/")
        source = tree[outer[0]][name] if outer else tree[name]
        place = layer.setdefault(outer[0], {}) if outer else layer
        place[name] = nets.affine_from_dict(source, f"{what}, {path}")
    for name in ("attn2g_map", "loc_attn"):
        if name in tree and tree[name] is not None:
            nets.require(tree[name], "attnw_shift", [None, SHIFT], f"{what}, {name}")
    if block.update_g2_has_attn and not last:
        layer["attn2_lm"] = dict(tree["attn2_lm"]["@variables"])
    factors = tree.get("@variables", tree)  # older files have them beside the other keys
    layer.update({name: list(factors[name]) for name in block.residuals(last)})
    return layer

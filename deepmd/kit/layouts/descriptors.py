"""Stored forms of descriptors (docs/layouts.md#local-descriptors)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.local import Local
from deepmd.array_model.descriptors.mixed import Mixed
from deepmd.array_model.descriptors.se_atten import SeAtten
from deepmd.array_model.descriptors.se_e2_a_typed import SeE2ATyped
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.registry import lookup
from deepmd.kit.layouts import dpa2, dpa3, nets, parts

SHARED = (
    *(
        "sel",
        "rcut",
        "rcut_smth",
        "neuron",
        "activation_function",
        "resnet_dt",
        "precision",
        "trainable",
        "exclude_types",
    ),
    *("set_davg_zero", "env_protection"),
)
"""Options that the files of all strictly local descriptors hold."""

SINCE = ("trainable", "exclude_types", "set_davg_zero", "env_protection", "use_econf_tebd", "use_tebd_bias")
"""Options that old files lack."""

NOT_STORED = ("seed", "evaluation")


@dataclass(frozen=True)
class Form:
    """What the files of a strictly local descriptor hold besides `SHARED` and its nets.

    Attributes
    ----------
    type : name in files
    options : further options, under their own names
    version, newest : of what is written, and the newest that is read
    constants : keys that always have the same value
    uniform : whether statistics must be the same in all slots, as one slot stands for all those that no atom fills
    """

    type: str
    options: tuple[str, ...] = ()
    version: int = 2
    newest: int = 2
    constants: dict[str, Any] = field(default_factory=dict)
    uniform: bool = True


_ATTENTION = (
    *(
        "axis_neuron",
        "tebd_dim",
        "tebd_input_mode",
        "attn",
        "attn_layer",
        "attn_dotr",
        "attn_mask",
        "scaling_factor",
        "normalize",
        "temperature",
    ),
    *(
        "trainable_ln",
        "smooth_type_embedding",
        "type_one_side",
        "concat_output_tebd",
        "use_econf_tebd",
        "use_tebd_bias",
    ),
)
_NO_SPIN = {"spin": None}

FORMS = {
    # version 3 adds the tables of a compressed model, which are not needed
    "se_e2_a": Form("se_e2_a", ("axis_neuron", "type_one_side"), newest=3, constants=_NO_SPIN, uniform=False),
    "se_e2_a_typed": Form(
        "se_e2_a_typed", ("axis_neuron", "type_one_side"), newest=3, constants=_NO_SPIN, uniform=False
    ),
    "se_e2_r": Form("se_r", ("type_one_side",), constants=_NO_SPIN, uniform=False),
    "se_e3": Form("se_e3"),
    "se_e3_tebd": Form(
        "se_e3_tebd",
        ("tebd_dim", "tebd_input_mode", "smooth", "concat_output_tebd", "use_econf_tebd"),
        version=1,
        newest=1,
    ),
    "se_atten": Form("dpa1", _ATTENTION, constants=_NO_SPIN),
    "se_atten_v2": Form(
        "se_atten_v2",
        tuple(name for name in _ATTENTION if name not in ("tebd_input_mode", "smooth_type_embedding")),
        constants=_NO_SPIN,
    ),
}


def descriptor_to_dict(descriptor: Descriptor, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    """Return the stored form of a descriptor and its parameters, whose leaves may be anything."""
    if descriptor.kind in WHOLE:
        return WHOLE[descriptor.kind][0](descriptor, params, type_map)
    return (
        _local(descriptor, params, type_map)
        if isinstance(descriptor, Sectioned | Mixed)
        else _plain(descriptor, params, type_map)
    )


def descriptor_from_dict(tree: dict[str, Any], where: str = "model/descriptor") -> tuple[Any, Params]:
    """Return options and parameters from the stored form.

    Raises
    ------
    InputError
        It is newer than this program, of an unknown kind, or not supported.
    """
    cls = lookup("descriptor", tree["type"], where)
    if cls.kind in WHOLE:
        return WHOLE[cls.kind][1](tree)
    return _read_local(cls, tree) if issubclass(cls, Sectioned | Mixed) else _read_plain(cls, tree)


# -- strictly local ---------------------------------------------------------------------------------------------------


def _form(cls: type[Local]) -> Form:
    """Return the form of a kind; that of a plug-in has all options."""
    own = tuple(each.name for each in fields(cls) if each.name not in (*SHARED, *NOT_STORED))
    return FORMS.get(cls.kind) or Form(cls.kind, own)


def _local(config: Local, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    form = _form(type(config))
    return {
        "@class": "Descriptor",
        "type": form.type,
        "@version": form.version,
        **form.constants,
        **nets.options_to_dict(config, (*SHARED, *form.options)),
        "sel": list(config.numbers),
        "env_mat": nets.environment(config, config.env_protection),
        "@variables": {"davg": params["davg"], "dstd": params["dstd"]},
        "type_map": list(type_map),
        **(
            _of_sections(config, params, type_map)
            if isinstance(config, Sectioned)
            else _of_mixed(config, params, type_map)
        ),
    }


def _read_local(cls: type[Local], tree: dict[str, Any]) -> tuple[Any, Params]:
    form, what = _form(cls), f"descriptor {cls.kind}"
    nets.check_version(tree, form.newest, what)
    nets.require(tree, "spin", [None], what)
    nets.require(tree.get("env_mat", {}), "use_exp_switch", [None, False], what)
    if cls.kind == "se_e2_r":  # the number of nets counts: DeePMD-kit's torch passes over the option
        nets.require(tree, "type_one_side", [None, True, False], what)
        tree = {**tree, "type_one_side": tree["embeddings"].get("ndim") != 2}
    names = [name for name in (*SHARED, *form.options) if name in tree or name not in SINCE]
    options = {
        **{name: nets.with_sequences(tuple, tree[name]) for name in names},
        "trainable": bool(tree.get("trainable", True)),
    }
    if form.uniform:
        nets.check_uniform(tree["@variables"], what)
    params = dict(tree["@variables"])
    if issubclass(cls, Mixed | SeE2ATyped):
        types, params["type_embedding"] = parts.types_from_dict(tree["type_embedding"], tuple(tree["type_map"]))
        if issubclass(cls, SeE2ATyped):
            options["types"] = types
        elif types.neuron != (tree["tebd_dim"],):
            raise InputError(f"{what}: the stored type embedding is not the one of its options")
        else:
            options.update(use_econf_tebd=types.use_econf_tebd, use_tebd_bias=types.use_tebd_bias)
    if issubclass(cls, SeAtten):
        options["ln_eps"] = tree.get("ln_eps")
    config = cls(**options)
    read: Callable[..., Params] = _nets_of_sections if issubclass(cls, Sectioned) else _nets_of_mixed
    return config, {**params, **read(config, tree, what)}


def _of_sections(config: Sectioned, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    flags = [config.trainable] * len(config.neuron)
    stored = [nets.net_to_dict(config.net(), p, config.precision, flags) for p in params["embeddings"]]
    out = {"embeddings": nets.collection(stored, config.keys_of_nets, len(type_map), "embedding_network")}
    if isinstance(config, SeE2ATyped):
        out["type_embedding"] = parts.types_to_dict(config.types, params["type_embedding"], type_map)
    return out


def _nets_of_sections(config: Sectioned, tree: dict[str, Any], what: str) -> Params:
    stored, expected = tree["embeddings"]["networks"], len(config.slots) ** config.keys_of_nets
    present = sum(item is not None for item in stored)
    if len(stored) != expected or present != expected:
        reason = (
            ""
            if present
            else ": a compressed model, with tables in their place. Needed: the model from before the compression"
        )
        raise InputError(f"{what}: expected {expected} embedding nets, the file has {present}{reason}")
    return {"embeddings": [nets.net_from_dict(config.net(), item, f"{what}, net {k}") for k, item in enumerate(stored)]}


def _of_mixed(config: Any, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    ntypes, flag = len(type_map), config.trainable
    out: dict[str, Any] = {
        "ntypes": ntypes,
        "type_embedding": parts.types_to_dict(config.types(), params["type_embedding"], type_map),
    }
    out.update(
        {
            name: nets.embedding(net, params[name][0], config.precision, flag, ntypes)
            for name, net in config.shapes().items()
        }
    )
    if isinstance(config, SeAtten):
        attention = config.attention()
        out.update(
            ln_eps=attention.ln_eps, attention_layers=parts.attention_to_dict(attention, params["attention"], flag)
        )
    return out


def _nets_of_mixed(config: Mixed, tree: dict[str, Any], what: str) -> Params:
    out = {}
    for name, net in config.shapes().items():
        (stored,) = tree[name]["networks"]
        out[name] = [nets.net_from_dict(net, stored, f"{what}, {name}")]
    if isinstance(config, SeAtten):
        out["attention"] = parts.attention_from_dict(config.attention(), tree["attention_layers"], f"{what}, attention")
    return out


# -- others -----------------------------------------------------------------------------------------------------------


def _plain(config: Any, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    """Return options and parameters as they are, of what DeePMD-kit has no form for: of loc_frame it knows TensorFlow's graphs only."""
    head = {
        "@class": "Descriptor",
        "type": config.kind,
        "@version": 1,
        **nets.options_to_dict(config, _options(type(config))),
    }
    return {**head, "@variables": params, "type_map": list(type_map)}


def _read_plain(cls: type, tree: dict[str, Any]) -> tuple[Any, Params]:
    nets.check_version(tree, 1, f"descriptor {tree['type']}")
    return cls(**nets.options_from_dict(tree, _options(cls))), tree["@variables"]


def _options(cls: type) -> dict[str, str]:
    return {each.name: each.name for each in fields(cls) if each.init and each.name not in NOT_STORED}


def _hybrid(config: Hybrid, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    each = [
        descriptor_to_dict(member, own, type_map) for member, own in zip(config.members, params["members"], strict=True)
    ]
    return {"@class": "Descriptor", "type": "hybrid", "@version": 1, "list": each}


def _read_hybrid(tree: dict[str, Any]) -> tuple[Hybrid, Params]:
    nets.check_version(tree, 1, "descriptor hybrid")
    each = [descriptor_from_dict(item, f"model/descriptor/list/{k}") for k, item in enumerate(tree["list"])]
    return Hybrid(tuple(config for config, _ in each)), {"members": [params for _, params in each]}


WHOLE: dict[
    str, tuple[Callable[[Any, Params, tuple[str, ...]], dict[str, Any]], Callable[[dict[str, Any]], tuple[Any, Params]]]
] = {
    "hybrid": (_hybrid, _read_hybrid),
    "dpa2": (dpa2.to_dict, dpa2.from_dict),
    "dpa3": (dpa3.to_dict, dpa3.from_dict),
}
"""Those that have a form of their own, and how it is read."""

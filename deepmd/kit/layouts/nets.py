"""Options and nets as the nested dicts of `.dp` files, and back (docs/layouts.md#objects)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Params
from deepmd.array_model.networks import Net


def check_version(tree: dict[str, Any], newest: int, what: str) -> None:
    """Raise InputError when a stored dict is newer than this code knows."""
    version = tree.get("@version", 1)
    if not isinstance(version, int) or version > newest:
        raise InputError(f"{what}: stored with version {version!r}; this program reads versions up to {newest}")


def require(tree: dict[str, Any], key: str, accepted: Sequence[Any], what: str) -> None:
    """Raise InputError when a stored option has a value that is not supported."""
    if tree.get(key) not in accepted:
        raise InputError(
            f"{what}: stored with {key} = {tree.get(key)!r}, which is not supported (accepted: {list(accepted)})"
        )


def check_uniform(statistics: dict[str, Any], what: str) -> None:
    """Raise InputError when stored statistics differ between slots: one slot stands for all those that no atom fills."""
    for name in ("davg", "dstd"):
        values = statistics[name]
        if not isinstance(values, str) and float(abs(values - values[:, :1, :]).max()) > 0.0:
            raise InputError(f"{what}: stored with {name} that differs between slots, which is not supported")


def options_to_dict(config: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return options of a config as files have them: lists in place of tuples, the canonical name of a precision."""
    values = {name: getattr(config, name) for name in names}
    return {
        name: PRECISIONS[value] if name == "precision" else with_sequences(list, value)
        for name, value in values.items()
    }


def options_from_dict(tree: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that a stored dict holds, by {key: option}; what is absent or null has its default."""
    return {option: with_sequences(tuple, tree[key]) for key, option in names.items() if tree.get(key) is not None}


def with_sequences(kind: type, value: Any) -> Any:
    """Return the value with lists and tuples, nested ones too, as one of the two."""
    return kind(with_sequences(kind, item) for item in value) if isinstance(value, list | tuple) else value


def layer_to_dict(
    params: Params, precision: str, trainable: bool, activation: str = "none", resnet: bool = False
) -> dict[str, Any]:
    """Return the `Layer` dict of one layer; by default of a linear map."""
    arrays = {name: params.get(name) for name in ("w", "b", "idt")}
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": arrays["b"] is not None,
        "use_timestep": arrays["idt"] is not None,
        "activation_function": activation,
        "resnet": resnet,
        "precision": PRECISIONS[precision],
        "trainable": bool(trainable),
        "@variables": arrays,
    }


def layer_from_dict(tree: dict[str, Any], what: str, activation: str = "none", resnet: bool = False) -> Params:
    """Return the parameters of a stored `Layer` after checking that it is the one that the configuration describes."""
    check_version(tree, 2, what)
    require(tree, "resnet", [True] if resnet else [None, False], what)
    stored = tree.get("activation_function") or "none"
    if stored.lower() != activation.lower() and not {stored.lower(), activation.lower()} <= {"none", "linear"}:
        raise InputError(f"{what}: stored with activation {stored!r}, which differs from {activation!r}")
    return {key: value for key, value in tree["@variables"].items() if key in ("w", "b", "idt") and value is not None}


def net_to_dict(net: Net, params: Params, precision: str, trainable: Sequence[bool]) -> dict[str, Any]:
    """Return the `EmbeddingNetwork` or `FittingNetwork` dict of a net."""
    precision = PRECISIONS[precision]
    layers = [
        layer_to_dict(layer, precision, flag, *kind)
        for layer, flag, kind in zip(params["layers"], trainable, _kinds(net), strict=True)
    ]
    common = {
        "in_dim": net.in_dim,
        "neuron": list(net.neuron),
        "activation_function": net.activation_function,
        "resnet_dt": net.resnet_dt,
    }
    if net.out_dim is None:
        return {
            "@class": "EmbeddingNetwork",
            "@version": 2,
            **common,
            "bias": net.bias,
            "precision": precision,
            "layers": layers,
        }
    extra = {"out_dim": net.out_dim, "precision": precision, "bias_out": True, "layers": layers}
    return {"@class": "FittingNetwork", "@version": 1, **common, **extra}


def net_from_dict(net: Net, tree: dict[str, Any], what: str) -> Params:
    """Return the parameters of a stored net after checking that it is the net that the configuration describes."""
    check_version(tree, 2, what)
    if tree["in_dim"] != net.in_dim or tuple(tree["neuron"]) != net.neuron or len(tree["layers"]) != len(net.widths()):
        raise InputError(
            f"{what}: stored widths {tree['in_dim']} -> {tree['neuron']} differ from the expected {net.in_dim} -> {list(net.neuron)}"
        )
    return {
        "layers": [
            layer_from_dict(tree["layers"][k], f"{what}, layer {k}", *kind) for k, kind in enumerate(_kinds(net))
        ]
    }


def _kinds(net: Net) -> list[tuple[str, bool]]:
    """Return activation and whether there is a shortcut, of each layer as files have it."""
    hidden = [(net.activation_function, True)] * len(net.neuron)
    return hidden if net.out_dim is None else [*hidden, ("none", False)]


def collection(networks: Sequence[dict[str, Any]], ndim: int, ntypes: int, kind: str) -> dict[str, Any]:
    """Return the `NetworkCollection` dict; the first key varies fastest in `networks`."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": ndim,
        "ntypes": ntypes,
        "network_type": kind,
        "networks": list(networks),
    }


def embedding(net: Net, params: Params, precision: str, trainable: bool, ntypes: int) -> dict[str, Any]:
    """Return the collection of an embedding net that serves all types."""
    return collection(
        [net_to_dict(net, params, precision, [trainable] * len(net.neuron))], 0, ntypes, "embedding_network"
    )


def layer_norm_to_dict(params: Params, eps: float, trainable: bool, precision: str) -> dict[str, Any]:
    """Return the `LayerNorm` dict."""
    return {
        "@class": "LayerNorm",
        "@version": 1,
        "eps": eps,
        "trainable": trainable,
        "precision": PRECISIONS[precision],
        "@variables": params,
    }


def environment(options: Any, protection: float = 0.0) -> dict[str, Any]:
    """Return the dict of an environment matrix, from options with `rcut` and `rcut_smth`."""
    return {"rcut": options.rcut, "rcut_smth": options.rcut_smth, "protection": protection, "use_exp_switch": False}


def affine_from_dict(tree: dict[str, Any], what: str) -> Params:
    """Return the parameters of a stored `Layer` that is a linear map."""
    if tree["@variables"].get("idt") is not None:
        raise InputError(f"{what}: stored with a time step; a linear map is expected")
    return layer_from_dict(tree, what)

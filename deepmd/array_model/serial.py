"""Nets as the nested dicts of `.dp` files, and back (spec core, section 13.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Array, Params
from deepmd.array_model.networks import Net


def check_version(tree: dict[str, Any], newest: int, what: str) -> None:
    """Raise InputError when a stored dict is newer than this code knows."""
    version = tree.get("@version", 1)
    if not isinstance(version, int) or version > newest:
        raise InputError(f"{what}: stored with version {version!r}; this program reads versions up to {newest}")


def require(tree: dict[str, Any], key: str, accepted: Sequence[Any], what: str) -> None:
    """Raise InputError when a stored option has a value that is not supported."""
    if tree.get(key) not in accepted:
        raise InputError(f"{what}: stored with {key} = {tree.get(key)!r}, which is not supported (accepted: {list(accepted)})")


def net_to_dict(net: Net, params: Params, precision: str, trainable: Sequence[bool]) -> dict[str, Any]:
    """Return the `EmbeddingNetwork` or `FittingNetwork` dict of a net."""
    precision = PRECISIONS[precision]
    layers = []
    for number, (layer, widths) in enumerate(zip(params["layers"], net.widths(), strict=True)):
        hidden = number < len(net.neuron)
        layers.append(
            {
                "@class": "Layer",
                "@version": 2,
                "bias": layer.get("b") is not None,
                "use_timestep": layer.get("idt") is not None,
                "activation_function": net.activation_function if hidden else "none",
                "resnet": hidden,
                "precision": precision,
                "trainable": bool(trainable[number]),
                "@variables": {"w": layer["w"], "b": layer.get("b"), "idt": layer.get("idt")},
            }
        )
        assert widths[2] or layer.get("idt") is None
    common = {"in_dim": net.in_dim, "neuron": list(net.neuron), "activation_function": net.activation_function, "resnet_dt": net.resnet_dt}
    if net.out_dim is None:
        return {"@class": "EmbeddingNetwork", "@version": 2, **common, "bias": net.bias, "precision": precision, "layers": layers}
    extra = {"out_dim": net.out_dim, "precision": precision, "bias_out": True, "layers": layers}
    return {"@class": "FittingNetwork", "@version": 1, **common, **extra}


def net_from_dict(net: Net, tree: dict[str, Any], what: str) -> Params:
    """Return the parameters of a stored net after checking that it is the net that the configuration describes."""
    check_version(tree, 2, what)
    if tree["in_dim"] != net.in_dim or tuple(tree["neuron"]) != net.neuron or len(tree["layers"]) != len(net.widths()):
        raise InputError(f"{what}: stored widths {tree['in_dim']} -> {tree['neuron']} differ from the expected {net.in_dim} -> {list(net.neuron)}")
    layers = []
    for number, stored in enumerate(tree["layers"]):
        hidden = number < len(net.neuron)
        check_version(stored, 2, f"{what}, layer {number}")
        require(stored, "resnet", [True] if hidden else [False], f"{what}, layer {number}")
        act = stored.get("activation_function") or "none"
        if act.lower() != (net.activation_function.lower() if hidden else "none"):
            raise InputError(f"{what}, layer {number}: stored activation {act!r} differs from the net's {net.activation_function!r}")
        layers.append({key: value for key, value in stored["@variables"].items() if key in ("w", "b", "idt") and value is not None})
    return {"layers": layers}


def collection(networks: list[dict[str, Any] | None], ndim: int, ntypes: int, kind: str) -> dict[str, Any]:
    """Return the `NetworkCollection` dict; the first key varies fastest in `networks`."""
    return {"@class": "NetworkCollection", "@version": 1, "ndim": ndim, "ntypes": ntypes, "network_type": kind, "networks": networks}


# -- linear maps by themselves ----------------------------------------------------------------------------------------


def init_affine(shape: tuple[int, int, bool], seed: Sequence[int] | None, draw: Any) -> Params:
    """Fresh (in, out, has a bias) map: weights N(0, 1/sqrt(in+out)), bias N(0, 1); `draw(seed_list)` returns a NumPy generator."""
    width, out, bias = shape
    rng = draw(seed)
    params = {"w": rng.normal(0.0, (width + out) ** -0.5, (width, out))}
    return {**params, "b": rng.normal(0.0, 1.0, (out,))} if bias else params


def init_factor(size: int, scale: float, how: str, seed: Sequence[int] | None, draw: Any) -> Array:
    """Fresh factor (size,) of an update: all `scale` ("const"), or N(0, scale) ("norm")."""
    drawn = draw(seed).normal(0.0, scale, (size,))
    return 0.0 * drawn + scale if how == "const" else drawn


def affine_to_dict(params: Params, precision: str, trainable: bool) -> dict[str, Any]:
    """Return the `Layer` dict of a linear map."""
    bias = params.get("b")
    fixed = {"use_timestep": False, "activation_function": "none", "resnet": False, "precision": PRECISIONS[precision], "trainable": trainable}
    return {"@class": "Layer", "@version": 2, "bias": bias is not None, **fixed, "@variables": {"w": params["w"], "b": bias, "idt": None}}


def affine_from_dict(tree: dict[str, Any], what: str) -> Params:
    """Return the parameters of a stored `Layer` that is a linear map."""
    check_version(tree, 2, what)
    require(tree, "resnet", [None, False], what)
    act = tree.get("activation_function") or "none"
    if act.lower() not in ("none", "linear") or tree["@variables"].get("idt") is not None:
        raise InputError(f"{what}: stored with activation {act!r} or a time step; a linear map is expected")
    return {key: value for key, value in tree["@variables"].items() if key in ("w", "b") and value is not None}

"""Layers and nets in `.dp` files (docs/layouts.md#objects)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Params
from deepmd.array_model.networks import Net
from deepmd.io.checking import find, find_list
from deepmd.kit.rows import OPTION, Conversion, Row, array, check_version, option_row

PRECISION = Conversion(lambda name: PRECISIONS[name], lambda name, where: name)
ENVIRONMENT_OPTIONS = ("rcut", "rcut_smth")
"""Options that the dict of an environment matrix repeats."""


def option_rows(names: Sequence[str], default: Any) -> list[Row]:
    """Return the rows of options that are stored under their own names."""
    conversions = {"precision": PRECISION}
    return [option_row(name, default=default, conversion=conversions.get(name, OPTION)) for name in names]


def environment(config: Any, protection: float = 0.0) -> dict[str, Any]:
    """Return the dict of an environment matrix."""
    return {
        **{name: getattr(config, name) for name in ENVIRONMENT_OPTIONS},
        "protection": protection,
        "use_exp_switch": False,
    }


# -- layers -----------------------------------------------------------------------------------------------------------


def layer_conversion(precision: str, trainable: bool, activation: str = "none", resnet: bool = False) -> Conversion:
    """Return the conversion of one layer; by default of a linear map, which has no time step."""

    def write(params: Params) -> dict[str, Any]:
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

    def read(tree: Any, where: str) -> Params:
        check_version(tree, 2, where)
        stored = str(find(tree, "activation_function", where, optional=True) or "none")
        same = stored.lower() == activation.lower() or {stored.lower(), activation.lower()} <= {"none", "linear"}
        if not same:
            raise InputError(f"{where}: stored with activation {stored!r}, which differs from {activation!r}")
        shortcut = find(tree, "resnet", where, optional=True)
        if bool(shortcut) != resnet:
            raise InputError(f"{where}: stored with resnet = {shortcut!r}; expected: {resnet}")
        found = {name: find(tree, f"@variables/{name}", where, optional=name != "w") for name in ("w", "b", "idt")}
        if found["idt"] is not None and not resnet and activation == "none":
            raise InputError(f"{where}: stored with a time step; a linear map is expected")
        arrays = {name: array(value, f"{where}, {name}") for name, value in found.items() if value is not None}
        # some backends of DeePMD-kit store biases and time steps with a unit axis
        return {name: value if name == "w" else np.reshape(value, -1) for name, value in arrays.items()}

    return Conversion(write, read)


def norm_conversion(eps: float, trainable: bool, precision: str) -> Conversion:
    """Return the conversion of a layer norm."""
    head = {"@class": "LayerNorm", "@version": 1, "eps": eps, "trainable": trainable}

    def read(tree: Any, where: str) -> Params:
        return {name: array(find(tree, f"@variables/{name}", where), where) for name in ("w", "b")}

    return Conversion(lambda params: {**head, "precision": PRECISIONS[precision], "@variables": params}, read)


# -- nets -------------------------------------------------------------------------------------------------------------


def net_conversion(net: Net, precision: str, trainable: Sequence[bool]) -> Conversion:
    """Return the conversion of a net: `FittingNetwork` if it has an output width, else `EmbeddingNetwork`."""
    layers = [layer_conversion(precision, flag, net.activation_function, True) for flag in trainable[: len(net.neuron)]]
    if net.out_dim is not None:
        layers.append(layer_conversion(precision, trainable[-1]))

    def write(params: Params) -> dict[str, Any]:
        stored = [conversion.write(layer) for conversion, layer in zip(layers, params["layers"], strict=True)]  # type: ignore[misc]
        tail = {"precision": PRECISIONS[precision], "layers": stored}
        common = {
            "in_dim": net.in_dim,
            "neuron": list(net.neuron),
            "activation_function": net.activation_function,
            "resnet_dt": net.resnet_dt,
        }
        if net.out_dim is None:
            return {"@class": "EmbeddingNetwork", "@version": 2, **common, "bias": net.bias, **tail}
        extra = {"out_dim": net.out_dim, "bias_out": True}
        return {"@class": "FittingNetwork", "@version": 1, **common, **extra, **tail}

    def read(tree: Any, where: str) -> Params:
        check_version(tree, 2, where)
        width, neuron, stored = (
            find(tree, "in_dim", where),
            find(tree, "neuron", where),
            find_list(tree, "layers", where),
        )
        if width != net.in_dim or neuron != list(net.neuron) or len(stored) != len(layers):
            expected = f"the expected {net.in_dim} -> {list(net.neuron)}"
            raise InputError(f"{where}: stored widths {width} -> {neuron} differ from {expected}")
        each = zip(layers, stored, strict=True)
        return {"layers": [conversion.read(tree, f"{where}, layer {k}") for k, (conversion, tree) in enumerate(each)]}  # type: ignore[misc]

    return Conversion(write, read)


def nets_conversion(
    conversion: Conversion, kind: str, ndim: int, ntypes: int, expected: int | None = None
) -> Conversion:
    """Return the conversion of a `NetworkCollection`: nets of one shape by `ndim` types, the first varying fastest.

    Parameters
    ----------
    kind : "embedding_network" or "fitting_network"
    ndim : number of types that a net belongs to
    expected : number of nets that a file must have; None: any
    """

    def write(params: list[Params]) -> dict[str, Any]:
        head = {"@class": "NetworkCollection", "@version": 1, "ndim": ndim, "ntypes": ntypes, "network_type": kind}
        return {**head, "networks": [conversion.write(net) for net in params]}  # type: ignore[misc]

    def read(tree: Any, where: str) -> list[Params]:
        stored = find_list(tree, "networks", where)
        present = sum(item is not None for item in stored)
        if expected is not None and (present, len(stored)) != (expected, expected):
            reason = "a compressed model, with tables in their place. Needed: the model from before the compression"
            text = f"expected {expected} embedding nets, the file has {present}{'' if present else f': {reason}'}"
            raise InputError(f"{where.rpartition(', ')[0] or where}: {text}")
        return [conversion.read(item, f"{where}, net {k}") for k, item in enumerate(stored)]  # type: ignore[misc]

    return Conversion(write, read, "_networks.")


def embeddings_conversion(
    net: Net, precision: str, trainable: bool, ndim: int, ntypes: int, expected: int
) -> Conversion:
    """Return the conversion of embedding nets."""
    conversion = net_conversion(net, precision, [trainable] * len(net.neuron))
    return nets_conversion(conversion, "embedding_network", ndim, ntypes, expected)

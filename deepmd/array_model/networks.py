"""Activations, layers and the two nets of Deep Potential (docs/theory/networks.md#layers).

A net's parameters are `{"layers": [{"w": (in, out), "b": (out,), "idt": (out,)}, ...]}`; `b` and `idt` may be absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deepmd.array_model.contracts import Draw
from deepmd.array_model.errors import nearest
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params


def silut_constants(threshold: float) -> tuple[float, float]:
    """Value and slope of silu at the threshold."""
    value = 1.0 / (1.0 + math.exp(-threshold))
    return threshold * value, value + threshold * value * (1.0 - value)


def composed_silut(x: Array, threshold: float, *, xp: Namespace) -> Array:
    """silut: silu below the threshold, a tanh of equal value and slope beyond. Silu for an infinite threshold."""
    silu = x * xp.sigmoid(x)
    if math.isinf(threshold):
        return silu
    offset, slope = silut_constants(threshold)
    return xp.where(x < threshold, silu, xp.tanh(slope * (x - threshold)) + offset)


def _silut(threshold: float) -> Callable[..., Array]:
    return lambda x, *, xp: xp.silut(x, threshold)


def _gelu(x: Array, *, xp: Namespace) -> Array:
    return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def _softplus(x: Array, *, xp: Namespace) -> Array:
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


def _relu(x: Array, *, xp: Namespace) -> Array:
    return xp.maximum(x, xp.zeros_like(x))


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "tanh": lambda x, *, xp: xp.tanh(x),
    "relu": _relu,
    "relu6": lambda x, *, xp: xp.minimum(_relu(x, xp=xp), 6.0 * xp.ones_like(x)),
    "softplus": _softplus,
    "sigmoid": lambda x, *, xp: xp.sigmoid(x),
    "gelu": _gelu,
    "gelu_tf": _gelu,
    "silu": _silut(math.inf),
    "silut": _silut(3.0),
    "custom_silu": _silut(3.0),
    "linear": lambda x, *, xp: x,
    "none": lambda x, *, xp: x,
}


def activation(name: str) -> Callable[..., Array]:
    """Return the activation `f(x, *, xp)` of a case-insensitive name; `silut:T`, `custom_silu:T` have a threshold T."""
    head, _, threshold = name.lower().partition(":")
    if head in ("silut", "custom_silu") and threshold:
        return _silut(float(threshold))
    if head not in ACTIVATIONS or threshold:
        raise ValueError(
            f"unknown activation {name!r}. Known: {', '.join(ACTIVATIONS)}, silut:T, custom_silu:T."
            f"{nearest(head, ACTIVATIONS)}"
        )
    return ACTIVATIONS[head]


def check_options(options: Any) -> None:
    """Raise ValueError for an unknown activation function or precision, or a negative seed."""
    activation(options.activation_function)
    if options.precision not in PRECISIONS:
        raise ValueError(f"precision is {options.precision!r}; accepted: {', '.join(PRECISIONS)}")
    if (options.seed or 0) < 0:
        raise ValueError(f"seed is {options.seed}; it must not be negative")


@dataclass(frozen=True)
class Net:
    """Shape of a net: input width, hidden widths, and for a fitting net the width of the linear last layer.

    `bias`: all layers have a bias, or none has.
    """

    in_dim: int
    neuron: tuple[int, ...]
    activation_function: str
    resnet_dt: bool
    out_dim: int | None = None
    bias: bool = True

    def widths(self) -> list[tuple[int, int, bool]]:
        """Return (in, out, has a shortcut) of every layer; equal width takes precedence over double width."""
        out, width = [], self.in_dim
        for hidden in self.neuron:
            out.append((width, hidden, hidden in (width, 2 * width)))
            width = hidden
        return out if self.out_dim is None else [*out, (width, self.out_dim, False)]


def apply_net(net: Net, params: Params, x: Array, *, xp: Namespace) -> Array:
    """Evaluate a net on (..., in_dim); returns (..., neuron[-1]) or (..., out_dim)."""
    act = activation(net.activation_function)
    hidden = len(net.neuron)
    for number, (layer, (width, out, shortcut)) in enumerate(zip(params["layers"], net.widths(), strict=True)):
        y = xp.matmul(x, layer["w"])
        if layer.get("b") is not None:
            y = y + layer["b"]
        if number < hidden:
            y = act(y, xp=xp)
        if layer.get("idt") is not None:
            y = y * layer["idt"]
        if shortcut:
            y = y + (x if out == width else xp.concat([x, x], axis=-1))
        x = y
    return x


def summed_net(net: Net, params: Params, x_NP: Array, share_NP: Array, *, xp: Namespace) -> Array:
    """Return sum_P share net(x) (N, neuron[-1]) of an embedding net of one number.

    Narrow nets are bound by memory: features lie on the first axis, so that operations run along rows of N P numbers.
    Time steps and the shortcut of the last layer are linear, so they act on the sums over P, not on (neuron, N, P).
    """
    act, (atoms, size) = activation(net.activation_function), xp.shape(x_NP)
    x, share_1NP = xp.reshape(x_NP, (1, -1)), xp.expand_dims(share_NP, axis=0)

    def total(y: Array, width: int) -> Array:
        return xp.sum(xp.reshape(y, (width, atoms, size)) * share_1NP, axis=2)

    for number, (layer, (width, out, shortcut)) in enumerate(zip(params["layers"], net.widths(), strict=True)):
        y = act(xp.matmul(xp.matrix_transpose(layer["w"]), x) + xp.expand_dims(layer["b"], axis=1), xp=xp)
        if number >= len(net.neuron) - 1:
            # last layer: sum(share (y idt + x)) = sum(share y) idt + sum(share x)
            x, y = total(x, width) if shortcut else x, total(y, out)
        if layer.get("idt") is not None:
            y = y * xp.expand_dims(layer["idt"], axis=1)
        if shortcut:
            y = y + (x if out == width else xp.concat([x, x], axis=0))
        x = y
    return xp.matrix_transpose(x)


def init_affine(shape: tuple[int, int, bool], rng: Any) -> Params:
    """Fresh affine map (in, out, has a bias) from a NumPy generator: weights N(0, 1/sqrt(in+out)), bias N(0, 1)."""
    width, out, bias = shape
    params = {"w": rng.normal(0.0, 1.0 / math.sqrt(width + out), (width, out))}
    return {**params, "b": rng.normal(0.0, 1.0, (out,))} if bias else params


def init_zeros(sizes: tuple[int, ...], draw: Draw, *, xp: Namespace) -> Array:
    """Return zeros, made from drawn numbers, because the namespace creates no arrays from sizes."""
    return xp.zeros_like(draw([0]).normal(size=sizes))


def init_net(net: Net, seed: Sequence[int] | None, draw: Draw, first: int = 0) -> Params:
    """Fresh net: affine maps, and time steps N(0.1, 0.001) (docs/theory/networks.md#fresh-weights).

    `draw(seed_list)` returns a NumPy generator; the layer number, counted from `first`, is prepended to `seed`.
    """
    layers = []
    for number, (width, out, shortcut) in enumerate(net.widths(), start=first):
        rng = draw(None if seed is None else [number, *seed])
        layer = init_affine((width, out, net.bias), rng)
        layers.append({**layer, "idt": rng.normal(0.1, 0.001, (out,))} if net.resnet_dt and shortcut else layer)
    return {"layers": layers}

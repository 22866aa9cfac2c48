"""Activations, layers, nets, initial weights."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import TOLERANCES, assert_close

from deepmd.array_model.networks import ACTIVATIONS, Net, activation, apply_net, init_net
from deepmd.host import plain

X = np.concatenate([np.linspace(-7.0, 8.0, 31), [-800.0, -60.0, 60.0, 800.0, 3.0, 6.0, 0.0]])


def logistic(x):
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0


def slow_silut(x, threshold=3.0):
    value = logistic(threshold)
    slope = value + threshold * value * (1.0 - value)
    return x * logistic(x) if x < threshold else math.tanh(slope * (x - threshold)) + threshold * value


def slow_gelu(x):
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


SLOW = {
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "softplus": lambda x: math.log1p(math.exp(x)) if x < 700.0 else x,
    "sigmoid": logistic,
    "gelu": slow_gelu,
    "gelu_tf": slow_gelu,
    "silu": lambda x: x * logistic(x),
    "silut": slow_silut,
    "custom_silu": slow_silut,
    "linear": lambda x: x,
    "none": lambda x: x,
    "silut:1.5": partial(slow_silut, threshold=1.5),
    "GELU": slow_gelu,
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_activation(run, name, dtype):
    values = run(activation(name), X.astype(dtype))
    assert values.dtype == dtype
    expected = [SLOW[name](float(x)) for x in X.astype(dtype)]
    small = np.abs(X) < 10.0
    assert_close(values, expected, "function", dtype)
    assert_close(values[small], np.array(expected)[small], "function", dtype)


def test_every_activation_is_tested():
    assert set(ACTIVATIONS) <= set(SLOW)


@pytest.mark.parametrize(
    ("name", "message"), [("tahn", "Did you mean 'tanh'"), ("relu:2", "unknown"), ("silut:x", "could not convert")]
)
def test_unknown_activation(name, message):
    with pytest.raises(ValueError, match=message):
        activation(name)


@given(st.floats(0.1, 6.0))
def test_silut_is_continuous_with_its_slope(threshold):
    step = 1e-6
    left, middle, right = activation(f"silut:{threshold}")(threshold + step * np.array([-1.0, 0.0, 1.0]), xp=plain)
    assert abs(right - left) < 4.0 * step
    assert abs(right - 2.0 * middle + left) < TOLERANCES["float64"]["finite difference"] * step


def slow_net(net, params, x):
    """The definition, one row at a time."""
    out = []
    for row in x.reshape(-1, x.shape[-1]):
        for number, layer in enumerate(params["layers"]):
            y = row @ layer["w"] + layer.get("b", 0.0)
            hidden = number < len(net.neuron)
            y = (np.tanh(y) if hidden else y) * layer.get("idt", 1.0)
            if hidden and len(y) == len(row):
                y = y + row
            elif hidden and len(y) == 2 * len(row):
                y = y + np.concatenate([row, row])
            row = y
        out.append(row)
    return np.array(out).reshape(*x.shape[:-1], net.widths()[-1][1])


NETS = {
    "growing": Net(1, (2, 4, 4, 7), "tanh", False),
    "time steps": Net(3, (3, 6, 5), "tanh", True),
    "fitting": Net(4, (4, 8), "tanh", True, out_dim=1),
    "fitting, last as wide": Net(4, (1,), "tanh", False, out_dim=1),
    "only the last layer": Net(4, (), "tanh", True, out_dim=4),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_net_equals_slow_twin(run, name, dtype):
    net, rng = NETS[name], np.random.default_rng(2)
    params = init_net(net, None, lambda _: rng)
    params = {"layers": [{key: value.astype(dtype) for key, value in layer.items()} for layer in params["layers"]]}
    for sizes in ((5,), (0,), (2, 3)):
        x = rng.normal(size=(*sizes, net.in_dim)).astype(dtype)
        values = run(
            lambda layers, x, *, xp: apply_net(net, {"layers": layers}, x, xp=xp), params["layers"], x, dynamic=0
        )
        assert values.dtype == dtype
        assert_close(values, slow_net(net, params, x), "function", dtype)


def test_layer_without_bias(run):
    net = Net(2, (3,), "tanh", False)
    x, w = np.ones((4, 2)), np.full((2, 3), 0.3)
    values = run(lambda x, w, *, xp: apply_net(net, {"layers": [{"w": w, "b": None}]}, x, xp=xp), x, w, dynamic=0)
    assert_close(values, np.tanh(x @ w), "function")


def test_equal_width_takes_precedence():
    assert Net(2, (2, 4, 4), "tanh", False).widths() == [(2, 2, True), (2, 4, True), (4, 4, True)]
    assert Net(3, (4,), "tanh", False, out_dim=4).widths() == [(3, 4, False), (4, 4, False)]


def test_initial_weights_follow_their_seeds():
    """Each layer draws w, b, idt from a generator of its own (docs/theory/networks.md#fresh-weights)."""
    net = Net(2, (2, 3), "tanh", True, out_dim=1)
    layers = init_net(net, [5, 7], np.random.default_rng)["layers"]
    for number, (width, out) in enumerate([(2, 2), (2, 3), (3, 1)]):
        rng = np.random.default_rng([number, 5, 7])
        assert np.array_equal(layers[number]["w"], rng.normal(0.0, 1.0 / math.sqrt(width + out), (width, out)))
        assert np.array_equal(layers[number]["b"], rng.normal(0.0, 1.0, out))
    assert [("idt" in layer) for layer in layers] == [True, False, False]

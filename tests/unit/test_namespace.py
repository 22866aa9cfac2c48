"""Every adapter's namespace: complete, with NumPy's meaning, and dense derivatives."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
from support import RUNNERS, convert, require
from tolerances import assert_close

from deepmd import host
from deepmd.array_model.namespace import EXTRAS, PLANNING, PRECISIONS, REQUIRED, STANDARD, dtype_of
from deepmd.array_model.networks import composed_silut
from deepmd.data.search import SEARCH
from deepmd.testing import strict

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
STACK, MATRIX = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(3, 5))
EMPTY = np.zeros((0, 4, 3))
TYPES, FLAGS = np.array([1, 0, 2, 1]), np.array([True, False, True, True])
ROWS = np.array([2, 0, 2, 1])
X = np.tanh(A)
CHEBYSHEV = np.moveaxis(np.polynomial.chebyshev.chebvander(X, 5), -1, 1)

EXAMPLES = {
    # name: [(arguments, keywords, what NumPy makes of it)]
    "abs": [((A,), {}, np.abs(A))],
    "concat": [(([A, B],), {"axis": 0}, np.concatenate([A, B])), (([A],), {"axis": 1}, A)],
    "equal": [((TYPES, ROWS), {}, TYPES == ROWS), ((TYPES, 1), {}, TYPES == 1)],
    "exp": [((A,), {}, np.exp(A))],
    "expand_dims": [((A,), {"axis": -1}, A[..., None]), ((A,), {"axis": 1}, A[:, None])],
    "floor": [((A,), {}, np.floor(A))],
    "log1p": [((np.abs(A),), {}, np.log1p(np.abs(A)))],
    "logical_and": [((FLAGS, ~FLAGS[::-1]), {}, FLAGS & ~FLAGS[::-1])],
    "logical_not": [((FLAGS,), {}, ~FLAGS)],
    "matmul": [
        ((A, MATRIX), {}, A @ MATRIX),
        ((STACK, MATRIX), {}, STACK @ MATRIX),
        ((EMPTY, MATRIX), {}, EMPTY @ MATRIX),
    ],
    "matrix_transpose": [((STACK,), {}, np.swapaxes(STACK, -1, -2))],
    "max": [((A,), {"axis": -1}, A.max(axis=-1)), ((STACK,), {"axis": 1}, STACK.max(axis=1))],
    "maximum": [((A, B), {}, np.maximum(A, B))],
    "minimum": [((A, B), {}, np.minimum(A, B))],
    "ones_like": [((A,), {}, np.ones((4, 3))), ((TYPES,), {}, np.ones(4, dtype=np.int64))],
    "halo_exchange": [((A,), {}, A)],
    "chebyshev_rows": [
        *(((np.ones((4, 3)), X, 2.0 * X, count), {}, CHEBYSHEV[:, :count]) for count in (1, 2, 3, 6)),
        *(((np.ones_like(x), x, 2.0 * x, 3), {}, np.zeros((len(x), 3, x.shape[1]))) for x in (A[:0], A[:, :0])),
        ((A, B, A, 3), {}, np.stack([A, B, A * B - A], axis=1)),
    ],
    "reshape": [((A, (-1,)), {}, A.reshape(-1)), ((STACK, (-1, 3)), {}, STACK.reshape(-1, 3))],
    "silut": [((A, 1.0), {}, composed_silut(A, 1.0, xp=host.plain)), ((A, math.inf), {}, A / (1.0 + np.exp(-A)))],
    "split": [
        ((A, (1, 0, 3)), {"axis": 0}, [A[:1], A[1:1], A[1:]]),
        ((A, (2, 1)), {"axis": 1}, [A[:, :2], A[:, 2:]]),
        ((STACK, (0, 2, 1)), {"axis": 2}, [STACK[:, :, :0], STACK[:, :, :2], STACK[:, :, 2:]]),
        ((EMPTY, (0, 0)), {"axis": 0}, [EMPTY, EMPTY]),
        ((A, (4,)), {"axis": 0}, [A]),
    ],
    "sqrt": [((np.abs(A),), {}, np.sqrt(np.abs(A)))],
    "square": [((A,), {}, A * A)],
    "stack": [
        *((([A, B],), {"axis": axis}, np.stack([A, B], axis=axis)) for axis in (0, 1, -1)),
        (([A[:0]],), {"axis": 1}, A[:0, None]),
    ],
    "stop_gradient": [((A,), {}, A), ((TYPES,), {}, TYPES)],
    "sum": [
        ((A,), {}, np.asarray(A.sum())),
        ((A,), {"axis": -1}, A.sum(axis=-1)),
        ((STACK,), {"axis": 1, "keepdims": True}, STACK.sum(axis=1, keepdims=True)),
    ],
    "take": [((A, ROWS), {"axis": 0}, A[ROWS]), ((A, ROWS[:0]), {"axis": 0}, A[:0])],
    "tanh": [((A,), {}, np.tanh(A)), ((1e3 * A,), {}, np.sign(A))],
    "unstack": [((x,), {"axis": -1}, [x[..., 0], x[..., 1], x[..., 2]]) for x in (A, STACK, EMPTY)],
    "where": [((A > 0.0, A, B), {}, np.where(A > 0.0, A, B))],
    "zeros_like": [((A,), {}, np.zeros((4, 3))), ((FLAGS,), {}, np.zeros(4, dtype=bool))],
    "shape": [((A,), {}, (4, 3))],
    "segment_sum": [
        ((A, ROWS, 4), {}, np.array([A[1], A[3], A[0] + A[2], np.zeros(3)])),
        ((A[:, 0], ROWS, 3), {}, np.array([A[1, 0], A[3, 0], A[0, 0] + A[2, 0]])),
        ((A[:0], ROWS[:0], 2), {}, np.zeros((2, 3))),
        ((STACK, ROWS[1:3], 3), {}, np.stack([STACK[0], 0.0 * STACK[0], STACK[1]])),
    ],
    "softmax": [
        ((STACK,), {}, np.exp(STACK) / np.exp(STACK).sum(axis=-1, keepdims=True)),
        ((np.array([[-3e4, 800.0, 799.0]]),), {}, np.array([[0.0, np.e / (1.0 + np.e), 1.0 / (1.0 + np.e)]])),
    ],
    "sigmoid": [((np.array([-800.0, -1.0, 0.0, 800.0]),), {}, np.array([0.0, 1.0 / (1.0 + np.e), 0.5, 1.0]))],
}
CALLS = [
    pytest.param(name, *call, id=f"{name}-{k}") for name, calls in EXAMPLES.items() for k, call in enumerate(calls)
]
UNKNOWN_SIZES = [call for call in CALLS if call.values[0] in ("chebyshev_rows", "split", "stack")]


def each_of(result, expected):
    """Pairs of arrays: one, or those of two sequences."""
    return zip(result, expected, strict=True) if isinstance(expected, list) else [(result, expected)]


@pytest.mark.parametrize(("name", "arguments", "keywords", "expected"), CALLS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_means_what_numpy_means(run, name, arguments, keywords, expected, dtype):
    def cast_bfloat16(tree):
        return convert(tree, lambda array: array.astype(dtype) if array.dtype.kind == "f" else array)

    result = run(lambda arrays, *, xp: getattr(xp, name)(*arrays, **keywords), cast_bfloat16(arguments))
    if name == "shape":
        assert tuple(int(size) for size in result) == expected
        return
    for actual, wanted in each_of(result, cast_bfloat16(expected)):
        assert np.asarray(actual).dtype == wanted.dtype
        assert_close(actual, wanted, "function", dtype)


@pytest.mark.parametrize(("name", "arguments", "keywords", "expected"), UNKNOWN_SIZES)
def test_no_size_need_be_known_in_a_graph(name, arguments, keywords, expected):
    result = RUNNERS.tf_graph(lambda arrays, *, xp: getattr(xp, name)(*arrays, **keywords), [arguments], 3)
    for actual, wanted in each_of(result, expected):
        assert_close(actual, wanted, "function")


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_astype(run, name):
    for array in (A, A.astype(np.float32), TYPES, FLAGS):
        result = run(lambda x, *, xp: xp.astype(x, getattr(xp, name)), array)
        assert result.dtype == name
        assert_close(result, array, "function", "float32")


def test_every_name_has_an_example():
    own_tests = {"with_adjoint"}
    assert (
        set(REQUIRED)
        - set(EXAMPLES)
        - own_tests
        - {name for name in REQUIRED if name == "astype" or "float" in name or name == "int64"}
        == set()
    )
    assert len(REQUIRED) == len(set(REQUIRED)) == len(STANDARD) + len(EXTRAS)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_has_a_dtype(precision):
    assert dtype_of(precision, xp=host.plain) in (np.float64, np.float32, np.float16)


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_namespace_is_complete(framework):
    require(framework)
    xp = importlib.import_module(f"deepmd.adapters.{ {'torch': 'torch', 'tensorflow': 'tf'}[framework] }.namespace").xp
    assert [name for name in (*REQUIRED, *SEARCH) if not hasattr(xp, name)] == []


def test_host_namespaces_are_complete():
    from deepmd.adapters.numpy.namespace import differentiable

    for xp in (host.plain, differentiable, strict.xp):
        assert [name for name in REQUIRED if not hasattr(xp, name)] == []
    assert [name for name in (*SEARCH, *PLANNING) if not hasattr(host.plain, name)] == []


# -- derivatives: take and segment_sum are each other's adjoint, split and stack cut and join, of any order and never
# sparse ----


def loss_of_rows(x, kept, rows, sizes, *, xp):
    """A cubic function through take and segment_sum, so that its second derivatives depend on x."""
    y = xp.take(x, rows, axis=0)
    z = xp.segment_sum(y * y * y, rows, 4)
    return xp.sum(z * xp.take(x, rows[:2], axis=0)[0, :])


def loss_of_pieces(x, kept, rows, sizes, *, xp):
    """A cubic function through split, stack and unstack, with factors `kept` that derivatives do not see."""
    first, none, second = xp.split(x, sizes, axis=0)
    a, b, c = xp.unstack(xp.concat([second, none, first], axis=0), axis=-1)
    left, right = xp.split(xp.stack([a * b, b * c, c * a * a], axis=1), (2, 1), axis=1)
    return xp.sum(left[:, 0] * left[:, 1] * right[:, 0]) + xp.sum(kept * kept * x * x)


LOSSES = [loss_of_rows, loss_of_pieces]
SIZES = (1, 0, 3)


def with_wrong_adjoint(x, *, xp):
    """A function whose adjoint is not that of its operations, so that it shows who was asked."""
    return xp.with_adjoint(lambda y: (y * y * y, lambda grad: 7.0 * grad * y), x)


def test_a_written_adjoint_replaces_the_derivative_in_torch():
    torch = require("torch")
    from deepmd.adapters.torch.namespace import inference

    x = torch.tensor(A, requires_grad=True)
    y = with_wrong_adjoint(2.0 * x, xp=inference)
    (first,) = torch.autograd.grad((torch.tensor(B) * y).sum(), x)
    assert_close(y.detach().numpy(), 8.0 * A**3, "function")
    assert_close(first.numpy(), 2.0 * 7.0 * B * (2.0 * A), "function")


def test_a_written_adjoint_replaces_the_derivative_in_tensorflow():
    tf = require("tensorflow")
    from deepmd.adapters.tf.graph import session
    from deepmd.adapters.tf.namespace import inference

    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float64, [None, 3])
        y = with_wrong_adjoint(2.0 * x, xp=inference)
        (first,) = tf.gradients(tf.reduce_sum(tf.constant(B) * y), x)
    with session(graph) as running:
        value, gradient = running.run((y, first), {x: A})
    assert_close(value, 8.0 * A**3, "function")
    assert_close(gradient, 2.0 * 7.0 * B * (2.0 * A), "function")


def test_tensorflow_makes_no_derivatives_of_the_terms_of_a_recurrence():
    """They would be a quarter of the graph of a training, and none would ever run."""
    tf = require("tensorflow")
    from deepmd.adapters.tf.namespace import xp

    sizes = []
    for count in (4, 40):
        graph = tf.Graph()
        with graph.as_default():
            x = tf.compat.v1.placeholder(tf.float64, [None, 3])
            cut_off = xp.stop_gradient(x)
            terms = xp.chebyshev_rows(xp.ones_like(x), cut_off, 2.0 * cut_off, count) * xp.expand_dims(x, axis=1)
            before = len(graph.get_operations())
            tf.gradients(tf.reduce_sum(terms), x)
        sizes.append(len(graph.get_operations()) - before)
    assert sizes[0] == sizes[1]


def numeric_gradient(function, x, step=1e-5):
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[place] = step
        out[place] = (function(x + shift) - function(x - shift)) / (2.0 * step)
    return out


def expected_gradients(loss):
    def value(x):
        return loss(x, A, ROWS, SIZES, xp=host.plain)

    def squared_gradient(x):
        return (numeric_gradient(value, x, 1e-4) ** 2).sum()

    return numeric_gradient(value, A), numeric_gradient(squared_gradient, A, 1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_in_torch(loss):
    torch = require("torch")
    from deepmd.adapters.torch.namespace import xp

    x = torch.tensor(A, requires_grad=True)
    (first,) = torch.autograd.grad(loss(x, xp.stop_gradient(x), torch.tensor(ROWS), SIZES, xp=xp), x, create_graph=True)
    (second,) = torch.autograd.grad((first * first).sum(), x)
    for actual, expected in zip((first, second), expected_gradients(loss), strict=True):
        assert_close(actual.detach().numpy(), expected, "finite difference")


@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_in_tensorflow_are_dense(loss):
    tf = require("tensorflow")
    from deepmd.adapters.tf.graph import session
    from deepmd.adapters.tf.namespace import xp

    graph = tf.Graph()
    with graph.as_default():
        x, sizes = tf.compat.v1.placeholder(tf.float64, [None, 3]), tf.compat.v1.placeholder(tf.int32, [3])
        (first,) = tf.gradients(loss(x, xp.stop_gradient(x), tf.constant(ROWS), tf.unstack(sizes), xp=xp), x)
        (second,) = tf.gradients(tf.reduce_sum(first * first), x)
        (third,) = tf.gradients(tf.reduce_sum(second * second), x)
    assert all(isinstance(gradient, tf.Tensor) for gradient in (first, second, third))
    with session(graph) as running:
        for actual, expected in zip(
            running.run((first, second), {x: A, sizes: SIZES}), expected_gradients(loss), strict=True
        ):
            assert_close(actual, expected, "finite difference")


@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_in_autograd(loss):
    from autograd import grad

    from deepmd.adapters.numpy.namespace import differentiable

    first = grad(lambda x: loss(x, differentiable.stop_gradient(x), ROWS, SIZES, xp=differentiable))
    second = grad(lambda x: differentiable.sum(first(x) ** 2))
    for actual, expected in zip((first(A), second(A)), expected_gradients(loss), strict=True):
        assert_close(actual, expected, "finite difference")


def test_saturated_tanh_has_a_derivative():
    from autograd import grad

    from deepmd.adapters.numpy.namespace import differentiable

    for function in (differentiable.tanh, differentiable.sigmoid):
        slope = grad(lambda x, f=function: differentiable.sum(f(x)))
        assert np.array_equal(slope(np.array([-2000.0, 2000.0])), np.zeros(2))

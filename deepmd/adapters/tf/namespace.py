"""TensorFlow graph tensors as the namespace of physics and of the neighbour search; `inference` is for evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from deepmd.array_model.networks import composed_silut


def shape(x: Any) -> tuple[Any, ...]:
    """Sizes: Python ints where known, scalar tensors elsewhere."""
    static = x.shape.as_list()
    if None not in static:
        return tuple(static)
    dynamic = tf.shape(x)
    return tuple(dynamic[k] if size is None else size for k, size in enumerate(static))


# gather and scatter-add, each the adjoint of the other: derivatives of any order stay dense, while the adjoint of
# tf.gather is IndexedSlices


@tf.custom_gradient
def _gather(x: Any, indices: Any) -> Any:
    def adjoint(g: Any) -> Any:
        return _scatter(g, indices, shape(x)[0]), None

    return tf.gather(x, indices), adjoint


@tf.custom_gradient
def _scatter(rows: Any, segments: Any, num: Any) -> Any:
    def adjoint(g: Any) -> Any:
        return _gather(g, segments), None, None

    return tf.math.unsorted_segment_sum(rows, segments, num), adjoint


def _take(x: Any, indices: Any, *, axis: int) -> Any:
    assert axis == 0
    x = tf.convert_to_tensor(x)
    out = _gather(x, indices)
    return tf.ensure_shape(out, [*indices.shape.as_list(), *x.shape.as_list()[1:]])


def _segment_sum(rows: Any, segments: Any, num: Any) -> Any:
    out = _scatter(rows, segments, num)
    return tf.ensure_shape(out, [num if isinstance(num, int) else None, *rows.shape.as_list()[1:]])


def _sum(x: Any, *, axis: int | None = None, keepdims: bool = False) -> Any:
    return tf.reduce_sum(x, axis=axis, keepdims=keepdims)


def _concat(arrays: Sequence[Any], *, axis: int) -> Any:
    return arrays[0] if len(arrays) == 1 else tf.concat(list(arrays), axis=axis)


def _matrix_transpose(x: Any) -> Any:
    out = tf.linalg.matrix_transpose(x)
    out.transpose_of = x
    return out


def _matmul(a: Any, b: Any) -> Any:
    """Matrix product; a stack times one matrix is folded into one product, which TensorFlow does not do by itself.

    A transposed factor enters untransposed with a flag, because the derivative would store the transposed array.
    """
    if len(a.shape) > 2 and len(b.shape) > 2:
        left, right = getattr(a, "transpose_of", None), getattr(b, "transpose_of", None)
        flags = {"transpose_a": left is not None, "transpose_b": right is not None}
        return tf.matmul(a if left is None else left, b if right is None else right, **flags)
    if len(a.shape) > 2 and len(b.shape) == 2:
        sizes = shape(a)
        return tf.reshape(tf.matmul(tf.reshape(a, [-1, sizes[-1]]), b), [*sizes[:-1], shape(b)[-1]])
    return tf.matmul(a, b)


def _argsort(x: Any, *, axis: int) -> Any:
    return tf.cast(tf.argsort(x, axis=axis, stable=True), tf.int64)


def _nonzero(x: Any) -> tuple[Any, ...]:
    return tuple(tf.unstack(tf.where(x), num=len(x.shape), axis=1))


def _searchsorted(x: Any, values: Any, *, side: str) -> Any:
    """Positions of values (P,) in sorted x (A,); `tf.searchsorted` fails for P = 0."""
    op = tf.raw_ops.LowerBound if side == "left" else tf.raw_ops.UpperBound
    return op(sorted_inputs=x[None, :], values=values[None, :], out_type=tf.int64)[0]


def require(condition: Any, *data: Any) -> Any:
    """Make the check that stops a run: a plain operation, where `tf.debugging.Assert` would add functions."""
    return tf.raw_ops.Assert(condition=condition, data=list(data), name="check")


def _checked(x: Any, valid: Any, text: str) -> Any:
    """Return x after a check that stops the run and tells the first entry that is not valid."""
    data = [text, tf.where(tf.logical_not(valid))[0:1, 0]] if valid.shape.rank else [text]
    with tf.control_dependencies([require(tf.reduce_all(valid), *data)]):
        return tf.identity(x)


def _size(x: Any, axis: int) -> Any:
    static = x.shape.as_list()[axis]
    return tf.shape(x, out_type=tf.int64)[axis] if static is None else static


def _chebyshev_rows(first: Any, second: Any, factor: Any, count: int) -> Any:
    """Return the terms y_k = factor y_{k-1} - y_{k-2} of a Chebyshev recurrence (N, count, M), without derivatives.

    Nothing differentiates the terms (docs/design.md#embedding-nets-as-expansions). Without the custom gradient
    TensorFlow would build the derivative of each term all the same.
    """

    @tf.custom_gradient
    def terms(*start: Any) -> Any:
        each = [*start[:2]]
        for _ in range(2, count):
            each.append(start[2] * each[-1] - each[-2])
        return tf.stack(each[:count], axis=1), lambda _: (None, None, None)

    return terms(first, second, factor)


xp: Any = SimpleNamespace(
    abs=tf.abs,
    argsort=_argsort,
    astype=tf.cast,
    bfloat16=tf.bfloat16,
    ceil=tf.math.ceil,
    checked=_checked,
    concat=_concat,
    counting=lambda size, *, like: tf.range(tf.cast(size, tf.int64)),
    cumulative_sum=lambda x, *, axis: tf.cumsum(x, axis=axis),
    equal=lambda x, y: tf.equal(x, tf.cast(y, x.dtype)),
    exp=tf.exp,
    expand_dims=lambda x, *, axis: tf.expand_dims(x, axis),
    float16=tf.float16,
    float32=tf.float32,
    float64=tf.float64,
    floor=tf.floor,
    int64=tf.int64,
    log1p=tf.math.log1p,
    logical_and=tf.logical_and,
    logical_not=tf.logical_not,
    matmul=_matmul,
    matrix_transpose=_matrix_transpose,
    max=lambda x, *, axis: tf.reduce_max(x, axis=axis),
    maximum=tf.maximum,
    minimum=tf.minimum,
    nonzero=_nonzero,
    ones_like=tf.ones_like,
    halo_exchange=lambda x: x,
    chebyshev_rows=_chebyshev_rows,
    reshape=tf.reshape,
    searchsorted=_searchsorted,
    segment_sum=_segment_sum,
    shape=shape,
    sigmoid=tf.sigmoid,
    silut=lambda x, threshold: composed_silut(x, threshold, xp=xp),
    size=_size,
    softmax=tf.nn.softmax,
    split=lambda x, sizes, *, axis: tf.split(x, list(sizes), axis=axis),
    sqrt=tf.sqrt,
    square=tf.square,
    stack=lambda arrays, *, axis: tf.stack(list(arrays), axis=axis),
    stop_gradient=tf.stop_gradient,
    sum=_sum,
    take=_take,
    tanh=tf.tanh,
    unstack=lambda x, *, axis: tf.unstack(x, axis=axis),
    where=tf.where,
    with_adjoint=None,
    zeros_like=tf.zeros_like,
)
"""Every name of `deepmd.array_model.namespace.REQUIRED` and `deepmd.data.search.SEARCH`."""


def _with_adjoint(function: Any, x: Any) -> Any:
    return tf.custom_gradient(function)(x)


inference = SimpleNamespace(**{**vars(xp), "with_adjoint": _with_adjoint})
"""`xp` for evaluations: written-out adjoints, because evaluations are differentiated once only."""

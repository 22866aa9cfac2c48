"""Array namespace of NumPy, `plain`: initial weights, statistics, reference evaluation; imports no framework.

`numpy_namespace` also serves packages that wrap NumPy (adapters/numpy). Required names: array_model/namespace.py.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from array_api_compat import numpy as standard

from deepmd.array_model.attention import composed_softmax
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import REQUIRED, STANDARD
from deepmd.array_model.neighbours import spans
from deepmd.array_model.networks import composed_silut


def shape(x: Any) -> tuple[int, ...]:
    """Return the sizes of an array."""
    return tuple(x.shape)


def segment_sum(rows: np.ndarray, segments: np.ndarray, num: int) -> np.ndarray:
    """Scatter-add: sum rows (P, ...) by segment number (P,) into (num, ...)."""
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    out = np.empty((num, flat.shape[1]), dtype=rows.dtype)
    for column in range(flat.shape[1]):  # np.bincount takes one column of weights, and sums in float64
        out[:, column] = np.bincount(segments, weights=flat[:, column], minlength=num)
    return out.reshape(num, *rows.shape[1:])


def _astype(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def split(x: Any, sizes: tuple[int, ...], *, axis: int) -> list[Any]:
    """Split an array along an axis into runs of the given sizes."""
    before = (slice(None),) * axis
    return [x[(*before, slice(start, stop))] for start, stop in spans(sizes)]


def chebyshev_rows(first: np.ndarray, second: np.ndarray, factor: np.ndarray, count: int) -> np.ndarray:
    """Three-term recurrence y_{k+1} = factor * y_k - y_{k-1} of y_0 and y_1 (N, M): all terms as (N, count, M)."""
    out = np.empty((len(first), count, first.shape[1]), dtype=first.dtype)
    for k in range(count):
        if k < 2:
            out[:, k] = second if k else first
        else:
            np.multiply(factor, out[:, k - 1], out=out[:, k])
            out[:, k] -= out[:, k - 2]
    return out


def folded_matmul(matmul: Any) -> Any:
    """Return a matmul that computes a stack (..., M, K) times a matrix (K, N) as one product of two matrices.

    NumPy would call BLAS once for each matrix of the stack.
    """

    def product(a: Any, b: Any) -> Any:
        if len(a.shape) > 2 and len(b.shape) == 2:
            return matmul(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
        return matmul(a, b)

    return product


def numpy_namespace(standard: Any, **own: Any) -> SimpleNamespace:
    """Return the namespace of physics over NumPy, or over a package that wraps NumPy.

    Parameters
    ----------
    standard : module with the names of the array API standard
    own : names that replace or extend those of `standard`
    """
    names: dict[str, Any] = {
        "astype": _astype,  # no copy if the dtype is right already
        "bfloat16": np.float32,
        "float16": np.float16,
        "matmul": folded_matmul(standard.matmul),
        "halo_exchange": lambda x: x,
        "chebyshev_rows": chebyshev_rows,
        "shape": shape,
        "sigmoid": lambda x: 0.5 * (1.0 + standard.tanh(0.5 * x)),
        "silut": lambda x, threshold: composed_silut(x, threshold, xp=SimpleNamespace(**names)),
        "softmax": lambda x: composed_softmax(x, xp=SimpleNamespace(**names)),
        "split": split,
        "stop_gradient": lambda x: x,
        "with_adjoint": None,
    }
    names.update(own)
    # looked up only if not replaced, because a wrapper of NumPy 1.26 lacks some names of the standard
    names.update({name: getattr(standard, name) for name in STANDARD if name not in names})
    assert set(REQUIRED) <= set(names), set(REQUIRED) - set(names)
    return SimpleNamespace(**names)


def _counting(size: int, *, like: np.ndarray) -> np.ndarray:
    """Return 0, 1, ..., size - 1; NumPy needs no `like`, which names the device."""
    return np.arange(size, dtype=np.int64)


def _checked(x: np.ndarray, valid: Any, text: str) -> np.ndarray:
    """Return x; raise InputError with the text, and the position of the first false entry, unless `valid` is true."""
    if not np.all(valid):
        raise InputError(f"{text} {np.argmin(valid)}" if np.ndim(valid) else text)
    return x


plain = numpy_namespace(
    standard,
    argsort=standard.argsort,
    asarray=np.asarray,
    ceil=standard.ceil,
    checked=_checked,
    counting=_counting,
    cumulative_sum=standard.cumulative_sum,
    nonzero=standard.nonzero,
    searchsorted=np.searchsorted,
    segment_sum=segment_sum,
    size=lambda x, axis: x.shape[axis],
)
"""NumPy with every name of `deepmd.array_model.namespace.REQUIRED` and `deepmd.data.search.SEARCH`."""

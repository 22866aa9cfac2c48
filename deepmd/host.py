"""NumPy as the namespace of physics on the host: initial weights, statistics, the reference evaluation."""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from deepmd.array_model.attention import composed_softmax
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import REQUIRED, STANDARD
from deepmd.array_model.networks import composed_silut
from deepmd.array_model.pairs import spans


def keep_memory() -> None:
    """Let the process keep the memory of freed arrays for the next ones.

    The allocator of glibc hands large blocks back to the system at once and faults them in again, page by page, at
    every step: up to half of the time. Settings of the user (`MALLOC_...` in the environment) come first; elsewhere
    than on glibc nothing happens.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, size in ((mmap_threshold, 2**30), (trim_threshold, 2**31 - 1), (top_pad, 2**26)):
        mallopt(parameter, size)


INTRA, INTER = "DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS"
"""Variables of the environment: threads inside of an operation, operations at once."""


def threads(name: str) -> int:
    """Return the number of threads that a variable of the environment asks for, 0 if it leaves that to the framework.

    Raises
    ------
    InputError
        It is no number of threads.
    """
    given = os.environ.get(name, "").strip()
    try:
        number = int(given.split(",")[0] or "0")  # OMP_NUM_THREADS may name a number for each nested level
    except ValueError:
        number = -1
    if number < 0:
        raise InputError(
            f"{name}: a number of threads is accepted (0: the default of the framework); in the environment it is {given!r}"
        )
    return number


def import_without(name: str, other: str) -> Any:
    """Import a package as if another one, which it can use but need not, were not installed.

    Unless that one is there already.
    """
    if name in sys.modules or other in sys.modules:
        return importlib.import_module(name)
    sys.modules[other] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[other]


def shape(x: Any) -> tuple[int, ...]:
    """Sizes of an array."""
    return tuple(x.shape)


def segment_sum(rows: np.ndarray, segments: np.ndarray, num: int) -> np.ndarray:
    """Sum rows (P, ...) by segment number (P,) into (num, ...)."""
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    out = np.empty((num, flat.shape[1]), dtype=rows.dtype)
    for column in range(flat.shape[1]):
        out[:, column] = np.bincount(segments, weights=flat[:, column], minlength=num)
    return out.reshape(num, *rows.shape[1:])


def _take(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    assert axis == 0
    return np.take(x, indices, axis=0)


def _astype(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def split(x: Any, sizes: tuple[int, ...], *, axis: int) -> list[Any]:
    """Cut an array into runs of the given sizes along an axis."""
    before = (slice(None),) * axis
    return [x[(*before, slice(start, stop))] for start, stop in spans(sizes)]


def recurrence(first: np.ndarray, second: np.ndarray, factor: np.ndarray, count: int) -> np.ndarray:
    """Terms y_0, y_1, y_{k+1} = factor * y_k - y_{k-1} of arrays (N, M), stacked as (N, count, M)."""
    out = np.empty((len(first), count, first.shape[1]), dtype=first.dtype)
    for k in range(count):
        if k < 2:
            out[:, k] = second if k else first
        else:
            np.multiply(factor, out[:, k - 1], out=out[:, k])
            out[:, k] -= out[:, k - 2]
    return out


def folded_matmul(matmul: Any) -> Any:
    """Return a matmul that folds the leading axes of a stack times a matrix into one product."""

    def product(a: Any, b: Any) -> Any:
        if len(a.shape) > 2 and len(b.shape) == 2:
            return matmul(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
        return matmul(a, b)

    return product


def numpy_namespace(source: Any, **own: Any) -> SimpleNamespace:
    """Return a namespace over `numpy` or a package that wraps it; `own` replaces names."""
    names = {name: getattr(source, name) for name in STANDARD if hasattr(source, name)}
    names.update(float16=np.float16, float32=np.float32, float64=np.float64, bfloat16=np.float32, shape=shape)
    names.update(
        concat=source.concatenate,
        sum=source.sum,
        matrix_transpose=lambda x: source.swapaxes(x, -1, -2),
        received=lambda x: x,
    )
    names.update(
        matmul=folded_matmul(source.matmul), astype=_astype, sigmoid=lambda x: 0.5 * (1.0 + source.tanh(0.5 * x))
    )
    names.update(
        recurrence=recurrence,
        split=split,
        unstack=lambda x, *, axis: [x[..., k] for k in range(x.shape[axis])],
        stop_gradient=lambda x: x,
        with_adjoint=None,
    )
    names.update(silut=lambda x, threshold: composed_silut(x, threshold, xp=SimpleNamespace(**names)))
    names.update(softmax=lambda x: composed_softmax(x, xp=SimpleNamespace(**names)), **own)
    assert set(REQUIRED) <= set(names), set(REQUIRED) - set(names)
    return SimpleNamespace(**names)


def _counting(size: int, *, like: np.ndarray) -> np.ndarray:
    """Return 0, 1, ..., size - 1."""
    return np.arange(size, dtype=np.int64)


def _checked(x: np.ndarray, right: Any, text: str) -> np.ndarray:
    """Return x, or raise InputError where anything is not right."""
    if not np.all(right):
        raise InputError(f"{text} {np.argmin(right)}" if np.ndim(right) else text)
    return x


_search = {
    "argsort": lambda x, *, axis: np.argsort(x, axis=axis, kind="stable"),
    "ceil": np.ceil,
    "checked": _checked,
    "counting": _counting,
    "cumulative_sum": lambda x, *, axis: np.cumsum(x, axis=axis),
    "floor": np.floor,
    "int64": np.int64,
    "nonzero": np.nonzero,
    "searchsorted": lambda x, values, *, side: np.searchsorted(x, values, side=side),
    "size": lambda x, axis: x.shape[axis],
}

plain = numpy_namespace(np, take=_take, segment_sum=segment_sum, asarray=np.asarray, **_search)

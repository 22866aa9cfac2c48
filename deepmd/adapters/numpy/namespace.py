"""NumPy as the namespace of physics, plain and (for derivatives) wrapped by the `autograd` package."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive

from deepmd.array_model.namespace import REQUIRED, STANDARD


def shape(x: Any) -> tuple[int, ...]:
    """Sizes of an array."""
    return tuple(x.shape)


def segment_sum(rows: np.ndarray, segments: np.ndarray, num: int) -> np.ndarray:
    """Sum rows (P, ...) by segment number (P,) into (num, ...)."""
    flat = rows.reshape(len(rows), -1)
    out = np.empty((num, flat.shape[1]), dtype=rows.dtype)
    for column in range(flat.shape[1]):
        out[:, column] = np.bincount(segments, weights=flat[:, column], minlength=num)
    return out.reshape(num, *rows.shape[1:])


def _take(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    assert axis == 0
    return np.take(x, indices, axis=0)


def _astype(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def _namespace(source: Any, **own: Any) -> SimpleNamespace:
    names = {name: getattr(source, name) for name in STANDARD if hasattr(source, name)}
    names.update(float16=np.float16, float32=np.float32, float64=np.float64, bfloat16=np.float32, shape=shape)
    names.update(concat=source.concatenate, sum=source.sum, matrix_transpose=lambda x: source.swapaxes(x, -1, -2))
    names.update(astype=_astype, sigmoid=lambda x: 0.5 * (1.0 + source.tanh(0.5 * x)))
    names.update(own)
    assert set(REQUIRED) <= set(names), set(REQUIRED) - set(names)
    return SimpleNamespace(**names)


plain = _namespace(np, take=_take, segment_sum=segment_sum)

# autograd differentiates through indexing by scatter; take and segment_sum are each other's adjoint instead
_take_rows = primitive(lambda x, indices: np.take(x, indices, axis=0))
_segment_sum = primitive(segment_sum)
defvjp(_take_rows, lambda ans, x, indices: lambda g: _segment_sum(g, indices, x.shape[0]), argnums=(0,))
defvjp(_segment_sum, lambda ans, rows, segments, num: lambda g: _take_rows(g, segments), argnums=(0,))


differentiable = _namespace(
    anp,
    take=lambda x, indices, *, axis: _take_rows(x, indices),
    segment_sum=_segment_sum,
    equal=np.equal,
    logical_and=np.logical_and,
    logical_not=np.logical_not,
)

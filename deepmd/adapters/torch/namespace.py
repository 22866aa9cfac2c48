"""torch as the namespace of physics and of the neighbour search: `xp`, and `inference` for evaluations.

`with_adjoint` and `segment_sum` are others in evaluations; `silut`, `chebyshev_rows` and `checked` in traces.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from array_api_compat import torch as standard

from deepmd.adapters.torch.arrays import to_numpy
from deepmd.adapters.torch.device import CPU
from deepmd.adapters.torch.silut import silut
from deepmd.array_model.namespace import STANDARD
from deepmd.array_model.networks import composed_silut
from deepmd.host import segment_sum


def _take(x: torch.Tensor, indices: torch.Tensor, *, axis: int) -> torch.Tensor:
    """Gather rows, without the standard's pass over negative indices, because physics has none."""
    assert axis == 0
    return torch.index_select(x, 0, indices)


def _segment_sum(rows: torch.Tensor, segments: torch.Tensor, num: Any) -> torch.Tensor:
    return rows.new_zeros((num, *rows.shape[1:])).index_add(0, segments, rows)


def _concat(arrays: Sequence[torch.Tensor], *, axis: int) -> torch.Tensor:
    """Concatenate arrays; a single array is returned without a copy."""
    return arrays[0] if len(arrays) == 1 else torch.cat(list(arrays), dim=axis)


def _argsort(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """Sort as the standard does, stably; array-api-compat 1.12 does not."""
    return torch.argsort(x, dim=axis, stable=True)


def _searchsorted(x: torch.Tensor, values: torch.Tensor, *, side: str) -> torch.Tensor:
    """Find positions in sorted values; contiguous copies, because torch warns of other arrays."""
    return torch.searchsorted(x.contiguous(), values.contiguous(), right=side == "right")


def _counting(size: Any, *, like: torch.Tensor) -> torch.Tensor:
    """Return 0, 1, ..., size - 1 on the device of `like`, because a trace would freeze the device of `arange`."""
    return torch.cumsum(like.new_ones((size,), dtype=torch.int64), dim=0) - 1


def _steps(first: torch.Tensor, second: torch.Tensor, factor: torch.Tensor, count: int) -> torch.Tensor:
    """Return the terms y_k = factor y_{k-1} - y_{k-2} of a Chebyshev recurrence (N, count, M), written in place."""
    out = first.new_empty((first.size(0), count, first.size(1)))
    rows = out.unbind(1)
    rows[0].copy_(first)
    if count > 1:
        rows[1].copy_(second)
    for k in range(2, count):
        torch.mul(factor, rows[k - 1], out=rows[k])
        rows[k].sub_(rows[k - 2])
    return out


def _refusing(x: torch.Tensor, valid: torch.Tensor, text: str) -> torch.Tensor:
    """Return x, or raise ValueError with the text and the number of the first entry that is not valid."""
    if not bool(valid.all()):
        raise ValueError(f"{text} {int(valid.to(torch.int64).argmin())}" if valid.dim() > 0 else text)
    return x


@cache
def _compiled(function: Any) -> Any:
    """Compile a function for traces, because an unrolled loop makes files slow to start and a trace cannot raise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.* is deprecated")
        return torch.jit.script(function)


def _chebyshev_rows(first: torch.Tensor, second: torch.Tensor, factor: torch.Tensor, count: int) -> torch.Tensor:
    steps = _compiled(_steps) if torch.jit.is_tracing() else _steps
    out: torch.Tensor = steps(first, second, factor, count)
    return out


def _checked(x: torch.Tensor, valid: torch.Tensor, text: str) -> torch.Tensor:
    refusing = _compiled(_refusing) if torch.jit.is_tracing() else _refusing
    out: torch.Tensor = refusing(x, valid, text)
    return out


xp: Any = SimpleNamespace(
    **{
        **{name: getattr(standard, name) for name in STANDARD},
        "argsort": _argsort,
        "bfloat16": torch.bfloat16,
        "ceil": standard.ceil,
        "checked": _checked,
        "concat": _concat,
        "counting": _counting,
        "cumulative_sum": standard.cumulative_sum,
        "float16": torch.float16,
        "matmul": torch.matmul,  # without the standard's promotion, because precisions agree
        "nonzero": standard.nonzero,
        "halo_exchange": lambda x: x,
        "chebyshev_rows": _chebyshev_rows,
        "searchsorted": _searchsorted,
        "segment_sum": _segment_sum,
        "shape": lambda x: tuple(x.shape),
        "sigmoid": torch.sigmoid,
        "silut": lambda x, threshold: (
            composed_silut(x, threshold, xp=xp) if torch.jit.is_tracing() else silut(x, threshold)
        ),
        "size": lambda x, axis: x.shape[axis],
        "softmax": lambda x: torch.softmax(x, dim=-1),
        "split": lambda x, sizes, *, axis: torch.split_with_sizes(x, list(sizes), dim=axis),
        "stop_gradient": lambda x: x.detach(),
        "take": _take,
        "unstack": lambda x, *, axis: torch.unbind(x, dim=axis),
        "with_adjoint": None,
    }
)
"""Every name of `deepmd.array_model.namespace.REQUIRED` and `deepmd.data.search.SEARCH`."""


class _WithAdjoint(torch.autograd.Function):  # type: ignore[misc]
    """`with_adjoint` of `namespace.EXTRAS`: a value with a written-out vector-Jacobian product."""

    @staticmethod
    def forward(ctx: Any, function: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor
        out, ctx.adjoint = function(x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return None, ctx.adjoint(grad)


def _counted_sum(rows: torch.Tensor, segments: torch.Tensor, num: Any) -> torch.Tensor:
    """Scatter-add; on the processor by NumPy unless the result is differentiated.

    np.bincount with weights is several times as fast as torch's index_add (row eval-192 of docs/benchmarks.md).
    """
    if rows.requires_grad or rows.dtype != torch.float64 or rows.device != CPU:
        return _segment_sum(rows, segments, num)
    return torch.from_numpy(segment_sum(to_numpy(rows), to_numpy(segments), num))


inference = SimpleNamespace(**{**vars(xp), "with_adjoint": _WithAdjoint.apply, "segment_sum": _counted_sum})
"""`xp` for evaluations: written-out adjoints, because evaluations are differentiated once only."""

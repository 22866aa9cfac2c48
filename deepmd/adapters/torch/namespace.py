"""torch as the namespace of physics."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch


def _take(x: torch.Tensor, indices: torch.Tensor, *, axis: int) -> torch.Tensor:
    assert axis == 0
    return torch.index_select(x, 0, indices)


def _segment_sum(rows: torch.Tensor, segments: torch.Tensor, num: Any) -> torch.Tensor:
    zeros = torch.zeros((num, *rows.shape[1:]), dtype=rows.dtype, device=rows.device)
    return zeros.index_add(0, segments, rows)


def _sum(x: torch.Tensor, *, axis: int | None = None, keepdims: bool = False) -> torch.Tensor:
    return torch.sum(x) if axis is None else torch.sum(x, dim=axis, keepdim=keepdims)


def _concat(arrays: Sequence[torch.Tensor], *, axis: int) -> torch.Tensor:
    return arrays[0] if len(arrays) == 1 else torch.cat(list(arrays), dim=axis)


xp = SimpleNamespace(
    abs=torch.abs,
    astype=lambda x, dtype: x.to(dtype),
    bfloat16=torch.bfloat16,
    concat=_concat,
    equal=torch.eq,
    exp=torch.exp,
    expand_dims=lambda x, *, axis: torch.unsqueeze(x, axis),
    float16=torch.float16,
    float32=torch.float32,
    float64=torch.float64,
    log1p=torch.log1p,
    logical_and=torch.logical_and,
    logical_not=torch.logical_not,
    matmul=torch.matmul,
    matrix_transpose=lambda x: torch.transpose(x, -1, -2),
    maximum=torch.maximum,
    minimum=torch.minimum,
    ones_like=torch.ones_like,
    reshape=torch.reshape,
    segment_sum=_segment_sum,
    shape=lambda x: tuple(x.shape),
    sigmoid=torch.sigmoid,
    sqrt=torch.sqrt,
    square=torch.square,
    sum=_sum,
    take=_take,
    tanh=torch.tanh,
    where=torch.where,
    zeros_like=torch.zeros_like,
)
"""Every name of `deepmd.array_model.namespace.REQUIRED`."""

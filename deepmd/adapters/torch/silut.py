"""Activation silut with written-out first and second derivatives, which save only the input (docs/theory/networks.md).

The function is `networks.composed_silut`. Time and memory that this saves in DPA-3: docs/benchmarks.md#dpa-2-and-dpa-3.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from deepmd.adapters.torch.device import CPU
from deepmd.array_model.networks import silut_constants


def silut(x: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return silut(x), which is silu below the threshold and a tanh beyond; can be differentiated twice."""
    out: torch.Tensor = _Value.apply(x, threshold)
    return out


def _reached(x: torch.Tensor, threshold: float) -> bool:
    """Return whether any value may be on the tanh branch or be NaN; usually none is, and the branch is skipped.

    On a device the branch is always evaluated, because the answer would wait for the work that is under way.
    """
    if math.isinf(threshold) or x.numel() == 0:
        return False
    return x.device != CPU or not float(x.amax()) < threshold


def _continued(x: torch.Tensor, threshold: float) -> tuple[torch.Tensor, float, float]:
    """Return tanh(a (x - T)), offset c and slope a of the branch tanh(a (x - T)) + c beyond the threshold T."""
    offset, slope = silut_constants(threshold)
    return torch.tanh(slope * (x - threshold)), offset, slope


class _Value(torch.autograd.Function):  # type: ignore[misc]
    """y = silut(x)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, threshold: float) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.threshold = threshold if _reached(x, threshold) else math.inf  # inf: derivatives skip the branch
        y = torch.nn.functional.silu(x)
        if math.isinf(ctx.threshold):
            return y
        t, offset, _ = _continued(x, threshold)
        return torch.where(x < threshold, y, t + offset)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return _Slope.apply(x, g, ctx.threshold), None


def _sloped(x: torch.Tensor, g: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return g silut'(x)."""
    out: torch.Tensor = torch.ops.aten.silu_backward(g, x)
    if math.isinf(threshold):
        return out
    t, _, slope = _continued(x, threshold)
    return torch.where(x < threshold, out, g * (slope * (1.0 - t * t)))


class _Slope(torch.autograd.Function):  # type: ignore[misc]
    """y = g silut'(x), the vector-Jacobian product of silut. Gradients from h = dL/dy: g h silut''(x), h silut'(x)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, g: torch.Tensor, threshold: float) -> torch.Tensor:
        ctx.save_for_backward(x, g)
        ctx.threshold = threshold
        return _sloped(x, g, threshold)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, h: torch.Tensor) -> Any:
        x, g = ctx.saved_tensors
        s = torch.sigmoid(x)
        curvature = torch.mul(s, -2.0).add_(1.0).mul_(x).add_(2.0)  # silu'' = s (1 - s) (2 + x (1 - 2 s))
        curvature.mul_(s).mul_(s.neg_().add_(1.0))
        if not math.isinf(ctx.threshold):
            t, _, slope = _continued(x, ctx.threshold)
            # with t = tanh(a (x - T)): (a (1 - t^2))' = -2 a^2 t (1 - t^2)
            curvature = torch.where(x < ctx.threshold, curvature, -2.0 * slope**2 * t * (1.0 - t * t))
        return curvature.mul_(g).mul_(h), _sloped(x, h, ctx.threshold), None

"""torch's own activation of two branches: value, first and second derivative are those of the formula."""

from __future__ import annotations

import math

import pytest
from support import require
from tolerances import assert_close

from deepmd.array_model.networks import composed_silut


@pytest.mark.parametrize("threshold", [math.inf, 10.0, 1.5])
def test_twice_differentiated(threshold):
    torch = require("torch")
    from deepmd.adapters.torch.namespace import xp

    results = []
    for function in (xp.silut, lambda x, threshold: composed_silut(x, threshold, xp=xp)):
        generator = torch.Generator().manual_seed(0)
        x = (3.0 * torch.randn((7, 5), generator=generator, dtype=torch.float64)).requires_grad_()
        weight = torch.randn((7, 5), generator=generator, dtype=torch.float64).requires_grad_()
        y = function(x, threshold)
        (first,) = torch.autograd.grad((weight * y).sum(), x, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), (x, weight))
        results.append([y, first, *second])
    for found, expected in zip(*results, strict=True):
        assert_close(found.detach().numpy(), expected.detach().numpy(), "golden")


def test_nothing():
    torch = require("torch")
    from deepmd.adapters.torch.namespace import xp

    x = torch.zeros((0, 3), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(xp.silut(x, 3.0).sum(), x)
    assert slope.shape == (0, 3)

"""Switch and environment rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import TOLERANCES, assert_close

from deepmd.array_model.environment import environment_adjoint, environment_columns, environment_rows, switch
from deepmd.host import plain

DISP = np.random.default_rng(1).normal(size=(4, 3, 3)) * np.array([0.2, 1.0, 3.0])[:, None]


def slow_rows(disp, rcut_smth, rcut, protection):
    """The definition, one vector at a time."""
    out = np.zeros((*disp.shape[:-1], 4))
    for place in np.ndindex(disp.shape[:-1]):
        x, y, z = disp[place]
        r = (x * x + y * y + z * z) ** 0.5
        u = (r - rcut_smth) / (rcut - rcut_smth)
        w = 1.0 if u < 0.0 else 0.0 if u >= 1.0 else 1.0 - 10.0 * u**3 + 15.0 * u**4 - 6.0 * u**5
        q = r + protection
        out[place] = [w / q, w * x / q**2, w * y / q**2, w * z / q**2]
    return out


@pytest.mark.parametrize("protection", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_equal_slow_twin(run, protection, dtype):
    function = partial(environment_rows, rcut_smth=0.5, rcut=3.0, protection=protection)
    rows = run(function, DISP.astype(dtype), dynamic=2)
    assert rows.dtype == dtype
    assert_close(rows, slow_rows(DISP, 0.5, 3.0, protection), "function", dtype)


@pytest.mark.parametrize("protection", [0.0, 0.1])
def test_columns_equal_slow_twin(run, protection):
    columns = run(partial(environment_columns, rcut_smth=0.5, rcut=3.0, protection=protection), DISP, dynamic=2)
    assert len(columns) == 4
    for column, expected in zip(columns, np.moveaxis(slow_rows(DISP, 0.5, 3.0, protection), -1, 0), strict=True):
        assert_close(column, expected, "function")


@pytest.mark.parametrize("protection", [0.0, 0.1])
def test_the_written_adjoint_is_that_of_the_rows(run, protection):
    weights = np.random.default_rng(2).normal(size=(4, 4, 3))

    def function(disp, weights, *, xp):
        rows, adjoint = environment_adjoint(disp, 0.5, 3.0, protection, xp=xp)
        return [
            rows,
            adjoint(0.0 * weights[:, 0, :], weights),
            adjoint(weights[:, 0, :]),
            adjoint(weights[:, 0, :], 0.0 * weights),
        ]

    rows, gradient, radial, padded = run(function, DISP, weights)
    assert_close(radial, padded, "function")
    assert_close(rows, np.swapaxes(slow_rows(DISP, 0.5, 3.0, protection), 1, 2), "function")
    expected = np.zeros_like(DISP)
    for place in np.ndindex(DISP.shape):
        shift = np.zeros_like(DISP)
        shift[place] = 1e-5
        sides = [
            np.sum(weights * np.swapaxes(slow_rows(DISP + sign * shift, 0.5, 3.0, protection), 1, 2))
            for sign in (1, -1)
        ]
        expected[place] = (sides[0] - sides[1]) / 2e-5
    assert_close(gradient, expected, "finite difference")


def test_switch_is_one_inside_and_zero_outside(run):
    inside, outside = np.array([0.01, 0.5, 1.0]), np.array([3.0, 3.0001, 6.0])
    function = partial(switch, rcut_smth=1.0, rcut=3.0)
    assert np.array_equal(run(function, inside), np.ones(3))
    assert np.array_equal(run(function, outside), np.zeros(3))


def test_empty_slots_have_no_rows(run):
    rows = run(partial(environment_rows, rcut_smth=0.5, rcut=3.0, protection=0.0), np.array([[[6.0, 0.0, 0.0]]]))
    assert np.array_equal(rows, np.zeros((1, 1, 4)))


@given(st.floats(0.0, 8.0), st.floats(0.0, 8.0))
def test_switch_falls_monotonically(first, second):
    near, far = sorted((first, second))
    high, low = switch(np.array([near, far]), 0.7, 5.0, xp=plain)
    assert 1.0 >= high >= low - TOLERANCES["float64"]["function"]
    assert low >= -TOLERANCES["float64"]["function"]


@pytest.mark.parametrize("edge", [1.0, 3.0])
def test_switch_is_twice_differentiable(edge):
    """One-sided second differences agree at both ends as the step shrinks."""

    def second(step, side):
        r = edge + side * step * np.arange(3)
        return np.diff(switch(r, 1.0, 3.0, xp=plain), n=2)[0] / step**2

    for side in (-1.0, 1.0):
        assert abs(second(1e-3, side)) < abs(second(1e-2, side)) * 0.2 + TOLERANCES["float64"]["finite difference"]

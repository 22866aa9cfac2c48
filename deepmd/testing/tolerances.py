"""The one table of tolerances: by precision and by quantity."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCES = {
    "float64": {
        "function": 1e-13,
        "energy": 1e-12,
        "descriptor": 1e-12,
        "force": 1e-11,
        "virial": 1e-11,
        "finite difference": 1e-6,
        "order": 1e-9,
        "golden": 1e-10,
        "spectral": 1e-10,
        "gradient": 1e-8,
    },
    "float32": {
        "function": 1e-6,
        "energy": 1e-5,
        "descriptor": 1e-5,
        "force": 1e-4,
        "virial": 1e-4,
        "finite difference": 2e-2,
        "golden": 1e-4,
        "spectral": 2e-5,
    },
    "float16": {"function": 1e-3, "energy": 2e-2, "descriptor": 2e-2, "force": 5e-2, "virial": 5e-2},
    "bfloat16": {"function": 1e-2, "energy": 1e-1, "descriptor": 1e-1, "force": 5e-1, "virial": 5e-1},
}
"""Largest difference relative to the largest expected value, for each precision and quantity."""

FLOOR = 1e-2
"""Smallest scale (eV, eV/Angstrom) that differences are relative to, because forces that cancel are not quite zero."""


def assert_close(
    actual: Any, expected: Any, quantity: str, dtype: str = "float64", *, floor: float = FLOOR, what: str = ""
) -> None:
    """Compare shapes, then values, at the tolerance of a quantity in a precision.

    Raises
    ------
    AssertionError
        The arrays differ; the message tells how much and where.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    label = f"{what}: {quantity}" if what else quantity
    assert actual.shape == expected.shape, f"{label}: shape {actual.shape}, expected {expected.shape}"
    if not expected.size:
        return
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    assert np.all(np.isfinite(actual)), f"{label}: not finite"
    difference = np.abs(actual - expected)
    allowed = TOLERANCES[dtype][quantity] * max(float(np.abs(expected).max()), floor)
    where = tuple(int(k) for k in np.unravel_index(difference.argmax(), difference.shape))
    assert difference.max() <= allowed, (
        f"{label}: differs by {difference.max():.3g} at {where}, allowed are {allowed:.3g} ({dtype})"
    )

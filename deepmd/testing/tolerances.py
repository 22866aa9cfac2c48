"""Tolerances of all comparisons, by precision and quantity."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCES = {
    "float64": {
        "function": 1e-13,  # one function of a namespace, of any unit
        "energy": 1e-12,
        "descriptor": 1e-12,
        "force": 1e-11,
        "virial": 1e-11,
        "finite difference": 1e-6,
        "order": 1e-9,  # distances by which neighbours are sorted
        "golden": 1e-10,  # against stored results of DeePMD-kit
        "spectral": 1e-10,  # expansions of embedding nets against the nets
        "gradient": 1e-8,  # derivatives of a loss by parameters
        "processes": 1e-10,  # a training by several processes against that by one
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
    "bfloat16": {"function": 1e-2, "energy": 1e-1, "descriptor": 1e-1, "force": 3e-1, "virial": 3e-1},
}
"""Largest difference relative to the largest expected value, for each precision and quantity.

Measured on the models of tests/consistency: bfloat16 forces differ by 0.21 of the largest, energies by 0.02.
"""

BY_COMPONENT = ("energy", "descriptor", "force", "virial", "golden")
"""Quantities whose components (last axis) are each relative to their own largest value: features, virial entries."""

SMALLEST_SHARE = {"float64": 1e-2, "float32": 1e-2, "float16": 1e-2, "bfloat16": 1.0}
"""Smallest scale of a component relative to the largest.

Rounding errors of terms that cancel are relative to the terms, not to their sum.
"""

FLOOR = 1e-2
"""Smallest scale, in the unit of the quantity, of a relative difference: forces that cancel are not quite zero."""


def assert_close(
    actual: Any, expected: Any, quantity: str, dtype: str = "float64", *, floor: float = FLOOR, what: str = ""
) -> None:
    """Compare shapes, then values, at the tolerance of a quantity in a precision, each component at its own scale."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    label = f"{what}: {quantity}" if what else quantity
    assert actual.shape == expected.shape, f"{label}: shape {actual.shape}, expected {expected.shape}"
    if not expected.size:
        return
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    assert np.all(np.isfinite(expected)), f"{label}: the expected values are not finite"
    assert np.all(np.isfinite(actual)), f"{label}: not finite"
    difference, size = np.abs(actual - expected), np.abs(expected)
    scale = max(float(size.max()), floor)
    if quantity in BY_COMPONENT and size.ndim > 1:
        components = size.reshape(-1, size.shape[-1]).max(axis=0)
        scale = np.maximum(components, max(SMALLEST_SHARE[dtype] * scale, floor))
    allowed = np.broadcast_to(TOLERANCES[dtype][quantity] * scale, size.shape)
    where = tuple(int(k) for k in np.unravel_index((difference - allowed).argmax(), size.shape))
    assert difference[where] <= allowed[where], (
        f"{label}: differs by {difference[where]:.3g} at {where}, allowed are {allowed[where]:.3g} ({dtype})"
    )

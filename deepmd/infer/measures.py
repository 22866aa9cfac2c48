"""Errors of predictions: what they are, and how they are computed."""

from __future__ import annotations

import math

import numpy as np

Errors = dict[str, tuple[float, float]]
"""Mean absolute and root mean square error of each quantity that has labels."""

Details = dict[str, tuple[str, np.ndarray]]
"""For each detail file its column names and its rows: labels, then predictions."""


def mean_errors(label: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Mean absolute and root mean square difference; a mean over nothing is zero."""
    difference = predicted - label
    weight = np.broadcast_to(1.0 if weights is None else weights, difference.shape)
    total = float(weight.sum())
    if total == 0.0:
        return 0.0, 0.0
    return float(np.sum(weight * np.abs(difference))) / total, math.sqrt(float(np.sum(weight * difference**2)) / total)

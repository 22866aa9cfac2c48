"""Chebyshev expansions of functions of one variable: number of terms, matrices of `array_model.spectral`. NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

MOST_TERMS = 512
"""Break-even: with more terms a net is cheaper than its expansion."""


@cache
def nodes(count: int) -> np.ndarray:
    """Return the Chebyshev nodes (K,), the zeros of T_K, at which the expansion of K = `count` terms is exact."""
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


@cache
def transform(count: int) -> np.ndarray:
    """Return the matrix (K, K) from values at the nodes to coefficients.

    c_k = (2 - delta_k0)/K sum_q cos(pi k (2q + 1) / (2K)) f(x_q).
    """
    k, q = np.indices((count, count))
    # angles are reduced as integers, because the cosine of a large angle loses digits
    cosines = np.cos(np.pi * (k * (2 * q + 1) % (4 * count)) / (2 * count))
    return np.where(k == 0, 1.0, 2.0) / count * cosines


@cache
def derivative(count: int) -> np.ndarray:
    """Return the matrix (K, K) from coefficients of a function to coefficients of its derivative.

    T_k' = 2k (T_{k-1} + T_{k-3} + ...), with T_0 halved.
    """
    m, k = np.indices((count, count))
    return np.where((k > m) & ((k - m) % 2 == 1), np.where(m == 0, 1.0, 2.0) * k, 0.0)


@cache
def halves(count: int) -> np.ndarray:
    """Return the matrix (K, K) from coefficients of T_k(x) to K/2 of T_m(y) and K/2 of x T_m(y), with y = 2x^2 - 1.

    Even terms: T_{2j}(x) = T_j(y). Odd terms: T_{2j+1}(x) = x (2 T_j(y) - 2 T_{j-1}(y) + ... +- T_0(y)), because
    T_{2j+1} + T_{2j-1} = 2x T_{2j}.
    """
    assert count % 2 == 0
    m, k = np.indices((count // 2, count))
    odd = np.where((k % 2 == 1) & (k // 2 >= m), np.where(m == 0, 1.0, 2.0) * (-1.0) ** (k // 2 - m), 0.0)
    return np.concatenate([np.where(k == 2 * m, 1.0, 0.0), odd])


def terms_needed(values: Callable[[np.ndarray], np.ndarray], tolerance: float) -> int | None:
    """Return the number of terms, a multiple of 8, that represent functions on [-1, 1] to a tolerance.

    None if more than `MOST_TERMS` are needed, or if values are not finite. `values(nodes)` returns the functions
    (len(nodes), columns). Coefficients c_k are neglected from where k^2 |c_k| stays below `tolerance` times the largest
    k^2 |c_k|, because slopes obey |T_k'| <= k^2.
    """
    count = 64
    while count <= 2 * MOST_TERMS:
        at_nodes = values(nodes(count))
        if not np.all(np.isfinite(at_nodes)):
            return None
        sizes = np.abs(transform(count) @ at_nodes).max(axis=1)
        weighted = sizes * np.maximum(np.arange(count), 1) ** 2
        beyond = np.flatnonzero(weighted > tolerance * weighted.max())
        needed = int(beyond.max(initial=0)) + 1
        if needed <= min(count // 2, MOST_TERMS):
            return 8 * math.ceil(needed / 8)
        count *= 2
    return None


def constants(count: int) -> np.ndarray:
    """Return the matrix (2K, K) from values at the nodes to the coefficients that contract `spectral.moments`.

    The first K rows are for values, the others for slopes.
    """
    value = transform(count)
    return np.concatenate([halves(count) @ value, halves(count) @ (derivative(count) @ value)])

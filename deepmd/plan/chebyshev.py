"""Chebyshev expansions of functions of one number: number of terms, and constants of the evaluation in `spectral`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

MOST_TERMS = 512
"""Beyond this many terms a net is cheaper than its expansion."""


@cache
def nodes(count: int) -> np.ndarray:
    """Return the zeros of T_count (K,), where an expansion of `count` terms is exact."""
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


@cache
def transform(count: int) -> np.ndarray:
    """Return the matrix (K, K) from values at the nodes to coefficients."""
    k, q = np.indices((count, count))
    # angles are reduced as integers: the cosine of a large angle would cost digits
    cosines = np.cos(np.pi * (k * (2 * q + 1) % (4 * count)) / (2 * count))
    return np.where(k == 0, 1.0, 2.0) / count * cosines


@cache
def derivative(count: int) -> np.ndarray:
    """Return the matrix (K, K) from coefficients to those of the derivative.

    T_k' = 2k (T_{k-1} + T_{k-3} + ...), with T_0 halved.
    """
    m, k = np.indices((count, count))
    return np.where((k > m) & ((k - m) % 2 == 1), np.where(m == 0, 1.0, 2.0) * k, 0.0)


@cache
def halves(count: int) -> np.ndarray:
    """Return the matrix (K, K) from coefficients of T_k(x) to those of T_m(y), then those of x T_m(y); `count` is even.

    T_{2j+1}(x) = x (2 T_j(y) - 2 T_{j-1}(y) + ... +- T_0(y)), since T_{2j+1} + T_{2j-1} = 2x T_{2j}.
    """
    assert count % 2 == 0
    m, k = np.indices((count // 2, count))
    odd = np.where((k % 2 == 1) & (k // 2 >= m), np.where(m == 0, 1.0, 2.0) * (-1.0) ** (k // 2 - m), 0.0)
    return np.concatenate([np.where(k == 2 * m, 1.0, 0.0), odd])


def terms_needed(values: Callable[[np.ndarray], np.ndarray], tolerance: float) -> int | None:
    """Return how many terms represent a function on [-1, 1] to a tolerance, a multiple of 8.

    None if more than `MOST_TERMS` are needed.

    `values(nodes)` gives the function, (len(nodes), columns); every column must be represented.
    """
    count = 64
    while count <= 2 * MOST_TERMS:
        sizes = np.abs(transform(count) @ values(nodes(count))).max(axis=1)
        weighted = sizes * np.maximum(np.arange(count), 1) ** 2
        beyond = np.flatnonzero(~(weighted <= tolerance * weighted.max()))  # NaN is beyond everything
        needed = int(beyond.max(initial=0)) + 1
        if needed <= min(count // 2, MOST_TERMS):
            return 8 * math.ceil(needed / 8)
        count *= 2
    return None


def constants(count: int) -> np.ndarray:
    """Return the matrix (2K, K) from values at the nodes to what contracts `spectral.moments`.

    The rows of the values come first, then those of the slopes.
    """
    value = transform(count)
    return np.concatenate([halves(count) @ value, halves(count) @ (derivative(count) @ value)])

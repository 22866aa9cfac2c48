"""Lattices: reduction of skewed cells, distances of lattice planes, number of images within a cutoff."""

from __future__ import annotations

import numpy as np

Vector = tuple[int, int, int]


def spacing(inverse: np.ndarray) -> np.ndarray:
    """Return the distances between lattice planes (3,), Angstrom, from the inverse of a cell."""
    out: np.ndarray = 1.0 / np.sqrt(np.einsum("kl,kl->l", inverse, inverse))
    return out


def reduced(cell: np.ndarray) -> np.ndarray:
    """Return a Minkowski-reduced basis of the lattice in rows (3, 3), Angstrom (Semaev's algorithm).

    A cell that is not skewed is returned unchanged. Neighbours do not depend on the basis, but the number of images to
    search does. The reduction is exact, in integers, because the difference of two long vectors may be as short as
    their rounding.
    """
    if np.prod(np.linalg.norm(cell, axis=1)) <= 2.0 * abs(np.linalg.det(cell)):
        return cell
    ratios = [[float(value).as_integer_ratio() for value in row] for row in cell]
    unit = max(below for row in ratios for _, below in row)  # a power of two, as all are
    u, v, w = ((x[0] * (unit // x[1]), y[0] * (unit // y[1]), z[0] * (unit // z[1])) for x, y, z in ratios)
    while True:
        u, v, w = sorted((u, v, w), key=_square)
        uu, vv, uv, uw, vw = _dot(u, u), _dot(v, v), _dot(u, v), _dot(u, w), _dot(v, w)
        # v minus the nearest multiple of u
        shorter = _sum(v, u, -_rounded(uv, uu))
        if _square(shorter) < vv:
            v = shorter
            continue
        # w minus the lattice point of (u, v) nearest to its projection (normal equations, rounded), or a point around
        area = uu * vv - uv * uv
        x, y = -_rounded(uw * vv - vw * uv, area), -_rounded(vw * uu - uw * uv, area)
        shorter = min((_sum(_sum(w, u, x + k), v, y + m) for k in (-1, 0, 1) for m in (-1, 0, 1)), key=_square)
        if _square(shorter) >= _square(w):
            return np.array([[value / unit for value in row] for row in (u, v, w)])
        w = shorter


def images_within(cell: np.ndarray, cutoff: float) -> float:
    """Return the number of images of an atom within the cutoff (Angstrom), in a reduced cell.

    Above 1,000 the number is a lower bound.
    """
    # lower bound: sums of up to a third of the cutoff along each vector stay inside the sphere
    within = np.prod(2.0 * np.floor(cutoff / (3.0 * np.linalg.norm(cell, axis=1))) + 1.0)
    if within <= 1001.0:
        reach = np.floor(cutoff / spacing(np.linalg.inv(cell)))
        steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1.0) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
        within = np.count_nonzero(np.linalg.norm(steps @ cell, axis=1) < cutoff)
    return float(within - 1)


def _dot(a: Vector, b: Vector) -> int:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _square(a: Vector) -> int:
    return _dot(a, a)


def _sum(a: Vector, b: Vector, factor: int) -> Vector:
    return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]


def _rounded(a: int, b: int) -> int:
    """Return a / b, b > 0, as the nearest integer."""
    return (2 * a + b) // (2 * b)

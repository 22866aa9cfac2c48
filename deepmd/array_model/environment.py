"""Switch function and environment rows (spec core, section 3; Zhang et al., NeurIPS 2018)."""

from __future__ import annotations

from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Pairs, spans


def switch(r: Array, rcut_smth: float, rcut: float, *, xp: Namespace) -> Array:
    """Weight that falls from 1 at `rcut_smth` to 0 at `rcut` (Angstrom), twice continuously differentiable. Same shape as `r`."""
    u = xp.minimum(xp.maximum((r - rcut_smth) / (rcut - rcut_smth), xp.zeros_like(r)), xp.ones_like(r))
    return 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)


def environment_columns(disp: Array, rcut_smth: float, rcut: float, protection: float, *, xp: Namespace) -> list[Array]:
    """Columns of `environment_rows`, each of shape (...): whole arrays per component are what processors are fast at."""
    x, y, z = xp.unstack(disp, axis=-1)
    r = xp.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / (r + protection)
    radial = switch(r, rcut_smth, rcut, xp=xp) * inverse
    angular = radial * inverse
    return [radial, angular * x, angular * y, angular * z]


def environment_adjoint(disp_NM3: Array, rcut_smth: float, rcut: float, protection: float, *, xp: Namespace) -> tuple[Array, Any]:
    """Return `environment_columns` stacked, (N, 4, M), and the function from a gradient of that shape to that of displacements (N, M, 3).

    The derivatives are those of w(r), s = w/(r+p) and s/(r+p) in closed form, fewer operations than a framework makes of it.
    """
    x, y, z = xp.unstack(disp_NM3, axis=-1)
    r = xp.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / (r + protection)
    u = xp.minimum(xp.maximum((r - rcut_smth) * (1.0 / (rcut - rcut_smth)), xp.zeros_like(r)), xp.ones_like(r))
    radial = (1.0 - u * u * u * (10.0 + u * (6.0 * u - 15.0))) * inverse
    angular = radial * inverse
    toward_N3M = xp.matrix_transpose(disp_NM3)
    rows_N4M = xp.concat([xp.expand_dims(radial, axis=1), toward_N3M * xp.expand_dims(angular, axis=1)], axis=1)

    def adjoint(grad_N4M: Array) -> Array:
        slope = (xp.square(u * (1.0 - u)) * (-30.0 / (rcut - rcut_smth)) - radial) * inverse
        grad_N3M = grad_N4M[:, 1:, :]
        along = grad_N4M[:, 0, :] * slope + xp.sum(grad_N3M * toward_N3M, axis=1) * ((slope - angular) * inverse)
        return xp.matrix_transpose(grad_N3M * xp.expand_dims(angular, axis=1) + toward_N3M * xp.expand_dims(along / r, axis=1))

    return rows_N4M, adjoint


def environment_rows(disp: Array, rcut_smth: float, rcut: float, protection: float, *, xp: Namespace) -> Array:
    """Rows w(r) * (1/(r+p), x/(r+p)^2, y/(r+p)^2, z/(r+p)^2) of displacements (..., 3) in Angstrom; shape (..., 4)."""
    return xp.stack(environment_columns(disp, rcut_smth, rcut, protection, xp=xp), axis=-1)


def without_excluded(rows_NM4: Array, pairs: Pairs, exclude_types: tuple[tuple[int, int], ...], *, xp: Namespace) -> Array:
    """Zero the rows of real neighbours whose pair of types is among `exclude_types`; empty slots are never excluded."""
    if not exclude_types:
        return rows_NM4
    parts = []
    for neighbour, (start, stop) in enumerate(spans(pairs.widths)):
        part, mask = rows_NM4[:, start:stop, :], pairs.mask_NM[:, start:stop]
        for centre in sorted({a if b == neighbour else b for a, b in exclude_types if neighbour in (a, b)}):
            hit = xp.logical_and(mask, xp.expand_dims(xp.equal(pairs.type_N, centre), axis=-1))
            part = xp.where(xp.expand_dims(hit, axis=-1), xp.zeros_like(part), part)
        parts.append(part)
    return xp.concat(parts, axis=1)

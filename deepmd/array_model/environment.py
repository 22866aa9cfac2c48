"""Switch function and environment rows (docs/theory/environment.md; Zhang et al., NeurIPS 2018)."""

from __future__ import annotations

from typing import Any

from deepmd.array_model.namespace import Array, Namespace


def switch(r: Array, rcut_smth: float, rcut: float, *, xp: Namespace) -> Array:
    """Switch w(r): 1 below `rcut_smth`, 0 from `rcut` on (Angstrom), twice continuously differentiable."""
    u = xp.minimum(xp.maximum((r - rcut_smth) / (rcut - rcut_smth), xp.zeros_like(r)), xp.ones_like(r))
    return 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)


def environment_columns(disp: Array, rcut_smth: float, rcut: float, protection: float, *, xp: Namespace) -> list[Array]:
    """Columns of `environment_rows`, an array (...) each, because operations on whole columns vectorise."""
    x, y, z = xp.unstack(disp, axis=-1)
    r = xp.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / (r + protection)
    radial = switch(r, rcut_smth, rcut, xp=xp) * inverse
    angular = radial * inverse
    return [radial, angular * x, angular * y, angular * z]


def environment_adjoint(
    disp_NM3: Array, rcut_smth: float, rcut: float, protection: float, *, xp: Namespace
) -> tuple[Array, Any]:
    """Return environment rows (N, 4, M) and their adjoint in closed form (docs/theory/environment.md#environment-rows).

    `adjoint(by_s_NM, by_rows_N4M)` returns the gradient by displacements (N, M, 3) from a gradient by the first column
    s and, unless None, a gradient by all columns. With v the displacement, a = s/(r+p) and `by_rows_N4M` = (g_0, g) the
    result is a g + v/r [(by_s + g_0) ds/dr + (g . v) da/dr]: fewer operations than automatic differentiation takes.
    """
    x, y, z = xp.unstack(disp_NM3, axis=-1)
    r = xp.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / (r + protection)
    u = xp.minimum(xp.maximum((r - rcut_smth) * (1.0 / (rcut - rcut_smth)), xp.zeros_like(r)), xp.ones_like(r))
    radial = (1.0 - u * u * u * (10.0 + u * (6.0 * u - 15.0))) * inverse
    angular = radial * inverse
    toward_N3M = xp.matrix_transpose(disp_NM3)
    rows_N4M = xp.concat([xp.expand_dims(radial, axis=1), toward_N3M * xp.expand_dims(angular, axis=1)], axis=1)

    def adjoint(by_s_NM: Array, by_rows_N4M: Array | None = None) -> Array:
        # ds/dr = (dw/dr - s)/(r+p) with dw/dr = -30 u^2 (1-u)^2/(rcut - rcut_smth); da/dr = (ds/dr - a)/(r+p)
        slope = (xp.square(u * (1.0 - u)) * (-30.0 / (rcut - rcut_smth)) - radial) * inverse
        if by_rows_N4M is None:
            return xp.matrix_transpose(toward_N3M * xp.expand_dims(by_s_NM * slope / r, axis=1))
        by_N3M = by_rows_N4M[:, 1:, :]
        along = (by_s_NM + by_rows_N4M[:, 0, :]) * slope + xp.sum(by_N3M * toward_N3M, axis=1) * (
            (slope - angular) * inverse
        )
        return xp.matrix_transpose(
            by_N3M * xp.expand_dims(angular, axis=1) + toward_N3M * xp.expand_dims(along / r, axis=1)
        )

    return rows_N4M, adjoint


def environment_rows(disp: Array, rcut_smth: float, rcut: float, protection: float, *, xp: Namespace) -> Array:
    """Rows w(r) * (1/(r+p), x/(r+p)^2, y/(r+p)^2, z/(r+p)^2) of displacements (..., 3) in Angstrom; shape (..., 4)."""
    return xp.stack(environment_columns(disp, rcut_smth, rcut, protection, xp=xp), axis=-1)


def normalise_rows(rows_NMC: Array, mean_TMC: Array, std_TMC: Array, type_N: Array, *, xp: Namespace) -> Array:
    """Return (row - mean) / deviation with the statistics of the centre type; M = 1 there: equal in all slots."""
    return (rows_NMC - xp.take(mean_TMC, type_N, axis=0)) / xp.take(std_TMC, type_N, axis=0)

"""Switch function and environment rows (spec core, section 3; Zhang et al., NeurIPS 2018)."""

from __future__ import annotations

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

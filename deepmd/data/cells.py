"""Cells over `xp`, for the search of exported files (`search.py`): inverse, and checks of positions and cells."""

from __future__ import annotations

from deepmd.array_model.namespace import Array, Namespace
from deepmd.data.limits import FARTHEST, FLATTEST

LONGEST_PER_FLATNESS = 4.0 * FARTHEST
"""Largest length of a lattice vector or position, Angstrom, over the flatness of the cell.

Beyond, rounding moves atoms by 1e-8 Angstrom.
"""


def searchable(
    coord_A3: Array, real_A: Array, frame_A: Array, cell_F33: Array, *, xp: Namespace
) -> tuple[Array, Array]:
    """Return positions and cells (Angstrom); those for which rounding spoils a search are errors of `xp.checked`."""
    flatness_F = _flatness(cell_F33, xp=xp)
    text = "box has no volume: give three independent lattice vectors in rows, or none for an open boundary. Frame:"
    cell_F33 = xp.checked(cell_F33, flatness_F >= FLATTEST, text)
    out_A = xp.max(xp.abs(coord_A3), axis=1)
    out_A = xp.where(real_A, out_A, xp.zeros_like(out_A))
    text = f"coord: from {FARTHEST:.0f} Angstrom on, numbers of float64 are more than 1e-8 apart. Atom:"
    coord_A3 = xp.checked(coord_A3, out_A < FARTHEST, text)
    size_A = xp.maximum(out_A, xp.take(xp.max(_lengths(cell_F33, xp=xp), axis=1), frame_A, axis=0))
    text = "box is so skewed, or the atom so far from it, that rounding hides its place; give shorter vectors. Atom:"
    return xp.checked(coord_A3, size_A < LONGEST_PER_FLATNESS * xp.take(flatness_F, frame_A, axis=0), text), cell_F33


def _cross(u: Array, v: Array, *, xp: Namespace) -> Array:
    """Return cross products (F, 3): u1 = (u_y, u_z, u_x), u2 = (u_z, u_x, u_y), u x v = u1 v2 - u2 v1."""
    u1, u2 = xp.concat([u[:, 1:], u[:, :1]], axis=-1), xp.concat([u[:, 2:], u[:, :2]], axis=-1)
    v1, v2 = xp.concat([v[:, 1:], v[:, :1]], axis=-1), xp.concat([v[:, 2:], v[:, :2]], axis=-1)
    return u1 * v2 - u2 * v1


def _lengths(cell_F33: Array, *, xp: Namespace) -> Array:
    return xp.sqrt(xp.sum(cell_F33 * cell_F33, axis=2))


def _flatness(cell_F33: Array, *, xp: Namespace) -> Array:
    """Return the volume of each cell over the product of its lengths (F,)."""
    length_F3 = _lengths(cell_F33, xp=xp)
    volume_F = xp.sum(cell_F33[:, 0, :] * _cross(cell_F33[:, 1, :], cell_F33[:, 2, :], xp=xp), axis=-1)
    return xp.abs(volume_F) / (length_F3[:, 0] * length_F3[:, 1] * length_F3[:, 2])


def inverse(cell_F33: Array, *, xp: Namespace) -> Array:
    """Return inverse cells, whose columns are b x c, c x a and a x b over the volume a (b x c)."""
    a, b, c = cell_F33[:, 0, :], cell_F33[:, 1, :], cell_F33[:, 2, :]
    planes = [_cross(u, v, xp=xp) for u, v in ((b, c), (c, a), (a, b))]
    rows_F9 = xp.concat(planes, axis=-1) / xp.sum(a * planes[0], axis=-1, keepdims=True)
    return xp.matrix_transpose(xp.reshape(rows_F9, (-1, 3, 3)))

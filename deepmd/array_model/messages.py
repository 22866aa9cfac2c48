"""Message passing, shared by DPA-2 and DPA-3: halo exchange, symmetrisation, updates (docs/theory/messages.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Edges, Neighbours

STYLES = ("res_avg", "res_incr", "res_residual")
"""Accepted update styles (docs/theory/messages.md#update-styles)."""


def check_updates(block: Any) -> None:
    """Raise ValueError for an unknown `update_style` or `update_residual_init`."""
    for name, accepted in (("update_style", STYLES), ("update_residual_init", ("norm", "const"))):
        if getattr(block, name) not in accepted:
            raise ValueError(f"{name} is {getattr(block, name)!r}; accepted: {', '.join(accepted)}")


def with_nested_slots(options: Any, values: dict[str, Any]) -> Any:
    """Return options with other slots in their sections, given as {"section/option": (number,)}."""
    changes: dict[str, dict[str, int]] = {}
    for path, value in values.items():
        section, name = path.split("/")
        (number,) = (value,) if isinstance(value, int) else value
        changes.setdefault(section, {})[name] = number
    return replace(
        options, **{section: replace(getattr(options, section), **slots) for section, slots in changes.items()}
    )


def affine(layer: Params, x: Array, *, xp: Namespace) -> Array:
    """Return x W + b; b may be absent."""
    y = xp.matmul(x, layer["w"])
    return y if layer.get("b") is None else y + layer["b"]


def init_factor(size: int, scale: float, how: str, rng: Any) -> Array:
    """Fresh residual factor (size,) from a NumPy generator: all `scale` ("const"), or N(0, scale) ("norm")."""
    drawn = rng.normal(0.0, scale, (size,))  # for "const" too: the source of an array of this shape
    return 0.0 * drawn + scale if how == "const" else drawn


def take_features(x_NK: Array, edges: Edges, *, xp: Namespace) -> Array:
    """Gather the features (N, M, K) of the owner of each neighbour. Empty slots get those of atom 0: mask them."""
    taken = xp.take(xp.halo_exchange(x_NK), xp.reshape(edges.index_NM, (-1,)), axis=0)
    rows, slots = xp.shape(edges.index_NM)
    return xp.reshape(taken, (rows, slots, xp.shape(x_NK)[1]))


def first_slots(x: Array, width: Any, neighbours: Neighbours, *, xp: Namespace) -> Array:
    """Return the first `width` slots (axis 1) of an array with a value for every slot of a mixed row."""
    return xp.split(x, (width, neighbours.widths[0] - width), axis=1)[0]


def symmetrise(
    g_NMG: Array, h_NM3: Array, w_NM: Array, norm: float | Array, axis: int, *, xp: Namespace
) -> tuple[Array, Array]:
    """Return invariants (N, axis G), flattened row by row, and the equivariant H^T (N, G, 3).

    H = norm sum_j w_j h_j g_j (3, G), invariants (1/3) H[:, :axis]^T H (docs/theory/messages.md#symmetrisation).
    `norm` may differ by atom: (N, 1, 1).
    """
    weighted_NM3 = h_NM3 * xp.expand_dims(w_NM, axis=-1)
    h_NG3 = norm * xp.matmul(xp.matrix_transpose(g_NMG), weighted_NM3)
    sym_NAG = xp.matmul(h_NG3[:, :axis, :], xp.matrix_transpose(h_NG3)) / 3.0
    return xp.reshape(sym_NAG, (-1, axis * xp.shape(g_NMG)[2])), h_NG3


def add_updates(style: str, u: Array, updates: list[Array], residuals: list[Array]) -> Array:
    """Return u plus its updates by an update style (docs/theory/messages.md#update-styles).

    `residuals` are the learned factors of `res_residual`, one for each update.
    """
    if not updates:
        return u
    if style == "res_residual":
        for factor, update in zip(residuals, updates, strict=True):
            u = u + factor * update
        return u
    total = sum(updates[1:], start=updates[0])
    if style == "res_avg":
        return (u + total) / (len(updates) + 1.0) ** 0.5
    return u + total / float(len(updates)) ** 0.5

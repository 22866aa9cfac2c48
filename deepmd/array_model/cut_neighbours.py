"""One neighbour list for several parts: the union of their layouts, and the cut of it that each part reads.

Parts are members of a hybrid (`descriptors/hybrid.py`) or of a combination of models (`models/linear.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.neighbours import Layout, Neighbours, excluded_slots, section_types

SLOTS = ("disp_NM3", "mask_NM", "index_NM")
"""Fields with a value for every slot. Mixed layouts have `type_NM` in addition."""


def unite_layouts(layouts: Sequence[Layout], excluded: tuple[tuple[int, int], ...] = ()) -> Layout:
    """Return the union of layouts, from which `cut_neighbours` serves each: the largest cutoff, the most slots.

    If some layouts have sections and others a mixed row, every neighbour is listed twice: in its section, in the row.
    """
    rcut = max(layout.rcut for layout in layouts)
    sectioned = [layout.typed or layout.sel for layout in layouts if layout.typed or not layout.mixed]
    typed = tuple(max(each) for each in zip(*sectioned, strict=True))
    if not any(layout.mixed for layout in layouts):
        return Layout(rcut, typed, excluded=excluded)
    return Layout(
        rcut,
        (max(sum(layout.sel) for layout in layouts),),
        mixed=True,
        typed=typed,
        excluded=excluded,
        inner=tuple(each for layout in layouts for each in layout.inner),
        needs_neighbour_features=any(layout.needs_neighbour_features for layout in layouts),
    )


def cut_neighbours(neighbours: Neighbours, packed: Layout, wanted: Layout, *, xp: Namespace) -> Neighbours:
    """Cut neighbours that are packed for `packed` to those that packing for `wanted` gives."""
    if wanted.typed:
        sections, row = (
            cut_neighbours(*_half(neighbours, packed, mixed=mixed, xp=xp), _half_layout(wanted, mixed=mixed), xp=xp)
            for mixed in (False, True)
        )
        return _joined(sections, row, xp=xp)
    neighbours, packed = _matching_half(neighbours, packed, wanted, xp=xp)
    lists = tuple(neighbours.inner[packed.inner.index(each)] for each in wanted.inner)
    neighbours = replace(neighbours, inner=lists)
    if wanted.rcut < packed.rcut or not set(wanted.excluded) <= set(packed.excluded):
        neighbours = _empty_slots(neighbours, packed, wanted, xp=xp)
    return cut_slots(neighbours, packed, wanted, xp=xp)


def cut_slots(neighbours: Neighbours, packed: Layout, wanted: Layout, *, xp: Namespace) -> Neighbours:
    """Cut the slots only: cutoff and excluded pairs of types stay those of `packed`."""
    neighbours, packed = _matching_half(neighbours, packed, wanted, xp=xp)
    if all(mine >= most for mine, most in zip(wanted.sel, packed.sel, strict=True)):
        return neighbours
    return _shortened(neighbours, wanted, xp=xp)


def _matching_half(
    neighbours: Neighbours, packed: Layout, wanted: Layout, *, xp: Namespace
) -> tuple[Neighbours, Layout]:
    """Return the half that `wanted` reads (sections or mixed row) and its layout; all if `packed` has one half only."""
    return _half(neighbours, packed, mixed=wanted.mixed, xp=xp) if packed.typed else (neighbours, packed)


def _half_layout(layout: Layout, *, mixed: bool) -> Layout:
    """Return the layout of the sections, or of the mixed row, of a layout that has both."""
    return replace(layout, typed=()) if mixed else replace(layout, sel=layout.typed, mixed=False, typed=())


def _half(neighbours: Neighbours, layout: Layout, *, mixed: bool, xp: Namespace) -> tuple[Neighbours, Layout]:
    """Return the sections or the mixed row of neighbours that have both, and the layout of that half."""
    half = slice(-1, None) if mixed else slice(None, -1)  # the mixed row is the last section
    arrays = {
        name: xp.concat(xp.split(getattr(neighbours, name), neighbours.widths, axis=1)[half], axis=1)
        for name in (*SLOTS, "type_NM")
    }
    if not mixed:
        arrays["type_NM"] = arrays["type_NM"][:, :0]
    return replace(neighbours, **arrays, widths=neighbours.widths[half]), _half_layout(layout, mixed=mixed)


def _joined(sections: Neighbours, row: Neighbours, *, xp: Namespace) -> Neighbours:
    """Return sections and a mixed row as the neighbours of a layout that has both."""
    arrays = {name: xp.concat([getattr(sections, name), getattr(row, name)], axis=1) for name in SLOTS}
    kinds_NM = xp.concat([section_types(sections, xp=xp), row.type_NM], axis=1)
    return replace(row, **arrays, type_NM=kinds_NM, widths=(*sections.widths, *row.widths))


def _shortened(neighbours: Neighbours, wanted: Layout, *, xp: Namespace) -> Neighbours:
    """Keep the nearest `sel` slots of each section, and the empty last slot of a mixed row."""

    def kept(array: Array) -> list[Array]:
        if wanted.mixed:
            width = _limited(neighbours.widths[0] - 1, wanted.sel[0])
            return [array[:, :-1, ...][:, :width, ...], array[:, -1:, ...]]
        sections = zip(xp.split(array, neighbours.widths, axis=1), neighbours.widths, wanted.sel, strict=True)
        return [part[:, : _limited(width, sel), ...] for part, width, sel in sections]

    names = (*SLOTS, "type_NM") if wanted.mixed else SLOTS
    parts = {name: kept(getattr(neighbours, name)) for name in names}
    widths = tuple(xp.shape(part)[1] for part in parts["mask_NM"])
    arrays = {name: xp.concat(each, axis=1) for name, each in parts.items()}
    return replace(neighbours, **arrays, widths=(widths[0] + 1,) if wanted.mixed else widths)


def _limited(width: Any, sel: int) -> int:
    """Return the slot to cut a section at: min(width, sel).

    While a graph is built the width is unknown. Then `sel` does, because a slice beyond the end stops at the end.
    """
    return min(width, sel) if isinstance(width, int) else sel


def _empty_slots(neighbours: Neighbours, packed: Layout, wanted: Layout, *, xp: Namespace) -> Neighbours:
    """Empty the slots of neighbours beyond the cutoff of `wanted`, and of the pairs of types that `wanted` excludes."""
    disp_NM3 = xp.stop_gradient(neighbours.disp_NM3)  # for comparisons only
    kinds_NM = neighbours.type_NM if packed.mixed else section_types(neighbours, xp=xp)
    keep_NM = xp.logical_not(excluded_slots(neighbours, wanted.excluded, kinds_NM, xp=xp))
    keep_NM = xp.logical_and(keep_NM, xp.sum(disp_NM3 * disp_NM3, axis=-1) <= wanted.rcut**2)
    zero_NM = 0 * neighbours.index_NM
    far_NM3 = _far(zero_NM, wanted.rcut, xp=xp)
    arrays = {
        "disp_NM3": xp.where(xp.expand_dims(keep_NM, axis=-1), neighbours.disp_NM3, far_NM3),
        "mask_NM": xp.logical_and(neighbours.mask_NM, keep_NM),
        "index_NM": xp.where(keep_NM, neighbours.index_NM, zero_NM),
    }
    if packed.mixed:
        arrays["type_NM"] = xp.where(keep_NM, neighbours.type_NM, neighbours.type_NM[:, -1:] + zero_NM)
    return replace(neighbours, **arrays)


def _far(zero: Array, rcut: float, *, xp: Namespace) -> Array:
    """Return displacements (..., 3) of empty slots, (2 rcut, 0, 0), from integer zeros (...)."""
    zero = xp.astype(zero, xp.float64)
    return xp.stack([zero + 2.0 * rcut, zero, zero], axis=-1)

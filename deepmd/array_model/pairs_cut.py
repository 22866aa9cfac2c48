"""One neighbour list for several parts: a layout that suits all of them, and the pairs of each part cut from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Layout, Pairs, excluded, section_types

ARRAYS = ("disp_NM3", "mask_NM", "index_NM")


def union(layouts: Sequence[Layout], excluded: tuple[tuple[int, int], ...] = ()) -> Layout:
    """Return the layout from which `cut` makes the pairs of each of `layouts`: the largest cutoff, the most slots.

    Where some want sections and others one mixed row, every neighbour comes twice: in its section, and in the row.
    """
    rcut = max(layout.rcut for layout in layouts)
    sectioned = [layout.typed or layout.sel for layout in layouts if layout.typed or not layout.mixed]
    typed = tuple(max(each) for each in zip(*sectioned, strict=True))
    if not any(layout.mixed for layout in layouts):
        return Layout(rcut, typed, excluded=excluded)
    messages, inner = (
        any(layout.messages for layout in layouts),
        tuple(each for layout in layouts for each in layout.inner),
    )
    most = max(sum(layout.sel) for layout in layouts)
    return Layout(rcut, (most,), mixed=True, typed=typed, excluded=excluded, inner=inner, messages=messages)


def cut(pairs: Pairs, outer: Layout, inner: Layout, *, xp: Namespace) -> Pairs:
    """Return pairs that were packed for `outer` as they would have been packed for `inner`."""
    if inner.typed:
        halves = [
            cut(*_half(pairs, outer, mixed=mixed, xp=xp), _layout(inner, mixed=mixed), xp=xp) for mixed in (False, True)
        ]
        return _joined(*halves, xp=xp)
    pairs, outer = _part(pairs, outer, inner, xp=xp)
    pairs = replace(pairs, inner=tuple(pairs.inner[outer.inner.index(each)] for each in inner.inner))
    if inner.rcut < outer.rcut or not set(inner.excluded) <= set(outer.excluded):
        pairs = _restricted(pairs, outer, inner, xp=xp)
    return narrowed(pairs, outer, inner, xp=xp)


def narrowed(pairs: Pairs, outer: Layout, inner: Layout, *, xp: Namespace) -> Pairs:
    """Return pairs that were packed for `outer` as `cut` does, with neighbours beyond the cutoff of `inner` and pairs of types that it excludes."""
    pairs, outer = _part(pairs, outer, inner, xp=xp)
    enough = all(mine >= most for mine, most in zip(inner.sel, outer.sel, strict=True))
    return pairs if enough else _narrowed(pairs, inner, xp=xp)


def _part(pairs: Pairs, outer: Layout, inner: Layout, *, xp: Namespace) -> tuple[Pairs, Layout]:
    """Return the sections or the mixed row of pairs that have both, whichever `inner` wants, and their layout."""
    return _half(pairs, outer, mixed=inner.mixed, xp=xp) if outer.typed else (pairs, outer)


def _layout(both: Layout, *, mixed: bool) -> Layout:
    """Return the layout of the sections, or of the mixed row, of one that has both."""
    return replace(both, typed=()) if mixed else replace(both, sel=both.typed, mixed=False, typed=())


def _half(pairs: Pairs, layout: Layout, *, mixed: bool, xp: Namespace) -> tuple[Pairs, Layout]:
    """Return the sections, or the mixed row, of pairs that have both, and their layout."""
    half = slice(-1, None) if mixed else slice(None, -1)
    arrays = {
        name: xp.concat(xp.split(getattr(pairs, name), pairs.widths, axis=1)[half], axis=1)
        for name in (*ARRAYS, "type_NM")
    }
    kinds_NM = arrays.pop("type_NM")
    return replace(pairs, **arrays, type_NM=kinds_NM if mixed else kinds_NM[:, :0], widths=pairs.widths[half]), _layout(
        layout, mixed=mixed
    )


def _joined(sections: Pairs, row: Pairs, *, xp: Namespace) -> Pairs:
    """Return sections and a mixed row as the pairs of a layout that has both."""
    arrays = {name: xp.concat([getattr(sections, name), getattr(row, name)], axis=1) for name in ARRAYS}
    kinds_NM = xp.concat([section_types(sections, xp=xp), row.type_NM], axis=1)
    return replace(row, **arrays, type_NM=kinds_NM, widths=(*sections.widths, *row.widths))


def _narrowed(pairs: Pairs, inner: Layout, *, xp: Namespace) -> Pairs:
    """Keep the nearest `sel` slots of each section, and of a mixed row the empty last one."""
    changes: dict[str, Any] = {}
    for name in (*ARRAYS, "type_NM") if inner.mixed else ARRAYS:
        array = getattr(pairs, name)
        if inner.mixed:
            parts = [array[:, :-1, ...][:, : _within(pairs.widths[0] - 1, inner.sel[0]), ...], array[:, -1:, ...]]
        else:
            sections = zip(xp.split(array, pairs.widths, axis=1), pairs.widths, inner.sel, strict=True)
            parts = [part[:, : _within(width, sel), ...] for part, width, sel in sections]
        changes[name] = xp.concat(parts, axis=1)
        if name == "mask_NM":
            widths = [xp.shape(part)[1] for part in parts]
            changes["widths"] = (widths[0] + 1,) if inner.mixed else tuple(widths)
    return replace(pairs, **changes)


def _within(width: Any, sel: int) -> int:
    """Return where to cut a section.

    While a graph is built its width is not known, and cutting beyond it changes nothing.
    """
    return min(width, sel) if isinstance(width, int) else sel


def _restricted(pairs: Pairs, outer: Layout, inner: Layout, *, xp: Namespace) -> Pairs:
    """Make empty slots of neighbours beyond the cutoff of `inner`, and of the pairs of types that it excludes."""
    disp_NM3 = xp.stop_gradient(pairs.disp_NM3)
    kinds_NM = pairs.type_NM if outer.mixed else section_types(pairs, xp=xp)
    keep_NM = xp.logical_not(excluded(pairs, inner.excluded, kinds_NM, xp=xp))
    keep_NM = xp.logical_and(keep_NM, xp.sum(disp_NM3 * disp_NM3, axis=-1) <= inner.rcut**2)
    zero_NM = 0 * pairs.index_NM
    changes = {
        "disp_NM3": xp.where(xp.expand_dims(keep_NM, axis=-1), pairs.disp_NM3, _far(zero_NM, inner.rcut, xp=xp)),
        "mask_NM": xp.logical_and(pairs.mask_NM, keep_NM),
        "index_NM": xp.where(keep_NM, pairs.index_NM, zero_NM),
    }
    if outer.mixed:
        changes["type_NM"] = xp.where(keep_NM, pairs.type_NM, pairs.type_NM[:, -1:] + zero_NM)
    return replace(pairs, **changes)


def _far(zero: Array, rcut: float, *, xp: Namespace) -> Array:
    """Vectors (..., 3) of empty slots, from integer zeros (...)."""
    zero = xp.astype(zero, xp.float64)
    return xp.stack([zero + 2.0 * rcut, zero, zero], axis=-1)

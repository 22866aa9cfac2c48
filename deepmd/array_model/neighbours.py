"""Geometric input of a model: `Layout` (requested packing), `Edges` and `Neighbours` (packed arrays), their fields.

Packing from pair lists is `deepmd/data/packing.py`; cutting one list for several parts is `cut_neighbours.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from deepmd.array_model.namespace import Array, Namespace

UNLIMITED = 2**31 - 1
"""Row limit of layouts `by_section`: larger than any number of neighbours."""


@dataclass(frozen=True)
class Layout:
    """Packing of the neighbours that a descriptor or a model needs.

    Attributes
    ----------
    rcut : cutoff radius, Angstrom (inclusive)
    sel : slots of each neighbour type; if `mixed`, one number of slots for all types
    mixed : one section for all neighbour types, nearest first, and one empty slot at the end of every row (see
        `Neighbours`)
    excluded : unordered pairs of types whose neighbours are left out (`pair_exclude_types`). Their slots stay empty if
        `needs_neighbour_features`, otherwise farther neighbours move up
    typed : slots of each neighbour type, for sections in front of the mixed one. These sections list the
        neighbours of the mixed one again, for parts that read sections. () for none
    inner : (cutoff in Angstrom, slots) of shorter lists, each the beginning of the rows of a mixed layout
    needs_neighbour_features : message passing: the descriptor reads features of neighbours, so every atom is a centre
    by_section : overflow policy. True: each section drops its own farthest. False: keep the nearest sum(sel) of the
        row, then fill sections
    """

    rcut: float
    sel: tuple[int, ...]
    mixed: bool = False
    excluded: tuple[tuple[int, int], ...] = ()
    typed: tuple[int, ...] = ()
    inner: tuple[tuple[float, int], ...] = ()
    needs_neighbour_features: bool = False
    by_section: bool = False

    @property
    def row_limit(self) -> int:
        """Number of nearest neighbours of a row that are kept before the sections are filled."""
        return UNLIMITED if self.by_section else sum(self.sel)

    @property
    def sections(self) -> tuple[int, ...]:
        """Slots of each section of a row."""
        return (*self.typed, *self.sel)


@dataclass(frozen=True)
class Edges:
    """Displacements from centres to neighbours with their atoms and frames: all that forces and virials read.

    Attributes
    ----------
    disp_NM3 : r_j - r_i, Angstrom. An empty slot holds a vector of length 2 rcut, where every switch is exactly zero
    index_NM : position of neighbour j among the A atoms, 0 in empty slots; atoms 0..N-1 are the centres
    centre_N : position of the centre itself among the A atoms
    frame_N : frame of the centre
    in_cell_N3 : position of the centre inside its cell, Angstrom, for atomic virials if `needs_neighbour_features`;
        otherwise (N, 0)
    """

    disp_NM3: Array
    index_NM: Array
    centre_N: Array
    frame_N: Array
    in_cell_N3: Array


@dataclass(frozen=True)
class Neighbours(Edges):
    """All geometry that a model reads: edges of the centres of all frames of a batch, with masks and types.

    Centres are ordered by type, so the nets of a type run on one contiguous slice (no gather, and no scatter in the
    derivative). Neighbour slots are grouped in sections of one neighbour type, nearest first. A section is as wide as
    the batch needs; the descriptor adds the contribution of the remaining slots of `sel`, all empty, in closed form.

    The last slot of a row of a mixed layout is empty and stands for all slots of `sel` that are not stored: it counts
    sel - (width - 1) times. Sections of `Layout.typed` come first.

    Attributes
    ----------
    mask_NM : True for a real neighbour
    type_N : type of the centre
    type_NM : neighbour type of each slot of a mixed layout; empty slots hold the type of atom 0 of the frame
        (docs/theory/neighbours.md#empty-slots). (N, 0) for layouts whose sections are neighbour types
    counts : number of centres of each type (ints, or scalar tensors while a graph is built)
    widths : slots of each section (ints or scalar tensors)
    inner : slots that each inner list of the layout needs (ints or scalar tensors), without an empty slot at the end
    """

    mask_NM: Array
    type_N: Array
    type_NM: Array
    counts: tuple[Any, ...]
    widths: tuple[Any, ...]
    inner: tuple[Any, ...] = ()


FIELDS = tuple(field.name for field in fields(Neighbours))
SIZES = ("counts", "widths", "inner")
"""Fields that are tuples of sizes; `flatten_neighbours` stacks each tuple into an array."""

ARRAYS = tuple(name for name in FIELDS if name not in SIZES)

Shape = tuple[int | None, ...]


def field_types(layout: Layout, ntypes: int) -> dict[str, tuple[str, Shape]]:
    """Return data type and shape of each flattened field; None is a size that depends on the atoms."""
    in_cell = 3 if layout.needs_neighbour_features else 0
    return {
        "disp_NM3": ("float64", (None, None, 3)),
        "index_NM": ("int64", (None, None)),
        "centre_N": ("int64", (None,)),
        "frame_N": ("int64", (None,)),
        "in_cell_N3": ("float64", (None, in_cell)),
        "mask_NM": ("bool", (None, None)),
        "type_N": ("int64", (None,)),
        "type_NM": ("int64", (None, None)),
        "counts": ("int64", (ntypes,)),
        "widths": ("int64", (len(layout.sections),)),
        "inner": ("int64", (len(layout.inner),)),
    }


def flatten_neighbours(neighbours: Neighbours, *, xp: Namespace) -> dict[str, Array]:
    """Return {field: array} with sizes stacked: the interface between traced programs."""
    sizes = {name: getattr(neighbours, name) for name in SIZES}
    none = neighbours.centre_N[:0]
    arrays = {name: getattr(neighbours, name) for name in ARRAYS}
    return arrays | {name: xp.stack(size, axis=0) if size else none for name, size in sizes.items()}


def unflatten_neighbours(arrays: dict[str, Array], *, xp: Namespace) -> Neighbours:
    """Return neighbours from {field: array}; sizes stay scalar arrays, because traces would freeze Python ints."""
    sizes = {name: tuple(xp.unstack(arrays[name], axis=0)) for name in SIZES}
    return Neighbours(**{name: arrays[name] for name in ARRAYS}, **sizes)


def spans(sizes: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Return the (start, stop) of consecutive runs of the given sizes."""
    out, start = [], 0
    for size in sizes:
        out.append((start, start + size))
        start = start + size
    return out


def slot_counts(like_NM: Array, slots: int, *, xp: Namespace) -> Array:
    """Return the slots that each column of a mixed row stands for (N, M): 1, and slots - (M - 1) for the last."""
    ones = xp.ones_like(like_NM[:, :-1])
    return xp.concat([ones, float(slots) - xp.sum(ones, axis=1, keepdims=True)], axis=1)


def section_types(neighbours: Neighbours, *, xp: Namespace) -> Array:
    """Return the neighbour type of each slot (N, M) of a layout whose sections are neighbour types."""
    # 0 * section has the shape of the section, which is unknown while a graph is built
    sections = xp.split(neighbours.index_NM, neighbours.widths, axis=1)
    return xp.concat([0 * section + number for number, section in enumerate(sections)], axis=1)


def excluded_slots(
    neighbours: Neighbours,
    exclude_types: tuple[tuple[int, int], ...],
    kinds_NM: Array | None = None,
    *,
    xp: Namespace,
) -> Array:
    """Return the mask (N, M) of neighbours whose unordered pair of types is in `exclude_types`.

    `kinds_NM` holds the neighbour types of layouts that are not mixed (`section_types`).
    """
    mask_NM = neighbours.mask_NM
    kinds_NM = neighbours.type_NM if kinds_NM is None else kinds_NM
    out_NM = xp.logical_and(mask_NM, xp.logical_not(mask_NM))  # all False
    for a, b in sorted({ordered for pair in exclude_types for ordered in (pair, pair[::-1])}):
        centre_N1 = xp.expand_dims(xp.equal(neighbours.type_N, a), axis=1)
        out_NM = xp.where(xp.logical_and(centre_N1, xp.equal(kinds_NM, b)), mask_NM, out_NM)
    return out_NM


def zero_rows(rows_NMC: Array, hidden_NM: Array, *, xp: Namespace) -> Array:
    """Return rows with zeros where the mask is True."""
    return xp.where(xp.expand_dims(hidden_NM, axis=-1), xp.zeros_like(rows_NMC), rows_NMC)


def inner_neighbours(neighbours: Neighbours, number: int, rcut: float, *, xp: Namespace) -> Neighbours:
    """Return inner list `number` of a mixed layout: the first slots of each row, and its empty last slot.

    Slots of neighbours beyond `rcut` (Angstrom) become empty.
    """
    width = neighbours.inner[number]

    def shorten(array: Array) -> Array:
        first, rest = xp.split(array, (width, neighbours.widths[0] - width), axis=1)
        return xp.concat([first, rest[:, -1:, ...]], axis=1)

    disp_NM3, mask_NM, index_NM, type_NM = (
        shorten(getattr(neighbours, name)) for name in ("disp_NM3", "mask_NM", "index_NM", "type_NM")
    )
    near_NM = xp.logical_and(mask_NM, xp.sum(disp_NM3 * disp_NM3, axis=-1) <= rcut * rcut)
    away_NM3 = disp_NM3[:, -1:, :] + xp.zeros_like(disp_NM3)
    return replace(
        neighbours,
        disp_NM3=xp.where(xp.expand_dims(near_NM, axis=-1), disp_NM3, away_NM3),
        mask_NM=near_NM,
        index_NM=xp.where(near_NM, index_NM, xp.zeros_like(index_NM)),
        type_NM=xp.where(near_NM, type_NM, xp.zeros_like(type_NM) + type_NM[:, -1:]),
        widths=(width + 1,),
    )

"""Pairs: the only geometric input of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from deepmd.array_model.namespace import Array, Namespace

UNLIMITED = 2**31 - 1
"""More neighbours than an atom has."""


@dataclass(frozen=True)
class Layout:
    """How a descriptor wants its neighbours packed.

    Attributes
    ----------
    rcut : cutoff radius, Angstrom (inclusive)
    sel : slots per neighbour type, or one number for a mixed section
    mixed : one section for all neighbour types, nearest first, and one empty slot at the end of every row (see `Pairs`)
    excluded : unordered pairs of types whose neighbours are left out (`pair_exclude_types`); where messages are passed
        they leave their slots empty, elsewhere those behind move up
    typed : of mixed layouts, slots per neighbour type of sections that come before the mixed one and hold the same neighbours once
        more, for parts that want sections
    inner : shorter cutoffs (Angstrom) and slots of lists that are the beginnings of the rows of a mixed layout
    messages : features of neighbours are read, so that every atom must be a centre
    by_section : too many neighbours cost each section its own farthest; elsewhere all but the nearest sum(sel) of a row go first
    """

    rcut: float
    sel: tuple[int, ...]
    mixed: bool = False
    excluded: tuple[tuple[int, int], ...] = ()
    typed: tuple[int, ...] = ()
    inner: tuple[tuple[float, int], ...] = ()
    messages: bool = False
    by_section: bool = False

    @property
    def most(self) -> int:
        """How many neighbours of a row, the nearest, are looked at."""
        return UNLIMITED if self.by_section else sum(self.sel)

    @property
    def sections(self) -> tuple[int, ...]:
        """Slots of each section of a row."""
        return (*self.typed, *self.sel)


@dataclass(frozen=True)
class Pairs:
    """All geometry a model may use, for the centre atoms of all frames of a batch.

    Centres are ordered by type, so the nets of one type run on one contiguous slice (no gather, and no scatter in the
    derivative). Neighbour slots are grouped in sections of one neighbour type, nearest first; a section is as wide as
    this batch needs. What the slots beyond would have contributed is added by the descriptor in closed form.

    Attributes
    ----------
    disp_NM3 : r_j - r_i in Angstrom; an empty slot holds a vector of length 2 * rcut, where every switch is exactly zero
    mask_NM : True for a real neighbour
    index_NM : position of j among the A atoms, 0 in empty slots; atoms 0..N-1 are the centres
    centre_N : position of the centre itself among the A atoms
    type_N : type of the centre
    frame_N : frame of the centre
    counts : number of centres of each type (ints, or scalar tensors while a graph is built)
    widths : slots of each section (likewise)
    type_NM : of mixed layouts the type of the neighbour; in empty slots that of the first atom of the frame
        (docs/theory/neighbours.md#empty-slots). (N, 0) for layouts whose sections are neighbour types
    inner : slots that each inner list of the layout needs (like `widths`); the last of them may hold neighbours
    place_N3 : of layouts with messages the position of each centre inside its cell, Angstrom, else (N, 0); atomic virials need it there

    Where the layout has `typed` sections, these come first.

    In a mixed layout the last slot of every row is empty and stands for all that remain of `sel`: it counts sel -
    (width - 1) times.
    """

    disp_NM3: Array
    mask_NM: Array
    index_NM: Array
    centre_N: Array
    type_N: Array
    frame_N: Array
    counts: tuple[Any, ...]
    widths: tuple[Any, ...]
    type_NM: Array
    place_N3: Array
    inner: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Conditions:
    """What a model may be told besides geometry; None where it does not ask.

    Attributes
    ----------
    fparam_FK, aparam_NK : frame and atomic parameters of the fitting net
    charge_spin_F2 : total charge (in units of e) and spin of each frame, for descriptors with `dim_chg_spin`
    """

    fparam_FK: Array | None = None
    aparam_NK: Array | None = None
    charge_spin_F2: Array | None = None


def spans(sizes: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Return the (start, stop) of consecutive runs of the given sizes."""
    out, start = [], 0
    for size in sizes:
        out.append((start, start + size))
        start = start + size
    return out


def slot_counts(like_NM: Array, slots: int, *, xp: Namespace) -> Array:
    """Return how many of `slots` each column of a mixed layout stands for (N, M): one, and the last for all that are not there."""
    ones = xp.ones_like(like_NM[:, :-1])
    return xp.concat([ones, float(slots) - xp.sum(ones, axis=1, keepdims=True)], axis=1)


def section_types(pairs: Pairs, *, xp: Namespace) -> Array:
    """Neighbour type of each slot (N, M) of a layout whose sections are neighbour types."""
    sections = xp.split(pairs.index_NM, pairs.widths, axis=1)
    return xp.concat([0 * section + number for number, section in enumerate(sections)], axis=1)


def excluded(
    pairs: Pairs, exclude_types: tuple[tuple[int, int], ...], kinds_NM: Array | None = None, *, xp: Namespace
) -> Array:
    """Return which slots (N, M) hold a neighbour whose unordered pair of types is in `exclude_types`.

    `kinds_NM` as in layouts that are not mixed.
    """
    out_NM = xp.logical_and(pairs.mask_NM, xp.logical_not(pairs.mask_NM))
    for a, b in sorted({pair for both in exclude_types for pair in (both, both[::-1])}):
        neighbour_NM = xp.equal(pairs.type_NM if kinds_NM is None else kinds_NM, b)
        out_NM = xp.where(
            xp.logical_and(xp.expand_dims(xp.equal(pairs.type_N, a), axis=1), neighbour_NM), pairs.mask_NM, out_NM
        )
    return out_NM


def inner_pairs(pairs: Pairs, number: int, rcut: float, *, xp: Namespace) -> Pairs:
    """Return the pairs of an inner list of a mixed layout: the beginnings of the rows, empty beyond its cutoff (Angstrom), and the last slot."""
    width = pairs.inner[number]

    def cut(array: Array) -> Array:
        first, rest = xp.split(array, (width, pairs.widths[0] - width), axis=1)
        return xp.concat([first, rest[:, -1:, ...]], axis=1)

    disp_NM3, mask_NM, index_NM, type_NM = (
        cut(each) for each in (pairs.disp_NM3, pairs.mask_NM, pairs.index_NM, pairs.type_NM)
    )
    near_NM = xp.logical_and(mask_NM, xp.sum(disp_NM3 * disp_NM3, axis=-1) <= rcut * rcut)
    away_NM3 = disp_NM3[:, -1:, :] + xp.zeros_like(disp_NM3)
    return replace(
        pairs,
        disp_NM3=xp.where(xp.expand_dims(near_NM, axis=-1), disp_NM3, away_NM3),
        mask_NM=near_NM,
        index_NM=xp.where(near_NM, index_NM, xp.zeros_like(index_NM)),
        type_NM=xp.where(near_NM, type_NM, xp.zeros_like(type_NM) + type_NM[:, -1:]),
        widths=(width + 1,),
    )

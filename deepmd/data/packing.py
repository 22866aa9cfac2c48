"""Packing of pair lists into `Neighbours`: sort by type, cut to `sel`, section (docs/theory/neighbours.md#selection).

NumPy only. The same over `xp` for exported files: `pack_candidates.py`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from deepmd.array_model.neighbours import Layout, Neighbours, spans
from deepmd.data.neighbours import PairList


class SelWarning(UserWarning):
    """An atom has more neighbours than `sel` has slots."""


@dataclass(frozen=True)
class Packed:
    """Neighbours on the host, and the map from their atoms to those of the batch.

    Attributes
    ----------
    neighbours : the geometry, NumPy arrays
    atoms : number in the batch of each of the A atoms of `neighbours` (centres first, ordered by type)
    num_frames : frames of the batch
    closest : shortest distance among the pairs, Angstrom; infinite without any
    """

    neighbours: Neighbours
    atoms: np.ndarray
    num_frames: int
    closest: float


def _rank(group: np.ndarray) -> np.ndarray:
    """Return the position of each element within its run of equal, consecutive group numbers."""
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(group) else np.zeros(0, dtype=np.int64)
    return np.arange(len(group)) - np.repeat(starts, np.diff(np.r_[starts, len(group)]))


def pack(
    neighbours: PairList, layout: Layout, ntypes: int, centres: np.ndarray | None = None, *, ordered: bool = True
) -> Packed:
    """Pack the neighbours of `centres` (numbers in the batch; default: all real atoms) for a descriptor.

    Overflow of `sel` follows `Layout.by_section`, with a SelWarning. Without `ordered` and without overflow, the slots
    of a section may be in any order, which saves the sort by distance (see `deepmd.plan.plans.needs_order`).
    """
    types = neighbours.types
    centres = np.flatnonzero(types >= 0) if centres is None else centres
    # centres by type; `row_of` is the inverse permutation, -1 for atoms that are no centres
    centres = centres[np.argsort(types[centres], kind="stable")]
    row_of = np.full(len(types), -1, dtype=np.int64)
    row_of[centres] = np.arange(len(centres))

    row = row_of[neighbours.i]
    section_of = np.zeros(len(types), dtype=np.int64) if layout.mixed else types
    inside = (row >= 0) & (neighbours.dist <= layout.rcut)
    pair, dist, j = np.arange(len(row)), neighbours.dist, neighbours.j
    if not inside.all():
        pair = np.flatnonzero(inside)
        row, dist, j = row[pair], dist[pair], j[pair]
    section = section_of[j]
    pair, row, section = _nearest(pair, row, section, dist, layout, ordered=ordered)

    sections = len(layout.sections)
    # message passing: ranks before the exclusion of pairs, so that an excluded neighbour leaves its slot empty
    slot = _rank(row) if layout.needs_neighbour_features else row
    for a, b in layout.excluded:
        type_i, type_j = types[neighbours.i[pair]], types[neighbours.j[pair]]
        keep = ~(((type_i == a) & (type_j == b)) | ((type_i == b) & (type_j == a)))
        pair, row, section, slot = pair[keep], row[keep], section[keep], slot[keep]
    counted = slot
    if layout.typed:
        pair, row, section = _once_more(pair, row, types[neighbours.j[pair]], layout.typed)
    # slot: rank of a neighbour in its section of its row; column = start of the section + slot
    slot = _rank(row * sections + section)
    if layout.needs_neighbour_features:  # the mixed row, which comes last
        slot[len(slot) - len(counted) :] = counted
    used = [int(slot[section == number].max(initial=-1)) + 1 for number in range(sections)]
    # the last slot of a mixed row stands for all that remain of `sel`
    widths = (*used[:-1], used[-1] + layout.mixed)
    near, last = neighbours.dist[pair], section == sections - 1
    inner = tuple(int(slot[last & (slot < sel) & (near <= rcut)].max(initial=-1)) + 1 for rcut, sel in layout.inner)
    column = np.array([start for start, _ in spans(widths)], dtype=np.int64)[section] + slot

    # numbering of the A atoms: the centres, then atoms that are neighbours only
    index_of = row_of.copy()
    j = neighbours.j[pair]
    others = np.unique(j[index_of[j] < 0])
    index_of[others] = len(centres) + np.arange(len(others))

    # slots gather their displacements by `source`, because NumPy gathers several times faster than it scatters; empty
    # slots gather the row appended at the end
    size, place = (len(centres), sum(widths)), row * sum(widths) + column
    source = np.full(size[0] * size[1], len(neighbours.disp))
    source[place] = pair
    empty = np.array([[2.0 * layout.rcut, 0.0, 0.0]])
    disp = np.take(np.concatenate([neighbours.disp, empty]), source, axis=0).reshape(*size, 3)
    mask = np.zeros(size, dtype=bool)
    mask.reshape(-1)[place] = True
    index = np.zeros(size, dtype=np.int64)
    index.reshape(-1)[place] = index_of[j]
    kinds = np.zeros((len(centres), 0), dtype=np.int64)
    if layout.mixed:
        first = np.searchsorted(neighbours.frame, neighbours.frame[centres])
        kinds = np.maximum(types[first], 0)[:, None] * np.ones(size, dtype=np.int64)
        kinds[row, column] = types[j]
    table = Neighbours(
        disp_NM3=disp,
        mask_NM=mask,
        index_NM=index,
        centre_N=np.arange(len(centres)),
        type_N=types[centres],
        frame_N=neighbours.frame[centres],
        counts=tuple(int(n) for n in np.bincount(types[centres], minlength=ntypes)),
        widths=widths,
        type_NM=kinds,
        in_cell_N3=neighbours.in_cell[centres] if layout.needs_neighbour_features else np.zeros((len(centres), 0)),
        inner=inner,
    )
    return Packed(table, np.concatenate([centres, others]), neighbours.num_frames, float(near.min(initial=np.inf)))


def _nearest(
    pair: np.ndarray, row: np.ndarray, section: np.ndarray, dist: np.ndarray, layout: Layout, *, ordered: bool
) -> tuple[np.ndarray, ...]:
    """Sort pairs by (row, section, distance) and keep those that fit into `sel`.

    Without overflow one sort by the composite key group + dist / (2 rcut), group = row * len(sel) + section, replaces a
    lexsort, which takes several times as long. Distances that agree to about ten digits may then come in either order.
    If order is of no account, groups below 2**16 fit uint16, which NumPy sorts with a two-pass radix sort.
    """
    group = row * len(layout.sel) + section
    count = np.bincount(group, minlength=1)
    count = np.append(count, np.zeros(-len(count) % len(layout.sel), dtype=np.int64)).reshape(-1, len(layout.sel))
    if (count <= layout.sel).all():
        by_group = not ordered and len(count) * len(layout.sel) <= 2**16
        order = np.argsort(group.astype(np.uint16) if by_group else group + dist * (0.5 / layout.rcut), kind="stable")
        return pair[order], row[order], section[order]
    # overflow: first the nearest `row_limit` of each row, then the nearest `sel` of each section
    overflow = count.sum(axis=1).max() > layout.row_limit
    _warn(count.max(axis=0), layout)
    if overflow:
        order = np.lexsort((dist, row))
        order = order[_rank(row[order]) < layout.row_limit]
        pair, row, section, dist = pair[order], row[order], section[order], dist[order]
    order = np.lexsort((dist, section, row))
    pair, row, section = pair[order], row[order], section[order]
    fits = _rank(row * len(layout.sel) + section) < np.asarray(layout.sel)[section]
    return pair[fits], row[fits], section[fits]


def _once_more(pair: np.ndarray, row: np.ndarray, kind: np.ndarray, typed: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Repeat pairs that are sorted by (row, distance): first in sections of neighbour types, then in the mixed row."""
    order = np.lexsort((kind, row))
    order = order[_rank(row[order] * len(typed) + kind[order]) < np.asarray(typed)[kind[order]]]
    section = np.concatenate([kind[order], np.full(len(pair), len(typed))])
    return np.concatenate([pair[order], pair]), np.concatenate([row[order], row]), section


def _warn(most: np.ndarray, layout: Layout) -> None:
    needed = [max(int(count), sel) for count, sel in zip(most, layout.sel, strict=True)]
    warnings.warn(
        f"an atom has more neighbours within {layout.rcut} Angstrom than sel = {list(layout.sel)} has slots; "
        f"the farthest are left out. sel = {needed} would hold all neighbours of this batch",
        SelWarning,
        stacklevel=4,
    )

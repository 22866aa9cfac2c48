"""Packing over `xp`, for exported files: candidates of `search.py` to neighbours.

`packing.py` gives the same result on the host, faster because it sorts a flat list of pairs, not padded rows: 192 atoms
of the water example take 1.5 ms there and 3.9 ms here (NumPy, one thread). The difference is 8 % of an evaluation (row
"evaluation, 192 atoms" of docs/benchmarks.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.neighbours import Layout, Neighbours, spans
from deepmd.data.search import Candidates, largest, take_rows


@dataclass(frozen=True)
class PackedCandidates:
    """Neighbours over `xp`, and the maps from their order of atoms to the caller's.

    Attributes
    ----------
    neighbours : the geometry; centres are ordered by type
    row_N : row of each centre of `neighbours` in the `Candidates`
    position_A : position of each of the caller's atoms among the atoms of `neighbours`
    """

    neighbours: Neighbours
    row_N: Array
    position_A: Array


def pack_candidates(
    found: Candidates, type_A: Array, frame_A: Array, layout: Layout, ntypes: int, *, xp: Namespace
) -> PackedCandidates:
    """Order centres by type, cut to `sel`, group by neighbour type, with the result of `deepmd.data.packing.pack`.

    Overflow of `sel` follows `Layout.by_section`. Virtual atoms (type < 0) are neither centres nor neighbours.

    Parameters
    ----------
    found : candidates of the centres
    type_A, frame_A : type and frame of each atom, 64 bit
    layout, ntypes : layout and number of types of the model
    """
    if layout.mixed:
        found = _with_empty_column(found, xp=xp)
    type_N = xp.take(type_A, found.atom_N, axis=0)
    # a stable sort by type; virtual atoms sort behind the last type and are cut off
    key_N = xp.where(type_N >= 0, type_N, xp.zeros_like(type_N) + ntypes)
    counts = tuple(xp.sum(xp.astype(xp.equal(key_N, t), xp.int64)) for t in range(ntypes))
    centres = spans(counts)[-1][1]
    row_N = xp.argsort(key_N, axis=0)[:centres]
    type_N, atom_N = xp.take(type_N, row_N, axis=0), xp.take(found.atom_N, row_N, axis=0)

    kind_NC = take_rows(type_A, found.index_NC, xp=xp)
    pair_NC, mask_NC = _nearest(
        found.dist_NC, xp.logical_and(found.mask_NC, kind_NC >= 0), row_N, layout.row_limit, xp=xp
    )
    # `section_NC`: section of each neighbour; `near_NC`: mask that keeps excluded neighbours, as slots may stay empty
    section_NC, near_NC = _entries(kind_NC, pair_NC, xp=xp), mask_NC
    for a, b in {*layout.excluded, *((b, a) for a, b in layout.excluded)}:
        excluded_NC = xp.logical_and(xp.expand_dims(xp.equal(type_N, a), axis=1), xp.equal(section_NC, b))
        mask_NC = xp.logical_and(mask_NC, xp.logical_not(excluded_NC))
    if layout.mixed:
        one_NC = xp.zeros_like(section_NC) + len(layout.typed)
        section_NC = xp.concat([section_NC, one_NC], axis=1) if layout.typed else one_NC
    if layout.typed:  # every neighbour twice: in its section, without holes of excluded neighbours, and in the row
        pair_NC, near_NC, mask_NC = (
            xp.concat(both, axis=1) for both in ((pair_NC, pair_NC), (mask_NC, near_NC), (mask_NC, mask_NC))
        )
    slot_NC, mask_NC, widths = _slots(
        section_NC, mask_NC, near_NC if layout.needs_neighbour_features else mask_NC, layout, xp=xp
    )
    last_NC = xp.logical_and(mask_NC, xp.equal(section_NC, len(layout.sections) - 1))
    inner = _inner(_entries(found.dist_NC, pair_NC, xp=xp), last_NC, slot_NC - spans(widths)[-1][0], layout, xp=xp)
    pair_NM, mask_NM = _placed(pair_NC, slot_NC, mask_NC, spans(widths)[-1][1], xp=xp)
    disp_NM = [
        xp.where(mask_NM, _entries(x, pair_NM, xp=xp), away)
        for x, away in zip(found.disp, (2.0 * layout.rcut, 0.0, 0.0), strict=True)
    ]

    # order of the A atoms: centres by type, then the others; `position_A` is the inverse permutation
    is_centre_A = xp.segment_sum(xp.ones_like(atom_N), atom_N, xp.size(type_A, 0)) > 0
    atoms_A = xp.argsort(xp.where(is_centre_A, type_A, xp.zeros_like(type_A) + ntypes), axis=0)
    position_A = xp.segment_sum(xp.counting(xp.size(type_A, 0), like=atoms_A), atoms_A, xp.size(type_A, 0))
    kind_NM = section_NC[:, :0]
    if layout.mixed:
        kind_NM = _kinds(type_A, frame_A, atom_N, _entries(kind_NC, pair_NM, xp=xp), mask_NM, xp=xp)
    in_cell_N3 = xp.take(found.in_cell_A3, atom_N, axis=0)
    index_NM = take_rows(position_A, _entries(found.index_NC, pair_NM, xp=xp), xp=xp)
    neighbours = Neighbours(
        disp_NM3=xp.stack(disp_NM, axis=-1),
        mask_NM=mask_NM,
        index_NM=xp.where(mask_NM, index_NM, xp.zeros_like(index_NM)),
        centre_N=xp.counting(centres, like=row_N),
        type_N=type_N,
        frame_N=xp.take(frame_A, atom_N, axis=0),
        counts=counts,
        widths=widths,
        type_NM=kind_NM,
        in_cell_N3=in_cell_N3 if layout.needs_neighbour_features else in_cell_N3[:, :0],
        inner=inner,
    )
    return PackedCandidates(neighbours, row_N, position_A)


def _entries(table_NC: Array, number_NC: Array, *, xp: Namespace) -> Array:
    """Take entries of a table by their flat numbers, counted row by row."""
    return take_rows(xp.reshape(table_NC, (-1,)), number_NC, xp=xp)


def _nearest(dist_NC: Array, mask_NC: Array, row_N: Array, limit: int, *, xp: Namespace) -> tuple[Array, Array]:
    """Return flat numbers in the table of the nearest `limit` neighbours of each row, and the mask of existing ones."""
    order_NC = xp.argsort(xp.where(mask_NC, dist_NC, xp.zeros_like(dist_NC) + float("inf")), axis=1)
    count_N = xp.sum(xp.astype(mask_NC, xp.int64), axis=1)
    longest = largest(count_N, xp=xp)
    slot_1C = xp.expand_dims(xp.counting(xp.minimum(longest, xp.zeros_like(longest) + limit), like=row_N), axis=0)
    order_NC = xp.take(order_NC[:, : xp.size(slot_1C, 1)], row_N, axis=0)
    start_N1 = xp.expand_dims(xp.size(mask_NC, 1) * row_N, axis=1)
    return order_NC + start_N1, slot_1C < xp.expand_dims(xp.take(count_N, row_N, axis=0), axis=1)


def _slots(
    section_NC: Array, mask_NC: Array, counted_NC: Array, layout: Layout, *, xp: Namespace
) -> tuple[Array, Array, tuple[Array, ...]]:
    """Return the slot of each neighbour, the mask of neighbours with a slot, and the widths of sections (longest row).

    Neighbours that are in `counted_NC` but not in `mask_NC` leave their slots empty.
    """
    slot_NC, kept_NC, widths, start = xp.zeros_like(section_NC), xp.zeros_like(section_NC), [], 0
    for number, sel in enumerate(layout.sections):
        # rank of a neighbour: number of counted neighbours of its section up to this one, in order of distance
        hit_NC = xp.logical_and(mask_NC, xp.equal(section_NC, number))
        rank_NC = xp.cumulative_sum(
            xp.astype(xp.logical_and(counted_NC, xp.equal(section_NC, number)), xp.int64), axis=1
        )
        hit_NC = xp.logical_and(hit_NC, rank_NC <= sel)
        widths.append(_longest(rank_NC, hit_NC, xp=xp))
        slot_NC = xp.where(hit_NC, rank_NC - 1 + start, slot_NC)
        kept_NC = kept_NC + xp.astype(hit_NC, xp.int64)
        start = start + widths[-1]
    if layout.mixed:
        widths[-1] = widths[-1] + 1
    return slot_NC, kept_NC > 0, tuple(widths)


def _longest(rank_NC: Array, hit_NC: Array, *, xp: Namespace) -> Array:
    """Return the largest rank among hits, 0 without hits."""
    return largest(xp.reshape(xp.where(hit_NC, rank_NC, xp.zeros_like(rank_NC)), (-1,)), xp=xp)


def _inner(dist_NC: Array, mask_NC: Array, slot_NC: Array, layout: Layout, *, xp: Namespace) -> tuple[Array, ...]:
    """Return the slots that each inner list needs."""
    widths = []
    for rcut, sel in layout.inner:
        hit_NC = xp.logical_and(xp.logical_and(mask_NC, dist_NC <= rcut), slot_NC < sel)
        widths.append(_longest(slot_NC + 1, hit_NC, xp=xp))
    return tuple(widths)


def _with_empty_column(found: Candidates, *, xp: Namespace) -> Candidates:
    """Return candidates with one more column, empty, so that the last slot of a mixed row exists without neighbours."""
    none_N1 = xp.expand_dims(xp.zeros_like(found.atom_N), axis=1)
    away_N1 = xp.astype(none_N1, xp.float64)
    columns = tuple(xp.concat([x, away_N1], axis=1) for x in found.disp)
    index_NC, mask_NC = xp.concat([found.index_NC, none_N1], axis=1), xp.concat([found.mask_NC, none_N1 > 0], axis=1)
    return Candidates(
        found.atom_N, columns, xp.concat([found.dist_NC, away_N1], axis=1), index_NC, mask_NC, found.in_cell_A3
    )


def _kinds(type_A: Array, frame_A: Array, atom_N: Array, kind_NM: Array, mask_NM: Array, *, xp: Namespace) -> Array:
    """Return the types of the neighbours of a mixed layout (see `Neighbours.type_NM`)."""
    first_N = xp.take(type_A, xp.searchsorted(frame_A, xp.take(frame_A, atom_N, axis=0), side="left"), axis=0)
    first_N = xp.where(first_N >= 0, first_N, xp.zeros_like(first_N))
    return xp.where(mask_NM, kind_NM, xp.zeros_like(kind_NM) + xp.expand_dims(first_N, axis=1))


def _placed(pair_NC: Array, slot_NC: Array, mask_NC: Array, width: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """Scatter the numbers of pairs into their slots (N, M), 0 where empty; return them and the mask of filled slots."""
    rows = xp.size(pair_NC, 0)
    row_N1 = xp.expand_dims(xp.counting(rows, like=slot_NC), axis=1)
    lost = rows * width  # one segment more, for what has no slot
    target_NC = xp.where(mask_NC, row_N1 * width + slot_NC, xp.zeros_like(slot_NC) + lost)
    # a slot receives at most one number, so the sum is the number; 1 is added to tell number 0 from an empty slot
    filled = xp.segment_sum(xp.reshape(pair_NC, (-1,)) + 1, xp.reshape(target_NC, (-1,)), lost + 1)[:lost]
    filled_NM = xp.reshape(filled, (rows, width))
    return xp.maximum(filled_NM - 1, xp.zeros_like(filled_NM)), filled_NM > 0

"""Neighbour search and packing over `xp`, for exported files: they must find neighbours without any other package.

The only module over `xp` whose sizes depend on data and whose names may come from `SEARCH`. Within this package
neighbours come from `neighbours.py` and `packing.py`, which are faster and whose result is the same.

Sizes besides the dimension key: C neighbour candidates of an atom, B bins around an atom, P pairs in one row after
another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Layout, Pairs, spans
from deepmd.data.cells import inverse, searchable
from deepmd.data.limits import MOST_NEIGHBOURS, SLACK

SEARCH = {
    "argsort": "of the standard; sorts atoms into bins and neighbours by distance",
    "checked": "checked(x, right, text) is x, or where `right` is false an error with the text and, of several, the first",
    "ceil": "of the standard; number of periodic images",
    "counting": "0, 1, ..., size - 1 on the device of another array; the standard's arange cannot take a computed size everywhere",
    "cumulative_sum": "of the standard; where the neighbours of each atom start",
    "nonzero": "of the standard, its size depends on the data; drops what lies beyond the cutoff",
    "searchsorted": "of the standard; atoms of a bin among the sorted ones",
    "size": "one size in 64 bits, so that it can be combined with sums of integers; TensorFlow mixes no widths",
}
"""Names of a namespace that only this module uses besides those of physics, each with its reason.

Those of tests and of `autograd` may lack them.
"""

MOST_BINS = 2.0**16
"""Bins along one direction; wider ones find the same neighbours, and their numbers fit into 64 bits."""

MOST_AROUND = 2.0**15
"""Bins to look into around an atom.

Where the shortest vectors of a lattice need more, there are too many neighbours.
"""

LOOKED_AT = 2**12
"""Bins, or atoms in them, that are looked at for each atom and for 2,000 atoms more: they bound memory."""

NOWHERE = 2**62
"""Bin of virtual atoms."""


@dataclass(frozen=True)
class Candidates:
    """Neighbours of centres, not yet ordered, cut or grouped; the slots beyond the last hold anything.

    Attributes
    ----------
    atom_N : number of each centre among the A atoms, ascending
    disp : the components x, y, z of r_j - r_i, each (N, C), Angstrom: arithmetic on columns is faster than on rows of three
    dist_NC : their length
    index_NC : number of j among the A atoms
    mask_NC : True for a pair of an atom with another one, or with an image of itself, within the cutoff (inclusive)
    place_A3 : positions of all atoms, inside their cells, Angstrom
    """

    atom_N: Array
    disp: tuple[Array, Array, Array]
    dist_NC: Array
    index_NC: Array
    mask_NC: Array
    place_A3: Array


@dataclass(frozen=True)
class Packed:
    """Pairs, and how to return from their order of atoms to the caller's.

    Attributes
    ----------
    pairs : the geometry; centres are ordered by type
    row_N : row of each centre of `pairs` in the `Candidates`
    position_A : position of each of the caller's atoms among the atoms of `pairs`
    """

    pairs: Pairs
    row_N: Array
    position_A: Array


# -- search ---------------------------------------------------------------------------------------------------------


def enclosing_cell(coord_A3: Array, rcut: float, *, xp: Namespace) -> Array:
    """Cell (1, 3, 3) so large that no image of any atom is within `rcut` (Angstrom): an open boundary."""
    length_3 = 2.0 * _largest(xp.abs(coord_A3), xp=xp) + 2.0 * rcut
    x, y, z = length_3[0:1], length_3[1:2], length_3[2:3]
    o = xp.zeros_like(x)
    return xp.reshape(xp.concat([x, o, o, o, y, o, o, o, z], axis=0), (1, 3, 3))


def candidates(
    coord_A3: Array, type_A: Array, frame_A: Array, cell_F33: Array, rcut: float, periodic: Any = 1.0, *, xp: Namespace
) -> Candidates:
    """Find all pairs within `rcut` (inclusive, Angstrom) by cell bins; work and memory are linear in the atoms.

    Every frame has its cell (lattice vectors in rows, any shape with a volume, either handedness). Bins are numbered
    periodically: a step over the border of the cell leads to the bin of an image, any number of cells away. Virtual
    atoms (type < 0) find nobody and are not found.

    Parameters
    ----------
    coord_A3 : positions of the atoms of all frames, Angstrom, anywhere in space
    type_A, frame_A : type and frame of each atom, 64 bit
    cell_F33 : cells, Angstrom
    rcut : cutoff, Angstrom
    periodic : 0 where the cells only enclose atoms without a boundary, whose places are then those given; otherwise 1

    What cannot be searched with bounded memory, or not without losing neighbours, is an error of `xp.checked`.
    """
    real_A, most = type_A >= 0, LOOKED_AT * (xp.size(coord_A3, 0) + 2000)
    coord_A3, cell_F33 = searchable(coord_A3, real_A, frame_A, cell_F33, xp=xp)
    inverse_F33 = inverse(cell_F33, xp=xp)
    spacing_F3 = 1.0 / xp.sqrt(xp.sum(inverse_F33 * inverse_F33, axis=1))  # between lattice planes
    one_F3 = xp.ones_like(spacing_F3)
    bins_F3 = xp.maximum(xp.minimum(xp.floor(spacing_F3 / (rcut * (1.0 + SLACK))), MOST_BINS * one_F3), one_F3)
    reach_3 = _largest(xp.ceil(rcut * (1.0 + 0.5 * SLACK) * bins_F3 / spacing_F3), xp=xp)
    width_3 = 2.0 * reach_3 + 1.0
    text = "box is so small, flat or skewed that too many images are near; shorter vectors of the same lattice may do"
    reach_3 = xp.checked(reach_3, width_3[0] * width_3[1] * width_3[2] <= MOST_AROUND, text)
    bins_F3 = xp.astype(bins_F3, xp.int64)

    fraction_A3 = _transformed(coord_A3, xp.take(inverse_F33, frame_A, axis=0), xp=xp)
    wrap_A3 = xp.floor(fraction_A3)
    cell_A33, bins_A3 = xp.take(cell_F33, frame_A, axis=0), xp.take(bins_F3, frame_A, axis=0)
    shift_A3 = _transformed(wrap_A3, cell_A33, xp=xp)
    home_A3 = coord_A3 - shift_A3
    bin_A3 = xp.astype((fraction_A3 - wrap_A3) * xp.astype(bins_A3, xp.float64), xp.int64)
    bin_A3 = xp.minimum(bin_A3, bins_A3 - 1)  # a fraction may round to 1

    steps_B3 = _steps(xp.astype(reach_3, xp.int64), xp=xp)
    around = xp.size(steps_B3, 0)
    text = "box is so small for so many atoms that each has too many neighbours"
    looked_at = xp.sum(xp.zeros_like(type_A)) + around * xp.size(coord_A3, 0)
    steps_1B3 = xp.expand_dims(xp.checked(steps_B3, looked_at <= most, text), axis=0)
    target_AB3 = xp.expand_dims(bin_A3, axis=1) + steps_1B3
    image_AB3 = target_AB3 // xp.expand_dims(bins_A3, axis=1)
    target_AB3 = target_AB3 - image_AB3 * xp.expand_dims(bins_A3, axis=1)
    origin_AB3 = xp.matmul(xp.astype(image_AB3, xp.float64), cell_A33) - xp.expand_dims(home_A3, axis=1)

    limits_3 = _largest(bins_F3, xp=xp)
    number_A = _number(frame_A, bin_A3, limits_3)
    number_A = xp.where(real_A, number_A, xp.zeros_like(number_A) + NOWHERE)
    wanted_AB = _number(xp.expand_dims(frame_A, axis=1), target_AB3, limits_3)
    order_A = xp.argsort(number_A, axis=0)
    sorted_A, wanted = xp.take(number_A, order_A, axis=0), xp.reshape(wanted_AB, (-1,))
    first = xp.searchsorted(sorted_A, wanted, side="left")
    count = xp.searchsorted(sorted_A, wanted, side="right") - first
    seeing = xp.reshape(xp.logical_and(xp.expand_dims(real_A, axis=1), xp.ones_like(wanted_AB) > 0), (-1,))
    count = xp.where(seeing, count, xp.zeros_like(count))
    text = "coord: atoms are so dense, or so many so far apart, that too many pairs have to be tried"
    count = xp.checked(count, xp.sum(count) <= most, text)

    source_P, within_P = _unrolled(count, xp=xp)  # source: which bin around which atom
    i_P = source_P // around
    j_P = xp.take(order_A, xp.take(first, source_P, axis=0) + within_P, axis=0)
    disp_P3 = xp.take(home_A3, j_P, axis=0) + xp.take(xp.reshape(origin_AB3, (-1, 3)), source_P, axis=0)
    middle = xp.equal(
        source_P - i_P * around, (around - 1) // 2
    )  # no step: the only bin with the home copy of the centre
    itself = xp.logical_and(xp.equal(i_P, j_P), middle)
    dist_P = xp.sqrt(xp.sum(disp_P3 * disp_P3, axis=-1))
    (kept,) = xp.nonzero(xp.logical_and(dist_P <= rcut, xp.logical_not(itself)))
    i_P, j_P, disp_P3, dist_P = (xp.take(each, kept, axis=0) for each in (i_P, j_P, disp_P3, dist_P))
    return _tables(i_P, j_P, disp_P3, dist_P, coord_A3 - periodic * shift_A3, xp=xp)


def listed(coord_A3: Array, atom_N: Array, index_NC: Array, rcut: float, *, xp: Namespace) -> Candidates:
    """Take the pairs within `rcut` (inclusive, Angstrom) from a neighbour list that may be wider.

    Parameters
    ----------
    coord_A3 : positions of all atoms, periodic images as atoms of their own, Angstrom
    atom_N : number of each centre, ascending
    index_NC : numbers of the neighbours in any order, negative where empty
    rcut : cutoff, Angstrom
    """
    mask_NC = index_NC >= 0
    index_NC = xp.where(mask_NC, index_NC, xp.zeros_like(index_NC))
    x, y, z = (
        _rows(column, index_NC, xp=xp) - xp.expand_dims(xp.take(column, atom_N, axis=0), axis=1)
        for column in xp.unstack(coord_A3, axis=1)
    )
    dist_NC = xp.sqrt(x * x + y * y + z * z)
    return Candidates(atom_N, (x, y, z), dist_NC, index_NC, xp.logical_and(mask_NC, dist_NC <= rcut), coord_A3)


def _transformed(vector_A3: Array, matrix_A33: Array, *, xp: Namespace) -> Array:
    """Return each row vector times its own matrix."""
    return xp.sum(xp.expand_dims(vector_A3, axis=-1) * matrix_A33, axis=-2)


def _largest(x: Array, *, xp: Namespace) -> Array:
    """Return the largest value along the first axis, at least 0, which is also that of no values."""
    return xp.max(xp.concat([x, xp.zeros_like(xp.sum(x, axis=0, keepdims=True))], axis=0), axis=0)


def _steps(reach_3: Array, *, xp: Namespace) -> Array:
    """All steps to bins around (B, 3), from -reach to reach in each direction; no step is in the middle."""
    width_3 = 2 * reach_3 + 1
    number = xp.counting(width_3[0] * width_3[1] * width_3[2], like=reach_3)
    parts = [number // (width_3[1] * width_3[2]), number // width_3[2], number]
    steps = [part - part // width_3[k] * width_3[k] - reach_3[k] for k, part in enumerate(parts)]
    return xp.concat([xp.expand_dims(step, axis=1) for step in steps], axis=1)


def _number(frame: Array, bins: Array, limits_3: Array) -> Array:
    """One number (...) for each bin (..., 3) of each frame (...)."""
    return ((frame * limits_3[0] + bins[..., 0]) * limits_3[1] + bins[..., 1]) * limits_3[2] + bins[..., 2]


def _unrolled(count: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """For runs of the given lengths, one after another: the run of each element, and its position there."""
    stop = xp.cumulative_sum(count, axis=0)
    total = xp.sum(count)
    element_P = xp.counting(total, like=count)
    run_P = xp.cumulative_sum(xp.segment_sum(xp.ones_like(stop), stop, total + 1), axis=0)[
        :total
    ]  # runs that stop before the element
    return run_P, element_P - xp.take(stop - count, run_P, axis=0)


def _rows(x: Array, index_NC: Array, *, xp: Namespace) -> Array:
    """Take rows of x (A, ...) by a table of row numbers."""
    taken = xp.take(x, xp.reshape(index_NC, (-1,)), axis=0)
    return xp.reshape(taken, (xp.size(index_NC, 0), xp.size(index_NC, 1), *xp.shape(x)[1:]))


def _tables(i_P: Array, j_P: Array, disp_P3: Array, dist_P: Array, place_A3: Array, *, xp: Namespace) -> Candidates:
    """Give the pairs of each atom, which follow each other, a row as wide as the longest needs."""
    num_atoms = xp.size(place_A3, 0)
    count_A = xp.segment_sum(xp.ones_like(i_P), i_P, num_atoms)
    text = f"coord: more than {MOST_NEIGHBOURS} neighbours are within the cutoff of an atom. Atom:"
    count_A = xp.checked(count_A, count_A <= MOST_NEIGHBOURS, text)
    slot_1C = xp.expand_dims(xp.counting(_largest(count_A, xp=xp), like=count_A), axis=0)
    mask_AC = slot_1C < xp.expand_dims(count_A, axis=1)
    pair_AC = slot_1C + xp.expand_dims(xp.cumulative_sum(count_A, axis=0) - count_A, axis=1)
    pair_AC = xp.where(mask_AC, pair_AC, xp.zeros_like(pair_AC))
    x, y, z = (_rows(column, pair_AC, xp=xp) for column in xp.unstack(disp_P3, axis=1))
    atom_A = xp.counting(num_atoms, like=count_A)
    return Candidates(atom_A, (x, y, z), _rows(dist_P, pair_AC, xp=xp), _rows(j_P, pair_AC, xp=xp), mask_AC, place_A3)


# -- packing --------------------------------------------------------------------------------------------------------


def pack(found: Candidates, type_A: Array, frame_A: Array, layout: Layout, ntypes: int, *, xp: Namespace) -> Packed:
    """Order centres by type, cut to `sel`, group by neighbour type; the same contract as `deepmd.data.packing`.

    The nearest sum(sel) neighbours stay (all where a layout is `by_section`), then of each section the nearest. Virtual
    atoms (type < 0) are neither centres nor neighbours.

    Parameters
    ----------
    found : candidates of the centres
    type_A, frame_A : type and frame of each atom, 64 bit
    layout, ntypes : what the model asks for, and its number of types
    """
    if layout.mixed:
        found = _with_empty_column(found, xp=xp)
    type_N = xp.take(type_A, found.atom_N, axis=0)
    key_N = xp.where(type_N >= 0, type_N, xp.zeros_like(type_N) + ntypes)
    counts = tuple(xp.sum(xp.astype(xp.equal(key_N, t), xp.int64)) for t in range(ntypes))
    centres = spans(counts)[-1][1]
    row_N = xp.argsort(key_N, axis=0)[:centres]
    type_N, atom_N = xp.take(type_N, row_N, axis=0), xp.take(found.atom_N, row_N, axis=0)

    kind_NC = _rows(type_A, found.index_NC, xp=xp)
    pair_NC, mask_NC = _nearest(found.dist_NC, xp.logical_and(found.mask_NC, kind_NC >= 0), row_N, layout.most, xp=xp)
    part_NC, near_NC = _entries(kind_NC, pair_NC, xp=xp), mask_NC
    for a, b in {*layout.excluded, *((b, a) for a, b in layout.excluded)}:
        mask_NC = xp.logical_and(
            mask_NC, xp.logical_not(xp.logical_and(xp.expand_dims(xp.equal(type_N, a), axis=1), xp.equal(part_NC, b)))
        )
    if layout.mixed:
        one_NC = xp.zeros_like(part_NC) + len(layout.typed)
        part_NC = xp.concat([part_NC, one_NC], axis=1) if layout.typed else one_NC
    if layout.typed:  # the same neighbours once more
        pair_NC, near_NC, mask_NC = (
            xp.concat(both, axis=1) for both in ((pair_NC, pair_NC), (mask_NC, near_NC), (mask_NC, mask_NC))
        )
    slot_NC, mask_NC, widths = _slots(part_NC, mask_NC, near_NC if layout.messages else mask_NC, layout, xp=xp)
    last_NC = xp.logical_and(mask_NC, xp.equal(part_NC, len(layout.sections) - 1))
    inner = _inner(_entries(found.dist_NC, pair_NC, xp=xp), last_NC, slot_NC - spans(widths)[-1][0], layout, xp=xp)
    pair_NM, mask_NM = _placed(pair_NC, slot_NC, mask_NC, spans(widths)[-1][1], xp=xp)
    disp_NM = [
        xp.where(mask_NM, _entries(x, pair_NM, xp=xp), away)
        for x, away in zip(found.disp, (2.0 * layout.rcut, 0.0, 0.0), strict=True)
    ]

    # atoms that are no centres follow the centres
    is_centre_A = xp.segment_sum(xp.ones_like(atom_N), atom_N, xp.size(type_A, 0)) > 0
    atoms_A = xp.argsort(xp.where(is_centre_A, type_A, xp.zeros_like(type_A) + ntypes), axis=0)
    position_A = xp.segment_sum(xp.counting(xp.size(type_A, 0), like=atoms_A), atoms_A, xp.size(type_A, 0))
    kind_NM = part_NC[:, :0]
    if layout.mixed:
        kind_NM = _kinds(type_A, frame_A, atom_N, _entries(kind_NC, pair_NM, xp=xp), mask_NM, xp=xp)
    index_NM = _rows(position_A, _entries(found.index_NC, pair_NM, xp=xp), xp=xp)
    pairs = Pairs(
        disp_NM3=xp.stack(disp_NM, axis=-1),
        mask_NM=mask_NM,
        index_NM=xp.where(mask_NM, index_NM, xp.zeros_like(index_NM)),
        centre_N=xp.counting(centres, like=row_N),
        type_N=type_N,
        frame_N=xp.take(frame_A, atom_N, axis=0),
        counts=counts,
        widths=widths,
        type_NM=kind_NM,
        place_N3=xp.take(found.place_A3, atom_N, axis=0)
        if layout.messages
        else xp.take(found.place_A3, atom_N, axis=0)[:, :0],
        inner=inner,
    )
    return Packed(pairs, row_N, position_A)


def _entries(table_NC: Array, number_NC: Array, *, xp: Namespace) -> Array:
    """Take entries of a table by their numbers, counted row by row."""
    return _rows(xp.reshape(table_NC, (-1,)), number_NC, xp=xp)


def _nearest(dist_NC: Array, mask_NC: Array, row_N: Array, limit: int, *, xp: Namespace) -> tuple[Array, Array]:
    """Return the numbers of the nearest `limit` real neighbours in the rows, nearest first, and which of them there are."""
    order_NC = xp.argsort(xp.where(mask_NC, dist_NC, xp.zeros_like(dist_NC) + float("inf")), axis=1)
    count_N = xp.sum(xp.astype(mask_NC, xp.int64), axis=1)
    longest = _largest(count_N, xp=xp)
    slot_1C = xp.expand_dims(xp.counting(xp.minimum(longest, xp.zeros_like(longest) + limit), like=row_N), axis=0)
    order_NC = xp.take(order_NC[:, : xp.size(slot_1C, 1)], row_N, axis=0)
    start_N1 = xp.expand_dims(xp.size(mask_NC, 1) * row_N, axis=1)
    return order_NC + start_N1, slot_1C < xp.expand_dims(xp.take(count_N, row_N, axis=0), axis=1)


def _slots(
    part_NC: Array, mask_NC: Array, counted_NC: Array, layout: Layout, *, xp: Namespace
) -> tuple[Array, Array, tuple[Array, ...]]:
    """Return the slot of each neighbour, whether it has one, and the widths of the sections: what the longest row needs.

    Those that are counted without being in the mask leave their slots empty.
    """
    slot_NC, kept_NC, widths, start = xp.zeros_like(part_NC), xp.zeros_like(part_NC), [], 0
    for section, sel in enumerate(layout.sections):
        hit_NC = xp.logical_and(mask_NC, xp.equal(part_NC, section))
        rank_NC = xp.cumulative_sum(xp.astype(xp.logical_and(counted_NC, xp.equal(part_NC, section)), xp.int64), axis=1)
        hit_NC = xp.logical_and(hit_NC, rank_NC <= sel)
        widths.append(_longest(rank_NC, hit_NC, xp=xp))
        slot_NC = xp.where(hit_NC, rank_NC - 1 + start, slot_NC)
        kept_NC = kept_NC + xp.astype(hit_NC, xp.int64)
        start = start + widths[-1]
    if layout.mixed:
        widths[-1] = widths[-1] + 1
    return slot_NC, kept_NC > 0, tuple(widths)


def _longest(rank_NC: Array, hit_NC: Array, *, xp: Namespace) -> Array:
    """Return the largest rank that is hit, 0 if none is."""
    return _largest(xp.reshape(xp.where(hit_NC, rank_NC, xp.zeros_like(rank_NC)), (-1,)), xp=xp)


def _inner(dist_NC: Array, mask_NC: Array, slot_NC: Array, layout: Layout, *, xp: Namespace) -> tuple[Array, ...]:
    """Return the slots that each inner list needs."""
    widths = []
    for rcut, sel in layout.inner:
        hit_NC = xp.logical_and(xp.logical_and(mask_NC, dist_NC <= rcut), slot_NC < sel)
        widths.append(_longest(slot_NC + 1, hit_NC, xp=xp))
    return tuple(widths)


def _with_empty_column(found: Candidates, *, xp: Namespace) -> Candidates:
    """Return candidates with a column of none: the last slot of a mixed row is taken from somewhere even if there are no neighbours."""
    none_N1 = xp.expand_dims(xp.zeros_like(found.atom_N), axis=1)
    away_N1 = xp.astype(none_N1, xp.float64)
    columns = tuple(xp.concat([x, away_N1], axis=1) for x in found.disp)
    index_NC, mask_NC = xp.concat([found.index_NC, none_N1], axis=1), xp.concat([found.mask_NC, none_N1 > 0], axis=1)
    return Candidates(
        found.atom_N, columns, xp.concat([found.dist_NC, away_N1], axis=1), index_NC, mask_NC, found.place_A3
    )


def _kinds(type_A: Array, frame_A: Array, atom_N: Array, kind_NM: Array, mask_NM: Array, *, xp: Namespace) -> Array:
    """Return the types of the neighbours of a mixed layout (see `Pairs.type_NM`)."""
    first_N = xp.take(type_A, xp.searchsorted(frame_A, xp.take(frame_A, atom_N, axis=0), side="left"), axis=0)
    first_N = xp.where(first_N >= 0, first_N, xp.zeros_like(first_N))
    return xp.where(mask_NM, kind_NM, xp.zeros_like(kind_NM) + xp.expand_dims(first_N, axis=1))


def _placed(pair_NC: Array, slot_NC: Array, mask_NC: Array, width: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """Put the numbers of pairs into their slots (N, M), 0 where empty, and return which are taken."""
    rows = xp.size(pair_NC, 0)
    row_N1 = xp.expand_dims(xp.counting(rows, like=slot_NC), axis=1)
    lost = rows * width  # one segment more, for what has no slot
    target_NC = xp.where(mask_NC, row_N1 * width + slot_NC, xp.zeros_like(slot_NC) + lost)
    filled = xp.segment_sum(xp.reshape(pair_NC, (-1,)) + 1, xp.reshape(target_NC, (-1,)), lost + 1)[:lost]
    filled_NM = xp.reshape(filled, (rows, width))
    return xp.maximum(filled_NM - 1, xp.zeros_like(filled_NM)), filled_NM > 0

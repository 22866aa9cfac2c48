"""Cell list over `xp`, for exported files, which cannot import other packages. On the host: `neighbours.py`, faster.

Sizes depend on data here and in `pack_candidates.py` only; both use the names of `SEARCH`. Sizes besides the dimension
key of `namespace.py`: C neighbour candidates of an atom, B bins around an atom, P pairs, flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.data.cells import inverse, searchable
from deepmd.data.limits import MOST_NEIGHBOURS, SLACK

SEARCH = {
    "argsort": "of the standard; sorts atoms into bins and neighbours by distance",
    "checked": "checked(x, right, text) is x, or where `right` is false an error with the text and the first such x",
    "ceil": "of the standard; number of periodic images",
    "counting": "0, 1, ..., size - 1 on the device of another array; not every arange takes a computed size",
    "cumulative_sum": "of the standard; where the neighbours of each atom start",
    "nonzero": "of the standard, its size depends on the data; drops what lies beyond the cutoff",
    "searchsorted": "of the standard; atoms of a bin among the sorted ones",
    "size": "one size in 64 bits, so that it can be combined with sums of integers; TensorFlow mixes no widths",
}
"""Names that search and packing over `xp` use besides those of physics, each with its reason.

Namespaces of tests and of `autograd` may lack them.
"""

MOST_BINS = 2.0**16
"""Most bins along one direction: wider bins find the same neighbours, and composite keys of bins fit 64 bits."""

MOST_AROUND = 2.0**15
"""Most bins to search around an atom. A lattice whose shortest vectors need more has too many neighbours."""

MOST_TRIED_PER_ATOM = 2**12
"""Bound of memory: most bins searched, and most candidate pairs, for A atoms in units of A + 2,000."""

NOWHERE = 2**62
"""Key of the bin of virtual atoms, which is never searched."""


@dataclass(frozen=True)
class Candidates:
    """Neighbours of centres, not yet sorted, cut or sectioned; entries outside of the mask are undefined.

    Attributes
    ----------
    atom_N : number of each centre among the A atoms, ascending
    disp : components x, y, z of r_j - r_i, each (N, C), Angstrom; arithmetic on columns is faster than on rows of three
    dist_NC : |r_j - r_i|, Angstrom
    index_NC : number of j among the A atoms
    mask_NC : True for a pair of an atom with another atom, or with an image of itself, within the cutoff (inclusive)
    in_cell_A3 : positions of all atoms, inside their cells, Angstrom
    """

    atom_N: Array
    disp: tuple[Array, Array, Array]
    dist_NC: Array
    index_NC: Array
    mask_NC: Array
    in_cell_A3: Array


def enclosing_cell(coord_A3: Array, rcut: float, *, xp: Namespace) -> Array:
    """Return the cell (1, 3, 3) of an open boundary, so large that no image of an atom is within `rcut` (Angstrom)."""
    length_3 = 2.0 * largest(xp.abs(coord_A3), xp=xp) + 2.0 * rcut
    x, y, z = length_3[0:1], length_3[1:2], length_3[2:3]
    o = xp.zeros_like(x)
    return xp.reshape(xp.concat([x, o, o, o, y, o, o, o, z], axis=0), (1, 3, 3))


def candidates(
    coord_A3: Array, type_A: Array, frame_A: Array, cell_F33: Array, rcut: float, periodic: Any = 1.0, *, xp: Namespace
) -> Candidates:
    """Find all pairs within `rcut` (inclusive, Angstrom) by cell bins; work and memory are linear in the atoms.

    Every frame has its cell (lattice vectors in rows, any shape with a volume, either handedness). Bins are periodic: a
    step over the border of the cell leads to the bin of an image, any number of cells away. Virtual atoms (type < 0)
    have no neighbours and are no neighbours. A search that would need too much memory or lose neighbours is an error
    of `xp.checked`.

    Parameters
    ----------
    coord_A3 : positions of the atoms of all frames, Angstrom, anywhere in space
    type_A, frame_A : type and frame of each atom, 64 bit
    cell_F33 : cells, Angstrom
    rcut : cutoff, Angstrom
    periodic : 0 for the cells of open boundaries, where `in_cell_A3` are the positions as given; otherwise 1
    """
    real_A, most = type_A >= 0, MOST_TRIED_PER_ATOM * (xp.size(coord_A3, 0) + 2000)
    coord_A3, cell_F33 = searchable(coord_A3, real_A, frame_A, cell_F33, xp=xp)
    inverse_F33 = inverse(cell_F33, xp=xp)
    spacing_F3 = 1.0 / xp.sqrt(xp.sum(inverse_F33 * inverse_F33, axis=1))  # between lattice planes
    # bins are wider than the cutoff, so that one step reaches all neighbours; in a thin cell one bin and several steps
    one_F3 = xp.ones_like(spacing_F3)
    bins_F3 = xp.maximum(xp.minimum(xp.floor(spacing_F3 / (rcut * (1.0 + SLACK))), MOST_BINS * one_F3), one_F3)
    reach_3 = largest(xp.ceil(rcut * (1.0 + 0.5 * SLACK) * bins_F3 / spacing_F3), xp=xp)
    width_3 = 2.0 * reach_3 + 1.0
    text = "box is so small, flat or skewed that too many images are near; shorter vectors of the same lattice may do"
    reach_3 = xp.checked(reach_3, width_3[0] * width_3[1] * width_3[2] <= MOST_AROUND, text)
    bins_F3 = xp.astype(bins_F3, xp.int64)

    # `home_A3`: positions wrapped into the cell. A step over the border leads to a bin of image floor(target / bins)
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
    tried = xp.sum(xp.zeros_like(type_A)) + around * xp.size(coord_A3, 0)
    steps_1B3 = xp.expand_dims(xp.checked(steps_B3, tried <= most, text), axis=0)
    target_AB3 = xp.expand_dims(bin_A3, axis=1) + steps_1B3
    image_AB3 = target_AB3 // xp.expand_dims(bins_A3, axis=1)
    target_AB3 = target_AB3 - image_AB3 * xp.expand_dims(bins_A3, axis=1)
    origin_AB3 = xp.matmul(xp.astype(image_AB3, xp.float64), cell_A33) - xp.expand_dims(home_A3, axis=1)

    # atoms sorted by the key of their bin: the atoms of a wanted bin are a run, found by two binary searches
    limits_3 = largest(bins_F3, xp=xp)
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
    # the bin in the middle is the atom's own, the only bin that holds the centre itself and not an image
    middle = xp.equal(source_P - i_P * around, (around - 1) // 2)
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
        take_rows(column, index_NC, xp=xp) - xp.expand_dims(xp.take(column, atom_N, axis=0), axis=1)
        for column in xp.unstack(coord_A3, axis=1)
    )
    dist_NC = xp.sqrt(x * x + y * y + z * z)
    return Candidates(atom_N, (x, y, z), dist_NC, index_NC, xp.logical_and(mask_NC, dist_NC <= rcut), coord_A3)


def _transformed(vector_A3: Array, matrix_A33: Array, *, xp: Namespace) -> Array:
    """Return each row vector times the matrix of its row."""
    return xp.sum(xp.expand_dims(vector_A3, axis=-1) * matrix_A33, axis=-2)


def largest(x: Array, *, xp: Namespace) -> Array:
    """Return the maximum along the first axis, at least 0; 0 for an empty axis."""
    return xp.max(xp.concat([x, xp.zeros_like(xp.sum(x, axis=0, keepdims=True))], axis=0), axis=0)


def _steps(reach_3: Array, *, xp: Namespace) -> Array:
    """Return the steps to bins around (B, 3), -reach to reach in each direction, with the zero step in the middle."""
    width_3 = 2 * reach_3 + 1
    number = xp.counting(width_3[0] * width_3[1] * width_3[2], like=reach_3)
    parts = [number // (width_3[1] * width_3[2]), number // width_3[2], number]
    steps = [part - part // width_3[k] * width_3[k] - reach_3[k] for k, part in enumerate(parts)]
    return xp.concat([xp.expand_dims(step, axis=1) for step in steps], axis=1)


def _number(frame: Array, bins: Array, limits_3: Array) -> Array:
    """Return the composite key (...) of bins (..., 3) of frames (...): ((frame n_x + x) n_y + y) n_z + z."""
    return ((frame * limits_3[0] + bins[..., 0]) * limits_3[1] + bins[..., 1]) * limits_3[2] + bins[..., 2]


def _unrolled(count: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """Return, for consecutive runs of the given lengths, the run of each element and its position in the run."""
    stop = xp.cumulative_sum(count, axis=0)
    total = xp.sum(count)
    element_P = xp.counting(total, like=count)
    # number of a run: how many runs stop at or before the element
    run_P = xp.cumulative_sum(xp.segment_sum(xp.ones_like(stop), stop, total + 1), axis=0)[:total]
    return run_P, element_P - xp.take(stop - count, run_P, axis=0)


def take_rows(x: Array, index_NC: Array, *, xp: Namespace) -> Array:
    """Take rows of x (A, ...) by a table of row numbers."""
    taken = xp.take(x, xp.reshape(index_NC, (-1,)), axis=0)
    return xp.reshape(taken, (xp.size(index_NC, 0), xp.size(index_NC, 1), *xp.shape(x)[1:]))


def _tables(i_P: Array, j_P: Array, disp_P3: Array, dist_P: Array, in_cell_A3: Array, *, xp: Namespace) -> Candidates:
    """Return a table (A, C) of the pairs, which are sorted by centre: a row per atom, as wide as the longest needs."""
    num_atoms = xp.size(in_cell_A3, 0)
    count_A = xp.segment_sum(xp.ones_like(i_P), i_P, num_atoms)
    text = f"coord: more than {MOST_NEIGHBOURS} neighbours are within the cutoff of an atom. Atom:"
    count_A = xp.checked(count_A, count_A <= MOST_NEIGHBOURS, text)
    slot_1C = xp.expand_dims(xp.counting(largest(count_A, xp=xp), like=count_A), axis=0)
    mask_AC = slot_1C < xp.expand_dims(count_A, axis=1)
    pair_AC = slot_1C + xp.expand_dims(xp.cumulative_sum(count_A, axis=0) - count_A, axis=1)
    pair_AC = xp.where(mask_AC, pair_AC, xp.zeros_like(pair_AC))
    x, y, z = (take_rows(column, pair_AC, xp=xp) for column in xp.unstack(disp_P3, axis=1))
    atom_A = xp.counting(num_atoms, like=count_A)
    return Candidates(
        atom_A, (x, y, z), take_rows(dist_P, pair_AC, xp=xp), take_rows(j_P, pair_AC, xp=xp), mask_AC, in_cell_A3
    )

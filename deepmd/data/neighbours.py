"""Neighbour lists of batches of frames: by the package `vesin`, or by `bins.py` where `vesin` would be slow or fail.

Packing of the lists: `packing.py`. The search of exported files: `search.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.bins import PairArrays, pairs_by_bins
from deepmd.data.lattice import images_within, reduced, spacing
from deepmd.data.limits import FARTHEST, FLATTEST, LARGEST, MOST_NEIGHBOURS
from deepmd.process import import_without

# vesin imports torch where torch is installed, which takes seconds and is of no use for NumPy arrays
vesin = import_without("vesin", "torch")


@dataclass(frozen=True)
class Structure:
    """One frame.

    Attributes
    ----------
    coord : positions (n, 3), Angstrom, anywhere in space
    cell : lattice vectors in rows (3, 3), Angstrom, either handedness; None for an open boundary
    types : integer types (n,); a negative type is a virtual atom that nothing sees
    where : name in errors
    """

    coord: np.ndarray
    cell: np.ndarray | None
    types: np.ndarray
    where: str = "structure"


@dataclass(frozen=True)
class PairList:
    """All pairs of the frames of a batch; atoms are numbered consecutively over the frames.

    Attributes
    ----------
    i, j : centres, ascending, and neighbours (P,)
    disp : r_j - r_i (P, 3), Angstrom
    dist : |r_j - r_i| (P,), Angstrom
    types, frame : type and frame of each atom (A,)
    num_frames : number of frames
    in_cell : position of each atom inside its cell (A, 3), Angstrom
    """

    i: np.ndarray
    j: np.ndarray
    disp: np.ndarray
    dist: np.ndarray
    types: np.ndarray
    frame: np.ndarray
    num_frames: int
    in_cell: np.ndarray


def has_volume(cells: np.ndarray) -> np.ndarray:
    """Return whether each of the cells (..., 3, 3) has a volume."""
    largest = np.abs(cells).max(axis=-1)
    sound = np.all((largest > 1.0 / LARGEST) & (largest < LARGEST), axis=-1)
    scaled = np.where(sound[..., None, None], cells, 0.0) / np.where(sound[..., None], largest, 1.0)[..., None]
    out: np.ndarray = np.abs(np.linalg.det(scaled)) >= FLATTEST
    return out


def check_cell(cell: np.ndarray, where: str) -> None:
    """Raise InputError for a cell without volume; `where` names it."""
    if not has_volume(cell):
        raise InputError(
            f"{where}: the cell {cell.tolist()} has no volume; "
            "give three independent lattice vectors in rows, or none for an open boundary"
        )


def check_positions(structure: Structure) -> None:
    """Raise InputError for the first real atom that is too far out."""
    wrong = ~(np.abs(structure.coord) < FARTHEST).all(axis=1) & (structure.types >= 0)
    if wrong.any():
        atom = int(np.argmax(wrong))
        raise InputError(
            f"{structure.where}: atom {atom} is at {structure.coord[atom].tolist()} Angstrom, "
            "where numbers of float64 are "
            f"more than 1e-8 apart; accepted: coordinates below {FARTHEST:.0f} Angstrom"
        )


def find_neighbours(structures: Sequence[Structure], rcut: float) -> PairList:
    """Find all pairs within `rcut` (inclusive, Angstrom), periodic images included.

    Work and memory are linear in the atoms.
    """
    # the searches find dist < cutoff: the next float64 makes rcut inclusive
    cutoff = float(np.nextafter(rcut, np.inf))
    parts, offset = [], 0
    for structure in structures:
        real = np.flatnonzero(structure.types >= 0)
        blocks = list(_checked(structure, real, cutoff))
        i, j, disp, dist = blocks[0] if len(blocks) == 1 else _join_pairs(blocks)
        parts.append(PairArrays(_numbered(i, real, offset), _numbered(j, real, offset), disp, dist))
        offset += len(structure.types)
    i, j, disp, dist = parts[0] if len(parts) == 1 else _join_pairs(parts)
    types = np.concatenate([np.asarray(s.types, dtype=np.int64) for s in structures])
    frame = np.repeat(np.arange(len(structures)), [len(s.types) for s in structures])
    return PairList(i, j, disp, dist, types, frame, len(structures), np.concatenate([_inside(s) for s in structures]))


def _join_pairs(blocks: Sequence[PairArrays]) -> PairArrays:
    return PairArrays(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))


# -- one frame ------------------------------------------------------------------------------------------------------


def _checked(structure: Structure, real: np.ndarray, cutoff: float) -> Iterator[PairArrays]:
    """Yield the pairs of the real atoms (numbers among the real atoms), one run of centres after another."""

    def refuse(what: str, number: str) -> None:
        raise InputError(
            f"{structure.where}: {what} has {number} neighbours within {cutoff:.10g} Angstrom; "
            f"accepted: at most {MOST_NEIGHBOURS}. Are positions and cell in Angstrom?"
        )

    check_positions(structure)
    points = np.asarray(structure.coord[real], dtype=np.float64)
    cell = None if structure.cell is None else reduced(np.asarray(structure.cell, dtype=np.float64))
    if cell is not None:  # fractional coordinates in (-1, 1), where float64 is fine enough
        points = points - np.trunc(points @ np.linalg.inv(cell)) @ cell
    if not len(real) or _ordinary(points, cell, cutoff):
        blocks: Iterator[PairArrays] = iter([_by_vesin(points, cell, cutoff)])
    else:
        own = 0.0 if cell is None else images_within(cell, cutoff)
        if own > MOST_NEIGHBOURS:
            refuse(
                f"the cell {np.asarray(structure.cell).tolist()} is so small or flat that each atom",
                f"at least {own:.10g}",
            )
        # open boundary: a cell so large that images are farther than any cutoff
        blocks = pairs_by_bins(points, 8.0 * FARTHEST * np.eye(3) if cell is None else cell, cutoff)
    for block in blocks:
        centres = np.arange(block.i[0], block.i[-1] + 2) if len(block.i) else np.zeros(1)
        counts = np.diff(np.searchsorted(block.i, centres))
        if counts.max(initial=0) > MOST_NEIGHBOURS:
            refuse(f"atom {real[centres[np.argmax(counts)]]}", f"{counts.max()}")
        yield block


FEW_BINS = 1e5
"""Most bins that vesin makes as wide as the cutoff.

Beyond, vesin makes wider bins, and crashes if only some directions have many.
"""


def _ordinary(points: np.ndarray, cell: np.ndarray | None, cutoff: float) -> bool:
    """Return whether vesin is quick: few bins, few bins around an atom, few atoms in each bin."""
    if cell is None:
        low, around_3 = points.min(axis=0), np.full(3, 3.0)
        bins_3 = np.floor((points.max(axis=0) - low) / cutoff) + 1.0
        place = (points - low) / cutoff
    else:
        inverse = np.linalg.inv(cell)
        distance = spacing(inverse)
        bins_3 = np.maximum(np.floor(distance / cutoff), 1.0)
        around_3 = 2.0 * np.ceil(cutoff * bins_3 / distance) + 1.0
        place = points @ inverse
        place = (place - np.floor(place)) * bins_3
    around, bins = np.prod(around_3), np.prod(bins_3)
    if not (around * bins <= 27.0 * FEW_BINS or (bins <= len(points) and bins_3.max() <= 20.0 * bins_3.min())):
        return False
    bin_A3 = np.minimum(place, bins_3 - 1.0).astype(np.int64)
    # candidate pairs: bins around an atom times the sum over bins of (atoms in the bin)^2
    counts = np.bincount(bin_A3 @ np.array([1.0, bins_3[0], bins_3[0] * bins_3[1]]).astype(np.int64))
    return bool(around * np.dot(counts, counts) <= 50.0 * MOST_NEIGHBOURS * (len(points) + 10))


FEW_ATOMS = 2**16
"""Below 2**16 atoms indices fit uint16, which NumPy sorts with a two-pass radix sort."""


def _by_vesin(points: np.ndarray, cell: np.ndarray | None, cutoff: float) -> PairArrays:
    """Return all pairs sorted by centre.

    Below `FEW_ATOMS` vesin finds each pair once, and (j, i, -disp) is added here, in half the time of a full list.
    """
    whole = len(points) >= FEW_ATOMS
    search = vesin.NeighborList(cutoff=cutoff, full_list=whole, sorted=whole)
    box = np.zeros((3, 3)) if cell is None else cell
    i, j, disp, dist = search.compute(points=points, box=box, periodic=cell is not None, quantities="ijDd")
    i, j = (found.view(np.int64) if found.dtype == np.uint64 else found.astype(np.int64) for found in (i, j))
    if whole:
        return PairArrays(i, j, disp, dist)
    order = np.argsort(np.concatenate([i, j]).astype(np.uint16), kind="stable")
    pairs = ((i, j), (j, i), (disp, -disp), (dist, dist))
    return PairArrays(*(np.take(np.concatenate(both), order, axis=0) for both in pairs))


def _inside(structure: Structure) -> np.ndarray:
    """Return the positions (n, 3) wrapped into the cell, as they are without a cell."""
    coord = np.asarray(structure.coord, dtype=np.float64)
    if structure.cell is None:
        return coord
    fraction = np.linalg.solve(structure.cell.T, coord.T).T
    inside: np.ndarray = coord - np.floor(fraction) @ structure.cell
    return inside


def _numbered(numbers: np.ndarray, real: np.ndarray, offset: int) -> np.ndarray:
    """Return numbers in the batch from numbers among the real atoms of a frame, without a copy where they agree."""
    if len(real) and real[-1] + 1 != len(real):
        numbers = real[numbers]
    return numbers + offset if offset else numbers

"""Neighbour lists of batches of frames, by the `vesin` package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.host import import_without

vesin = import_without("vesin", "torch")  # it would import torch wherever that is installed: seconds, for arrays that are never torch's


@dataclass(frozen=True)
class Structure:
    """One frame.

    Attributes
    ----------
    coord : positions (n, 3), Angstrom, anywhere in space
    cell : lattice vectors in rows (3, 3), Angstrom, either handedness; None for an open boundary
    types : integer types (n,); a negative type is a virtual atom that nothing sees
    """

    coord: np.ndarray
    cell: np.ndarray | None
    types: np.ndarray


@dataclass(frozen=True)
class Neighbours:
    """All pairs of the frames of a batch, atoms numbered through over the frames.

    Attributes
    ----------
    i, j : the centre and its neighbour (P,)
    disp : r_j - r_i (P, 3), Angstrom
    dist : its length (P,)
    types, frame : type and frame of each atom (A,)
    place : position of each atom (A, 3), inside its cell, Angstrom
    """

    i: np.ndarray
    j: np.ndarray
    disp: np.ndarray
    dist: np.ndarray
    types: np.ndarray
    frame: np.ndarray
    num_frames: int
    place: np.ndarray


def check_cell(cell: np.ndarray, where: str) -> None:
    """Raise InputError for a cell without volume; `where` names it."""
    if not np.all(np.isfinite(cell)) or abs(np.linalg.det(cell)) < 1e-8 * max(np.abs(cell).max(), 1e-30) ** 3:
        raise InputError(
            f"{where}: the cell {cell.tolist()} has no volume; give three independent lattice vectors in rows, or none for an open boundary"
        )


def find_neighbours(structures: Sequence[Structure], rcut: float) -> Neighbours:
    """Find all pairs within `rcut` (inclusive, Angstrom), periodic images included. Work and memory are linear in the atoms."""
    # the open interval of the search becomes closed
    cutoff = float(np.nextafter(rcut, np.inf))
    parts, offset = [], 0
    for structure in structures:
        real = np.flatnonzero(structure.types >= 0)
        periodic = structure.cell is not None
        i, j, disp, dist = _search(
            cutoff,
            points=np.ascontiguousarray(structure.coord if len(real) == len(structure.types) else structure.coord[real], dtype=np.float64),
            box=np.ascontiguousarray(structure.cell if periodic else np.zeros((3, 3)), dtype=np.float64),
            periodic=periodic,
            quantities="ijDd",
        )
        parts.append((_numbered(i, real, offset), _numbered(j, real, offset), disp, dist))
        offset += len(structure.types)
    i, j, disp, dist = parts[0] if len(parts) == 1 else (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    types = np.concatenate([np.asarray(s.types, dtype=np.int64) for s in structures])
    frame = np.repeat(np.arange(len(structures)), [len(s.types) for s in structures])
    return Neighbours(i, j, disp, dist, types, frame, len(structures), np.concatenate([_inside(s) for s in structures]))


FEW_ATOMS = 2**16
"""So many atoms have numbers that sort in two passes."""


def _search(cutoff: float, **question: Any) -> tuple[np.ndarray, ...]:
    """Return all pairs, sorted by their first atom. Searching each pair once and turning it round takes half of the time of searching both."""
    if len(question["points"]) >= FEW_ATOMS:
        whole: tuple[np.ndarray, ...] = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True).compute(**question)
        return whole
    i, j, disp, dist = vesin.NeighborList(cutoff=cutoff, full_list=False, sorted=False).compute(**question)
    order = np.argsort(np.concatenate([i, j]).astype(np.uint16), kind="stable")
    pairs = ((i, j), (j, i), (disp, -disp), (dist, dist))
    return tuple(np.take(np.concatenate(both), order, axis=0) for both in pairs)


def _inside(structure: Structure) -> np.ndarray:
    """Return the positions (n, 3) inside the cell."""
    coord = np.asarray(structure.coord, dtype=np.float64)
    if structure.cell is None:
        return coord
    fraction = np.linalg.solve(structure.cell.T, coord.T).T
    inside: np.ndarray = coord - np.floor(fraction) @ structure.cell
    return inside


def _numbered(found: np.ndarray, real: np.ndarray, offset: int) -> np.ndarray:
    """Numbers in the batch from the unsigned ones among the real atoms of a frame; whole arrays are copied no more than needed."""
    numbers = found.view(np.int64) if found.dtype == np.uint64 else found.astype(np.int64)
    if len(real) and real[-1] + 1 != len(real):
        return real[numbers] + offset
    return numbers + offset if offset else numbers

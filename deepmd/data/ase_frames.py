"""Frames of a file that ASE reads: extxyz, OUTCAR, vasprun.xml, `.traj`, `.db` and others (docs/input.md#files-of-ase).

A file is read once in a process; its frames stay in memory. What their values mean: `label_keys.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.frame_arrays import Version, version_of

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger(__name__)

LONG = 5.0
"""Seconds of reading after which the log says how long it took, and what is faster."""

GEOMETRY = ("numbers", "positions")
"""Arrays of ASE's structures that are no values."""


@dataclass(frozen=True)
class Frame:
    """One structure of a file.

    Attributes
    ----------
    number : in the file, from 0
    numbers : atomic numbers (n,)
    coord : positions (n, 3), Angstrom
    cell : lattice vectors in rows (3, 3), Angstrom; None for an open boundary
    values : numbers of the structure by name, flat: results of its calculator, then `atoms.info` and `atoms.arrays`
    """

    number: int
    numbers: np.ndarray
    coord: np.ndarray
    cell: np.ndarray | None
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class AseFile:
    """All frames of a file, and its systems: frames of the same composition, boundary and names of values.

    The systems do not depend on the keys of the labels, so that a name such as `FILE#H2O` always means the same.
    `sources` keeps what `label_keys.find_source` found.
    """

    frames: tuple[Frame, ...]
    systems: Mapping[str, tuple[Frame, ...]]
    sources: dict[Any, Any] = field(default_factory=dict)


_FILES: dict[str, tuple[Version, AseFile]] = {}
"""Files that were read, by path. A file that is written anew replaces the frames of the old one."""


def open_ase_file(path: str) -> AseFile:
    """Return the frames of a file; raise InputError if ASE cannot read it."""
    place = str(Path(path).absolute())
    version = version_of(place)
    if place not in _FILES or _FILES[place][0] != version:
        start = time.monotonic()
        partly: list[int] = []
        frames = tuple(_frame(number, atoms, path, partly) for number, atoms in enumerate(read_structures(path)))
        if not frames:
            raise InputError(f"{path}: holds no structure")
        if (seconds := time.monotonic() - start) > LONG:
            text = "%s: %d frames were read in %.0f s; `dp data convert` writes files that open at once"
            log.info(text, path, len(frames), seconds)
        if partly:
            text = "%s: %d frames are periodic in some directions only; their cells are taken as periodic in all three"
            log.warning(text, path, len(partly))
        _FILES[place] = version, AseFile(frames, _group(frames))
    return _FILES[place][1]


def read_structures(path: str) -> Iterator[Atoms]:
    """Yield the structures of a file in their order; raise InputError if ASE cannot read it."""
    try:
        from ase.io import iread
    except ModuleNotFoundError as error:
        text = "is no folder, HDF5 file or LMDB data set. Other files are read by ASE, which is not installed"
        raise InputError(f"{path}: {text}: pip install 'deepmd[ase]'") from error
    try:
        yield from iread(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # readers of ASE raise what they like for damaged files
        known = "accepted: folders, HDF5 files, LMDB data sets, and files that ASE reads (extxyz, OUTCAR, .traj, ...)"
        reason = str(error).strip() or type(error).__name__
        raise InputError(f"{path}: is no HDF5 file, and ASE cannot read it: {reason}; {known}") from error


def _frame(number: int, atoms: Atoms, path: str, partly: list[int]) -> Frame:
    """Return a structure as a frame; note its number in `partly` if some directions are not periodic."""
    cell = None
    if np.any(atoms.pbc):  # periodic in all directions, as in the ASE calculator
        cell = np.array(atoms.cell.array, dtype=np.float64)
        partly += [] if atoms.pbc.all() else [number]
        if atoms.cell.rank < 3:
            text = f"is periodic along {int(atoms.pbc.sum())} of 3 directions and has {atoms.cell.rank} lattice vectors"
            hint = "give all three, with enough vacuum along the others (atoms.center(vacuum=10.0, axis=2)), or none"
            raise InputError(f"{path}: frame {number} {text}; {hint}")
    results = {} if atoms.calc is None else getattr(atoms.calc, "results", {})
    arrays = {name: values for name, values in atoms.arrays.items() if name not in GEOMETRY}
    rows = atoms.info.get("key_value_pairs", {})  # of a .db file
    values = {**arrays, **rows, **atoms.info, **results}
    flat = {str(name): array for name, value in values.items() if (array := _numbers(value)) is not None}
    return Frame(number, atoms.numbers.copy(), np.array(atoms.positions, dtype=np.float64), cell, flat)


def _numbers(value: Any) -> np.ndarray | None:
    """Return a value as a flat array of numbers, None if it is something else."""
    if isinstance(value, str | bytes | Mapping) or value is None:
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # ragged lists
        return None
    return array.astype(np.float64).reshape(-1) if array.dtype.kind in "fiu" and array.size else None


def _group(frames: Sequence[Frame]) -> dict[str, tuple[Frame, ...]]:
    """Sort frames into systems by name, a Hill formula and, where it names several systems, a number."""
    from ase import Atoms

    found: dict[tuple[bytes, bool, frozenset[str]], list[Frame]] = {}
    for frame in frames:
        key = np.sort(frame.numbers).tobytes(), frame.cell is None, frozenset(frame.values)
        found.setdefault(key, []).append(frame)
    systems: dict[str, tuple[Frame, ...]] = {}
    count: dict[str, int] = {}
    for group in found.values():
        formula = Atoms(numbers=group[0].numbers).get_chemical_formula(mode="hill") or "empty"
        number = count.get(formula, 0)
        count[formula] = number + 1
        systems[f"{formula}.{number}" if number else formula] = tuple(group)
    return dict(sorted(systems.items()))

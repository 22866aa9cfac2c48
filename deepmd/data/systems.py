"""Systems in the DeePMD npy layout: `type.raw`, `type_map.raw`, `nopbc`, `set.*/NAME.npy` (spec formats, section 4)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.neighbours import Structure, check_cell

WIDTHS = {
    # name: (values per frame, values per atom); None: any number of values
    "energy": (1, 0),
    "virial": (9, 0),
    "force": (0, 3),
    "atom_ener": (0, 1),
    "atom_pref": (0, 1),
    "atom_ener_coeff": (0, 1),
    "fparam": (None, 0),
    "aparam": (0, None),
}
"""Data that are read besides coordinates and cells."""


@dataclass(frozen=True)
class System:
    """Frames of one composition.

    Attributes
    ----------
    path : where it was read from
    types : type of each atom (n,) in the numbering of the model
    coord : (frames, n, 3), Angstrom
    cell : (frames, 3, 3), Angstrom, lattice vectors in rows; None for an open boundary
    data : labels and parameters that were found: (frames, k) or (frames, n, k); energies (frames,), per-atom scalars (frames, n)
    sets : frames of each `set.*` folder
    """

    path: str
    types: np.ndarray
    coord: np.ndarray
    cell: np.ndarray | None
    data: dict[str, np.ndarray]
    sets: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.coord)

    @property
    def num_atoms(self) -> int:
        """Number of atoms of a frame, virtual ones included."""
        return len(self.types)

    def structure(self, frame: int) -> Structure:
        """Return one frame without its labels."""
        return Structure(self.coord[frame], None if self.cell is None else self.cell[frame], self.types)


def find_systems(systems: str | Sequence[str], patterns: Sequence[str] | None = None) -> list[str]:
    """Return the folders of systems: all below a folder, or below each of a list (a system itself counts).

    Raises
    ------
    InputError
        A folder does not exist or holds no system.
    """
    roots = [systems] if isinstance(systems, str) else [str(path) for path in systems]
    found: list[str] = []
    for root in roots:
        if not isinstance(systems, str) and not patterns and not any(Path(root).rglob("type.raw")):
            found.append(root)  # reading it tells what is wrong
        elif not Path(root).is_dir():
            raise InputError(f"{root}: no such folder with systems")
        if patterns:
            found += sorted(str(path) for pattern in patterns for path in Path(root).rglob(pattern) if (path / "type.raw").is_file())
        else:
            found += sorted(str(path.parent) for path in Path(root).rglob("type.raw"))
    if not found:
        raise InputError(f"{', '.join(roots)}: no system below (a system is a folder with type.raw)")
    return found


def load_system(path: str | os.PathLike[str], type_map: Sequence[str], names: Sequence[str] = tuple(WIDTHS)) -> System:
    """Read a system; `type_map` is that of the model, `names` the data wanted where present.

    Raises
    ------
    InputError
        A file is missing, cannot be read, has the wrong shape, holds NaN, or an element is not in `type_map`.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such system folder")
    types = _types(folder, type_map)
    open_boundary = (folder / "nopbc").is_file()
    sets = sorted(p for p in folder.glob("set.*") if p.is_dir())
    if not sets:
        raise InputError(f"{folder}: holds no set.* folder with .npy files")
    if any((part / "real_atom_types.npy").exists() for part in sets):
        raise InputError(f"{folder}: a mixed_type system (real_atom_types.npy); these are not supported yet. Use one folder per composition")

    coord = [_array(part / "coord.npy", 3 * len(types)) for part in sets]
    frames = tuple(len(array) for array in coord)
    if sum(frames) == 0:
        raise InputError(f"{folder}: holds no frame")
    cell = None
    if not open_boundary:
        parts = [
            _array(part / "box.npy", 9, n, "; put an empty file 'nopbc' beside type.raw if the boundary is open")
            for part, n in zip(sets, frames, strict=True)
        ]
        cell = np.concatenate(parts).reshape(-1, 3, 3)
        for number, each in enumerate(cell):
            check_cell(each, f"{folder}: box of frame {number}")
    data = {}
    for name in names:
        found = [_find(part, name) for part in sets]
        if all(file is None for file in found):
            continue
        if any(file is None for file in found):
            raise InputError(f"{folder}: {name}.npy is missing in {sets[found.index(None)].name} but present in other sets")
        parts = [_label(file, name, len(types), n) for file, n in zip(found, frames, strict=True) if file is not None]
        data[name] = np.concatenate(parts)
    return System(str(folder), types, np.concatenate(coord).reshape(sum(frames), len(types), 3), cell, data, frames)


def _types(folder: Path, type_map: Sequence[str]) -> np.ndarray:
    file = folder / "type.raw"
    try:
        types = np.array([int(word) for word in file.read_text().split()], dtype=np.int64)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{file}: must hold one integer per atom: {error}") from error
    if len(types) == 0:
        raise InputError(f"{file}: holds no atom")
    local = folder / "type_map.raw"
    if local.is_file():
        elements = local.read_text().split()
        if types.max() >= len(elements):
            raise InputError(f"{file}: type {types.max()} has no name in {local.name}, which lists {elements}")
        for element in elements:
            if element not in type_map:
                raise InputError(f"{local}: element {element!r} is not in the model's type_map {list(type_map)}.{nearest(element, type_map)}")
        renumber = np.array([list(type_map).index(element) for element in elements], dtype=np.int64)
        types = np.where(types >= 0, renumber[types], types)
    elif types.max() >= len(type_map):
        raise InputError(f"{file}: type {types.max()} is beyond the model's type_map {list(type_map)}")
    return types


def _find(part: Path, name: str) -> Path | None:
    other = name.replace("atom_", "atomic_", 1) if name.startswith("atom_") else name
    return next((part / f"{n}.npy" for n in (name, other) if (part / f"{n}.npy").is_file()), None)


def _array(file: Path, width: int | None, frames: int | None = None, hint: str = "") -> np.ndarray:
    """Read (frames, width) numbers."""
    try:
        array = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{file}: missing{hint}") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file}: not a readable .npy file: {error}") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{file}: holds {array.dtype} values, expected numbers")
    array = array.astype(np.float64)
    rows = frames if frames is not None else (array.shape[0] if array.ndim else 0)
    if array.ndim == 0 or array.shape[0] != rows or (width is not None and array.size != rows * width):
        wanted = f"({rows}, {'k' if width is None else width})"
        raise InputError(f"{file}: has shape {array.shape}, expected {wanted}: frames x values")
    if not np.all(np.isfinite(array)):
        bad = int(np.flatnonzero(~np.isfinite(array.reshape(rows, -1)).all(axis=1))[0])
        raise InputError(f"{file}: frame {bad} holds NaN or infinity")
    return array.reshape(rows, -1)


def _label(file: Path, name: str, natoms: int, frames: int) -> np.ndarray:
    per_frame, per_atom = WIDTHS[name]
    if per_frame == 1:
        return _array(file, 1, frames)[:, 0]
    if per_atom == 0:
        return _array(file, per_frame, frames)
    if name == "atom_pref":  # stored once per atom or once per component
        array = _array(file, None, frames)
        if array.shape[1] == 3 * natoms:
            array = array.reshape(frames, natoms, 3)[:, :, 0]
        if array.shape[1] != natoms:
            raise InputError(f"{file}: has {array.shape[1]} values per frame, expected {natoms} or {3 * natoms}")
        return array
    if per_atom is None:
        array = _array(file, None, frames)
        if array.shape[1] % natoms:
            raise InputError(f"{file}: has {array.shape[1]} values per frame, expected a multiple of the {natoms} atoms")
        return array.reshape(frames, natoms, -1)
    array = _array(file, per_atom * natoms, frames)
    return array if per_atom == 1 else array.reshape(frames, natoms, per_atom)

"""Systems in the DeePMD npy layout: `type.raw`, `type_map.raw`, `nopbc`, `set.*/NAME.npy` (docs/input.md#data).

Files are read through `storage.py`, from folders and HDF5 groups alike. Shapes, types and cells are checked at once,
other numbers when a frame is used (`frame_arrays.py`).
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.errors import InputError, nearest
from deepmd.data.frame_arrays import Convert, FrameArray, Part
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.neighbours import Structure, check_cell, has_volume
from deepmd.data.storage import Storage, open_storage

Values = np.ndarray | FrameArray
"""Values of the frames of a system, in memory or in files."""

Width = tuple[int | None, int | None]
"""Values per frame and values per atom, one of them 0; None: any number of values."""

WIDTHS: dict[str, Width] = {
    "numb_copy": (1, 0),
    "energy": (1, 0),
    "virial": (9, 0),
    "force": (0, 3),
    "atom_ener": (0, 1),
    "atom_pref": (0, 1),
    "atom_ener_coeff": (0, 1),
    **{name: (0, None) if row.per_atom else (len(row.limits) or None, 0) for name, row in CONDITIONS.items()},
    "dipole": (3, 0),
    "atom_dipole": (0, 3),
    "polarizability": (9, 0),
    "atom_polarizability": (0, 9),
    "dos": (None, 0),
    "atom_dos": (0, None),
}
"""Known data besides coordinates and cells; other data are read by `load_system` with a given width."""

SCALARS = ("energy", "atom_ener", "atom_pref", "atom_ener_coeff", "atomic_weight")
"""Data without an axis for their values."""


OUTPUT_ATOMS_ONLY = ("atom_dipole", "atom_polarizability")
"""Data that may be stored only for atoms whose type has an output."""


@dataclass(frozen=True)
class System:
    """Frames with the same number of atoms.

    Attributes
    ----------
    path : folder or `file.hdf5#/group` of the system
    types : type of each atom in the numbering of the model, (n,), or (frames, n) if frames differ (mixed_type);
        negative: no atom
    coord : (frames, n, 3), Angstrom
    cell : (frames, 3, 3), Angstrom, lattice vectors in rows; None for an open boundary
    data : labels and parameters that were found: (frames, k) or (frames, n, k); energies (frames,), scalars of atoms
        (frames, n)
    sets : frames of each `set.*` folder
    numbers : numbers of the frames in their file, for messages; None: 0, 1, ...
    """

    path: str
    types: Values
    coord: Values
    cell: Values | None
    data: Mapping[str, Values]
    sets: tuple[int, ...]
    numbers: np.ndarray | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.coord)

    @property
    def num_atoms(self) -> int:
        """Number of atoms of a frame, virtual ones included."""
        return int(self.types.shape[-1])

    @property
    def mixed(self) -> bool:
        """Whether frames differ in their composition."""
        return self.types.ndim == 2

    def types_of(self, frame: int) -> np.ndarray:
        """Return the types of the atoms (n,) of one frame."""
        return np.asarray(self.types[frame] if self.mixed else self.types)

    def structure(self, frame: int) -> Structure:
        """Return one frame without its labels."""
        cell = None if self.cell is None else self.cell[frame]
        return Structure(self.coord[frame], cell, self.types_of(frame), f"{self.path}: frame {self.number(frame)}")

    def number(self, frame: int) -> int:
        """Return the number of a frame in the files."""
        return int(frame if self.numbers is None else self.numbers[frame])


def find_systems(systems: str | Sequence[str], patterns: Sequence[str] | None = None) -> list[str]:
    """Return the systems below a folder, or below each folder of a list; a folder that is a system counts.

    A system is a folder with `type.raw`, or an HDF5 group `file.hdf5#/group` with a dataset `type.raw`. A file stands
    for all its systems, a pattern such as `runs/*/OUTCAR` for all that it matches. `Storage.systems` says which links
    count.
    """
    roots = [each for path in ([systems] if isinstance(systems, str) else systems) for each in _expand(str(path))]
    found: list[str] = []
    for root in roots:
        with open_storage(root) as storage:
            below = storage.systems(patterns)
        single = not isinstance(systems, str) and patterns is None
        found += below or ([root] if single else [])  # no system: reading the folder says what is wrong
    if not found:
        raise InputError(
            f"{', '.join(roots)}: no system below (a system is a folder, or a group of an HDF5 file, with type.raw)"
            f"{_hint(roots)}"
        )
    return found


def _hint(roots: Sequence[str]) -> str:
    """Return the end of a message: files of trajectories in folders, which a search does not open."""
    endings = (".extxyz", ".xyz", ".traj", ".db", ".lmdb", ".h5", ".hdf5", "OUTCAR", "vasprun.xml")
    files = [file for root in roots for file in sorted(Path(root).rglob("*")) if file.name.endswith(endings)]
    return f". Name the file that holds the data: {', '.join(map(str, files[:3]))}" if files else ""


def _expand(path: str) -> list[str]:
    """Return what a pattern of files matches, sorted; a path that is there stands for itself."""
    if not glob.has_magic(path) or Path(path.partition("#")[0]).exists() or Path(path).exists():
        return [path]
    found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  patterns may be absolute
    if not found:
        raise InputError(f"{path}: matches no folder or file")
    return found


def elements_of(paths: Sequence[str]) -> list[str]:
    """Return the element names of systems in the order in which they appear; [] if no system names any."""
    found: dict[str, None] = {}
    for path in paths:
        with open_storage(path) as storage:
            if storage.has("type_map.raw"):
                found.update(dict.fromkeys(_elements(storage)))
    return list(found)


def count_types(paths: Sequence[str]) -> int:
    """Return the number of types of systems that name no elements."""
    most = 0
    for path in paths:
        with open_storage(path) as storage:
            most = max(most, 1 + max((int(word) for word in storage.words("type.raw") if word.isdecimal()), default=0))
    return most


def load_system(
    path: str | os.PathLike[str],
    type_map: Sequence[str],
    names: Sequence[str] | Mapping[str, Width] = tuple(WIDTHS),
    without: Sequence[int] = (),
    keys: LabelKeys = DETECTED,
) -> System:
    """Read a system.

    Parameters
    ----------
    path : a folder, `file.hdf5#/group`, `data.lmdb#SYSTEM`, or `FILE#SYSTEM` of a file that ASE reads
    type_map : element names of the model
    names : data to read where present; a mapping gives the width of each (for properties of any name)
    without : types without atomic output; `OUTPUT_ATOMS_ONLY` may be stored for the other atoms only
    keys : names of the labels in files that ASE reads
    """
    with open_storage(str(path), keys) as storage:
        widths = names if isinstance(names, Mapping) else {name: WIDTHS[name] for name in names}
        return _load(storage, type_map, widths, without)


def _load(storage: Storage, type_map: Sequence[str], widths: Mapping[str, Width], without: Sequence[int]) -> System:
    alike = _types(storage, type_map)
    where, natoms = storage.where, len(alike)
    sets = storage.sets()
    if not sets:
        hint = (
            "; .raw files of coordinates and labels have to become .npy files in set.000 first"
            if storage.has("coord.raw")
            else ""
        )
        raise InputError(f"{where}: holds no set.* folder with .npy files{hint}")

    coord = [_part(storage, (part, "coord.npy"), 3 * natoms) for part in sets]
    frames = tuple(part.frames for part in coord)
    cell = None
    if not storage.has("nopbc"):
        hint = "; put an empty file 'nopbc' beside type.raw if the boundary is open"

        def check_cells(values: np.ndarray, first: int) -> np.ndarray:
            cells = values.reshape(-1, 3, 3)
            for number in np.flatnonzero(~has_volume(cells)):
                check_cell(cells[number], f"{where}: box of frame {first + number}")
            return cells

        check = check_cells if storage.has_records else None  # records: when a frame is used
        parts = [_part(storage, (part, "box.npy"), 9, n, hint, check) for part, n in zip(sets, frames, strict=True)]
        cell = FrameArray(parts, (3, 3))
        for first, block in () if storage.has_records else cell.blocks():
            check_cells(block, first)
    types: Values = alike
    if any(storage.has(part, "real_atom_types.npy") for part in sets):
        numbering = _numbering(storage, type_map)
        parts = [_real_types(storage, *each, natoms, numbering, type_map) for each in zip(sets, frames, strict=True)]
        types = FrameArray(parts, (natoms,), np.int64)
        for _ in () if storage.has_records else types.blocks():  # checks every frame
            pass
    elif alike.max() >= len(type_map):
        raise InputError(
            f"{storage.name('type.raw')}: type {alike.max()} is beyond the model's type_map {list(type_map)}"
        )
    data = {}
    for name, width in widths.items():
        found = [_find(storage, part, name) for part in sets]
        if all(file is None for file in found):
            continue
        if any(file is None for file in found):
            raise InputError(f"{where}: {name}.npy is missing in {sets[found.index(None)]} but present in other sets")
        some = name in OUTPUT_ATOMS_ONLY and types.ndim == 1
        kept = np.flatnonzero((alike >= 0) & ~np.isin(alike, without)) if some else np.arange(natoms)
        files = [(file, n) for file, n in zip(found, frames, strict=True) if file]
        data[name] = _join([_label(storage, file, name, width, (n, natoms), kept) for file, n in files])
    copies = data.pop("numb_copy", None)
    if copies is not None and any(np.any(block != 1) for _, block in copies.blocks()):
        wanted = "accepted: 1 for every frame. Write a frame several times where it shall count more"
        raise InputError(f"{where}: numb_copy.npy, frames that count several times, is not supported; {wanted}")
    return System(where, types, FrameArray(coord, (natoms, 3)), cell, data, frames, storage.numbers)


def _join(labels: Sequence[tuple[Part, tuple[int, ...]]]) -> FrameArray:
    """Join the label of all sets, which have values of one shape."""
    (first, shape), *more = labels
    for part, other in more:
        if other != shape:
            raise InputError(f"{part.name}: has values of shape {other} per frame, {first.name} of shape {shape}")
    return FrameArray([part for part, _ in labels], shape)


def _types(storage: Storage, type_map: Sequence[str]) -> np.ndarray:
    file = storage.name("type.raw")
    try:
        types = np.array([int(word) for word in storage.words("type.raw")], dtype=np.int64)
    except ValueError as error:
        raise InputError(f"{file}: must hold one integer per atom: {error}") from error
    if len(types) == 0:
        raise InputError(f"{file}: holds no atom")
    return _numbering(storage, type_map)(types, file)


def _numbering(storage: Storage, type_map: Sequence[str]) -> Callable[[np.ndarray, str], np.ndarray]:
    """Return the function of types and their file to the numbering of the model; negative types stay."""
    if not storage.has("type_map.raw"):
        return lambda types, file: types
    elements, listed = _elements(storage), storage.name("type_map.raw")
    _check_once(type_map, "the model's type_map")

    def renumber(types: np.ndarray, file: str) -> np.ndarray:
        if types.max() >= len(elements):
            raise InputError(f"{file}: type {types.max()} has no name in type_map.raw, which lists {elements}")
        for element in elements:
            if element not in type_map:
                known = f"the model's type_map {list(type_map)}"
                raise InputError(f"{listed}: element {element!r} is not in {known}.{nearest(element, type_map)}")
        numbers = np.array([list(type_map).index(element) for element in elements], dtype=np.int64)
        return np.where(types >= 0, numbers[types], types)

    return renumber


def _elements(storage: Storage) -> list[str]:
    elements = storage.words("type_map.raw")
    _check_once(elements, storage.name("type_map.raw"))
    return elements


def _check_once(elements: Sequence[str], where: str) -> None:
    twice = [element for element in elements if elements.count(element) > 1]
    if twice:
        raise InputError(f"{where}: lists {twice[0]!r} {elements.count(twice[0])} times; accepted: each element once")


def _real_types(
    storage: Storage,
    part: str,
    frames: int,
    natoms: int,
    numbering: Callable[[np.ndarray, str], np.ndarray],
    type_map: Sequence[str],
) -> Part:
    """Return the types (frames, natoms) of a mixed_type set; -1 fills up frames with fewer atoms."""
    place = (part, "real_atom_types.npy")
    file = storage.name(*place)

    def convert(values: np.ndarray, first: int) -> np.ndarray:
        types = values.astype(np.int64)
        if np.any(types != values):
            raise InputError(f"{file}: must hold whole numbers, the types of the atoms and -1 for no atom")
        types = numbering(types, file)
        if types.max() >= len(type_map):
            raise InputError(f"{file}: type {types.max()} is beyond the model's type_map {list(type_map)}")
        real = (types >= 0).any(axis=1)
        if not real.all():
            raise InputError(f"{file}: frame {first + int(np.argmin(real))} has no atom")
        return types

    return _part(storage, place, natoms, frames, convert=convert)


def _find(storage: Storage, part: str, name: str) -> tuple[str, str] | None:
    """Return the file of a label; the prefixes `atom_` and `atomic_` mean the same."""
    rest = name.removeprefix("atomic_").removeprefix("atom_")
    names = [name] if rest == name else [f"atom_{rest}", f"atomic_{rest}"]
    found = [(part, f"{each}.npy") for each in names if storage.has(part, f"{each}.npy")]
    if len(found) > 1:
        raise InputError(f"{storage.name(*found[0])}: {found[1][1]} is there too, which means the same; keep one")
    return found[0] if found else None


def _part(
    storage: Storage,
    place: tuple[str, str],
    width: int | None,
    frames: int | None = None,
    hint: str = "",
    convert: Convert | None = None,
) -> Part:
    """Return the values (frames, width) of a file; `frames` and `width` None accept any number.

    The axis of frames may be missing for a single frame, as `raw_to_set` leaves such arrays.
    """
    file = storage.name(*place)
    if not storage.has(*place):
        raw = place[1].replace(".npy", ".raw")
        hint = (
            f"; {raw} is there: .raw files have to become .npy files in {place[0]} first" if storage.has(raw) else hint
        )
        raise InputError(f"{file}: missing{hint}")
    stored = storage.array(*place)
    if stored.dtype.kind not in "fiu":
        raise InputError(f"{file}: holds {stored.dtype} values, expected numbers")
    wanted = f"({'frames' if frames is None else frames}, {'k' if width is None else width})"
    shape, size = stored.shape, math.prod(stored.shape)
    if frames is None:
        if size == 0:
            raise InputError(f"{file}: has shape {shape}, thus holds no frame; remove the set")
        frames = shape[0] if len(shape) > 1 else 1
    single = frames == 1 and (len(shape) < 2 or size == width)
    if not (single or shape[:1] == (frames,)) or (width is not None and size != frames * width):
        raise InputError(f"{file}: has shape {shape}, expected {wanted}: frames x values")
    return Part(file, stored, frames, convert)


def _label(
    storage: Storage, place: tuple[str, str], name: str, width: Width, sizes: tuple[int, int], kept: np.ndarray
) -> tuple[Part, tuple[int, ...]]:
    """Return a label and the shape of its values: (k,) or (atoms, k), without the last axis for `SCALARS`.

    A label may be stored for the atoms `kept` only.
    """
    (frames, natoms), (per_frame, per_atom) = sizes, width
    if per_atom == 0:
        part = _part(storage, place, per_frame, frames)
        return part, () if name in SCALARS else (part.width,)
    some = len(kept) * (per_atom or 0)
    if some and len(kept) < natoms and storage.has(*place) and math.prod(storage.array(*place).shape) == frames * some:

        def scatter(values: np.ndarray, first: int) -> np.ndarray:
            out = np.zeros((len(values), natoms, per_atom or 0))
            out[:, kept] = values.reshape(len(values), len(kept), -1)
            return out

        return _part(storage, place, some, frames, convert=scatter), (natoms, per_atom or 0)
    part = _part(storage, place, None if name == "atom_pref" or not per_atom else per_atom * natoms, frames)
    if name == "atom_pref":  # stored once per atom or once per component
        if part.width not in (natoms, 3 * natoms):
            raise InputError(f"{part.name}: has {part.width} values per frame, expected {natoms} or {3 * natoms}")
        return replace(part, convert=lambda values, first: values[:, :: part.width // natoms]), (natoms,)
    if part.width % natoms:
        wanted = f"a multiple of the {natoms} atoms"
        raise InputError(f"{part.name}: has {part.width} values per frame, expected {wanted}")
    return part, (natoms,) if name in SCALARS else (natoms, part.width // natoms)

"""`dp data convert`: systems in npy folders, an HDF5 file or an extxyz file (docs/commands.md#data)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.ase_frames import open_ase_file
from deepmd.data.extxyz import to_structure, write_structure
from deepmd.data.frame_arrays import FrameArray
from deepmd.data.label_keys import LABELS, USUAL, find_source
from deepmd.data.selection import Selection, files_of
from deepmd.data.storage import is_ase_file
from deepmd.data.systems import WIDTHS, System, Values, count_types, elements_of
from deepmd.io.atomic import check_output, real, replacing, replacing_folder

log = logging.getLogger(__name__)

HDF5, EXTXYZ = (".h5", ".hdf5"), (".extxyz", ".xyz")

Write = Callable[[str, Values | list[str]], None]
"""Function of a name in a system, such as `set.000/coord.npy`, and its values."""


def convert_data(selection: Selection, out: str | os.PathLike[str]) -> Path:
    """Write systems in another form, which the ending of `out` decides, and return its path.

    Numbers stay as they are. Written are coordinates, cells, and the values of `deepmd.data.systems.WIDTHS`.

    Parameters
    ----------
    selection : systems, of which label keys and frames count
    out : `.extxyz` or `.xyz` (frames of files that ASE reads keep their order), `.hdf5` or `.h5`, or the name of a new
        folder for a folder of `.npy` files of each system
    """
    path, ending = Path(out), Path(out).suffix.lower()
    if ending not in (*HDF5, *EXTXYZ, ""):
        raise InputError(f"{out}: accepted: {', '.join((*EXTXYZ, *HDF5))}, or a name without ending, a folder")
    check_output(path, reads=files_of(selection.paths))
    _tell_left_out(selection)
    if ending in EXTXYZ:
        count = _write_extxyz(selection, path)
    elif ending in HDF5:
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            count = _write_systems(selection, lambda name, key, values: _to_group(file, f"{name}/{key}", values))
    else:
        count = _write_folders(selection, path)
    log.info("%d frames of %d systems are in %s", count, len(selection.paths), out)
    return path


def load_whole(selection: Selection, path: str) -> tuple[System, list[str]]:
    """Return a system in the numbering of its own elements, and these."""
    elements = elements_of([path]) or [f"Type_{number}" for number in range(count_types([path]))]
    return selection.load(path, elements), elements


def _write_systems(selection: Selection, write: Callable[[str, str, Values | list[str]], None]) -> int:
    """Write every system by a function of its name, and of key and values in it; return the number of frames."""
    count, names = 0, _names(selection.paths)
    for path, name in zip(selection.paths, names, strict=True):
        system, elements = load_whole(selection, path)
        types = np.zeros(system.num_atoms, dtype=np.int64) if system.mixed else np.asarray(system.types)
        write(name, "type.raw", types)
        if elements_of([path]):
            write(name, "type_map.raw", elements)
        if system.cell is None:
            write(name, "nopbc", np.array(True))
        cells = {} if system.cell is None else {"box": system.cell}
        mixed = {"real_atom_types": system.types} if system.mixed else {}
        for key, values in {"coord": system.coord, **cells, **mixed, **system.data}.items():
            write(name, f"set.000/{key}.npy", values)
        count += system.num_frames
    return count


def _names(paths: tuple[str, ...]) -> list[str]:
    """Return names of systems: the last parts of their paths, with that of their file where names would be twice."""
    names = [Path(path.replace("#", "/").rstrip("/")).name for path in paths]
    if len(set(names)) < len(names):
        files = [path.rpartition("#")[0] or str(Path(path).parent) for path in paths]
        names = [f"{Path(file).name.partition('.')[0]}.{name}" for file, name in zip(files, names, strict=True)]
    return [f"{name}-{k}" if names.count(name) > 1 else name for k, name in enumerate(names)]


def _blocks(values: Values) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first frame and the values of runs of frames, flat."""
    runs = values.blocks() if isinstance(values, FrameArray) else iter([(0, values)])
    for first, block in runs:
        yield first, np.reshape(block, (len(block), -1))


def _width(values: Values) -> tuple[int, int]:
    return values.shape[0], int(np.prod(values.shape[1:]))


def _to_group(file: h5py.File, name: str, values: Values | list[str]) -> None:
    if isinstance(values, list) or "set.000" not in name:
        file[name] = values
        return
    dataset = file.create_dataset(name, _width(values), dtype=np.float64)
    for first, block in _blocks(values):
        dataset[first : first + len(block)] = block


def _write_folders(selection: Selection, out: Path) -> int:
    if out.exists():
        raise InputError(f"{out}: is there; accepted: the name of a new folder, .extxyz or .hdf5")

    def write(name: str, key: str, values: Values | list[str]) -> None:
        path = folder / name / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if key == "nopbc":
            path.touch()
        elif isinstance(values, list) or key == "type.raw":
            path.write_text("\n".join(str(value) for value in np.asarray(values)) + "\n", encoding="utf-8")
        else:
            mapped = np.lib.format.open_memmap(path, "w+", np.float64, _width(values))
            for first, block in _blocks(values):
                mapped[first : first + len(block)] = block
            mapped.flush()

    with replacing_folder(real(out)) as folder:
        return _write_systems(selection, write)


def _tell_left_out(selection: Selection) -> None:
    """Warn of values of files that ASE reads which are no labels here, such as `band_gap`."""
    for file in dict.fromkeys(path.rpartition("#")[0] for path in selection.paths):
        if is_ase_file(file):
            data = open_ase_file(file)
            names = {name for frame in data.frames for name in frame.values}
            sources = (find_source(label, data, selection.keys, file) for label in LABELS)
            known = {*WIDTHS, *USUAL, "free_energy", *(source.name for source in sources if source)}
            if left := sorted(names - known):
                log.warning("%s: values of these names are left out: %s", file, ", ".join(left))


def _write_extxyz(selection: Selection, out: Path) -> int:
    """Write the frames of each file of ASE in their order, those of other systems one system after the other."""
    order: list[tuple[str, int, System, int, list[str]]] = []
    for path in selection.paths:
        system, elements = load_whole(selection, path)
        file = path.rpartition("#")[0]
        place = file if is_ase_file(file) else path
        order += [(place, system.number(k), system, k, elements) for k in range(system.num_frames)]
    places = list(dict.fromkeys(place for place, *_ in order))
    order.sort(key=lambda item: (places.index(item[0]), item[1]))
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8") as text:
        for _, _, system, frame, elements in order:
            write_structure(text, to_structure(system, frame, elements))
    return len(order)

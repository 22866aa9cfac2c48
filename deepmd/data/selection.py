"""Systems that a command line names: a folder that is searched, a list in a file, or the data of an input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.split import split_frames, take_frames
from deepmd.data.systems import WIDTHS, System, Width, count_types, elements_of, find_systems, load_system
from deepmd.io.train_input import data_section, read_json


@dataclass(frozen=True)
class Selection:
    """Systems that a command line names, and what of them is meant.

    Attributes
    ----------
    paths : of the systems
    keys : names of the labels in files that ASE reads
    frames : of each system, where `validation_fraction` leaves some to the other side; None: all
    """

    paths: tuple[str, ...]
    keys: LabelKeys = DETECTED
    frames: Mapping[str, np.ndarray] | None = None

    def load(
        self,
        path: str,
        type_map: Sequence[str],
        names: Sequence[str] | Mapping[str, Width] = tuple(WIDTHS),
        without: Sequence[int] = (),
    ) -> System:
        """Read one of the systems; arguments as for `load_system`."""
        system = load_system(path, type_map, names, without, self.keys)
        return system if self.frames is None else take_frames(system, self.frames[path])


def select_systems(
    *,
    system: str | Sequence[str] | None = None,
    datafile: str | None = None,
    train_data: str | None = None,
    valid_data: str | None = None,
    keys: LabelKeys = DETECTED,
) -> Selection:
    """Return the systems that one of the arguments names; the current folder is searched if none is given.

    Parameters
    ----------
    system : a folder that is searched, a file, a pattern of these, or a list of them
    datafile : a file with one path per line
    train_data, valid_data : an input whose training or validation data are meant
    keys : names of the labels; those of the input where none is given
    """
    given = {"system": system, "datafile": datafile, "train-data": train_data, "valid-data": valid_data}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} are given; accepted: one of them")
    if datafile is not None:
        try:
            lines = Path(datafile).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{datafile}: the list of systems cannot be read: {error}") from error
        folders = [line.strip() for line in lines if line.strip()]
        if not folders:
            raise InputError(f"{datafile}: lists no system; give one path a line")
        paths = [[path] if Path(path).is_dir() else find_systems([path]) for path in folders]
        return Selection(tuple(path for each in paths for path in each), keys)
    if train_data is not None:
        return _select_of_input(train_data, "training_data", keys)
    if valid_data is not None:
        return _select_of_input(valid_data, "validation_data", keys)
    one = system if system is None or isinstance(system, str) else system[0] if len(system) == 1 else system
    return Selection(tuple(find_systems("." if one is None else one)), keys)


def _select_of_input(path: str, section: str, keys: LabelKeys) -> Selection:
    tree = read_json(path)
    training = tree.get("training")
    sections: dict[str, Any] = training if isinstance(training, dict) else {}
    data, whole = sections.get(section), sections.get("training_data")
    split = data_section(tree) if isinstance(whole, dict) and whole.get("validation_fraction") else None
    if split and data is None:
        data = whole
    if not isinstance(data, dict) or "systems" not in data:
        hint = nearest(section, [str(key) for key in sections])
        raise InputError(f"{path}: training/{section}/systems is missing.{hint}")
    if keys == DETECTED:
        keys = LabelKeys(**{field.name: data.get(f"{field.name}_key") for field in fields(LabelKeys)})
    paths = find_systems(data["systems"], data.get("rglob_patterns"))
    if split is None:
        return Selection(tuple(paths), keys)
    elements = elements_of(paths) or [f"Type_{number}" for number in range(count_types(paths))]
    systems = [load_system(path, elements, names=()) for path in paths]
    parts = split_frames(systems, split.validation_fraction, split.validation_seed)
    side = int(section == "validation_data")
    frames = {path: part[side] for path, part in zip(paths, parts, strict=True) if len(part[side])}
    return Selection(tuple(frames), keys, frames)


def files_of(systems: Iterable[str]) -> Iterator[Path]:
    """Yield the files of systems, in folders or as HDF5 files, because no output may replace them."""
    for system in systems:
        folder = Path(system.partition("#")[0])
        yield from (
            folder,
            folder / "nopbc",
            *folder.glob("*.raw"),
            *folder.glob("*.mdb"),
            *folder.glob("set.*"),
            *folder.glob("set.*/*"),
        )


def identify_data(systems: Iterable[str]) -> list[list[str | int]]:
    """Return groups, files, sizes and times of the last change of systems, which tell whether data have changed."""
    found: list[list[str | int]] = []
    for system in systems:
        found.append([system.partition("#")[2]])
        for path in sorted(path.resolve() for path in files_of([system]) if path.is_file()):
            status = path.stat()
            found[-1] += [str(path), status.st_size, status.st_mtime_ns]
    return found

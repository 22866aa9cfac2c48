"""Systems that a command line names: a folder that is searched, a list in a file, or the data of an input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.systems import find_systems
from deepmd.io.train_input import read_json


def systems_of(
    *,
    system: str | None = None,
    datafile: str | None = None,
    train_data: str | None = None,
    valid_data: str | None = None,
) -> list[str]:
    """Return the systems that one of the arguments names; the current folder is searched if none is given.

    Parameters
    ----------
    system : a folder or HDF5 file that is searched
    datafile : a file with one path per line
    train_data, valid_data : an input whose training or validation data are meant
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
        return folders
    if train_data is not None:
        return _systems_of_input(train_data, "training_data")
    if valid_data is not None:
        return _systems_of_input(valid_data, "validation_data")
    return find_systems("." if system is None else system)


def _systems_of_input(path: str, section: str) -> list[str]:
    training = read_json(path).get("training")
    data = training.get(section) if isinstance(training, dict) else None
    if not isinstance(data, dict) or "systems" not in data:
        known = [str(key) for key in training] if isinstance(training, dict) else []
        raise InputError(f"{path}: training/{section}/systems is missing.{nearest(section, known)}")
    return find_systems(data["systems"], data.get("rglob_patterns"))


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

"""`stat_file`: cache of statistics of the data between trainings, in an HDF5 file or a folder of .npy files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.io.atomic import replacing
from deepmd.io.checking import check_finite
from deepmd.world import ALONE, World

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]


def key_of(description: object) -> str:
    """Return the key of statistics: a hash of what the statistics depend on."""
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode()).hexdigest()[:16]


def is_hdf5(path: str) -> bool:
    """Return whether statistics go to an HDF5 file, not to a folder."""
    return Path(path).suffix.lower() in (".h5", ".hdf5")


def load_or_compute(
    path: str | None,
    mode: str,
    key: str,
    compute: Callable[[], Arrays],
    *,
    required: bool = True,
    world: World = ALONE,
) -> Arrays:
    """Return the arrays stored under `key`, or compute and store them.

    Parameters
    ----------
    path : `.h5` and `.hdf5` are files, anything else is a folder; None: nothing is stored
    mode : "update" computes and stores missing arrays; under "read" nothing is stored
    key : see `key_of`
    required : whether arrays that are missing under "read" are an error; otherwise they are computed
    world : the processes that call this together; one of them reads and writes
    """
    if path is None:
        return compute()
    hdf5 = is_hdf5(path)
    try:
        found = (_from_hdf5 if hdf5 else _from_folder)(path, key) if world.leads else None
        found = world.from_leader(found)
        if found is not None:
            check_finite(found)
            log.info("statistics of the data are taken from %s", path)
            return found
        if mode == "read" and not required:
            return compute()
        if mode == "read":
            raise InputError(
                f"training/stat_file: {path} holds no statistics for this model, and stat_file_mode is read"
            )
        arrays = compute()
        if world.leads:
            (_to_hdf5 if hdf5 else _to_folder)(path, key, arrays)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"training/stat_file: {path} cannot be read or written: {error}") from error
    log.info("statistics of the data are stored in %s", path)
    return arrays


def _from_hdf5(path: str, key: str) -> Arrays | None:
    if not Path(path).is_file():
        return None
    with h5py.File(path, "r") as file:
        return {name: np.asarray(value[()]) for name, value in file[key].items()} if key in file else None


def _to_hdf5(path: str, key: str, arrays: Arrays) -> None:
    """Replace the file atomically by a copy with one more group."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        if Path(path).is_file():
            with h5py.File(path, "r") as old:
                for name in old:
                    old.copy(name, file)
        for name, array in arrays.items():
            file[f"{key}/{name}"] = array


def _from_folder(path: str, key: str) -> Arrays | None:
    folder = Path(path) / key
    return (
        {file.stem: np.load(file, allow_pickle=False) for file in sorted(folder.glob("*.npy"))}
        if folder.is_dir()
        else None
    )


def _to_folder(path: str, key: str, arrays: Arrays) -> None:
    """Write a folder of .npy files, which gets its name when complete."""
    temporary = Path(path) / f".{key}.{os.getpid()}"
    temporary.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(temporary / f"{name}.npy", array)
    temporary.replace(Path(path) / key)

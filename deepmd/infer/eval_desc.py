"""`dp eval-desc` and `dp embed`: vectors of every atom of systems, in .npy files or in one HDF5 file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.errors import InputError
from deepmd.data.selection import files_of, select_systems
from deepmd.data.systems import load_system
from deepmd.infer.deep_pot import DeepEval
from deepmd.infer.hidden_layers import FEATURE
from deepmd.io.atomic import check_output, replacing
from deepmd.io.formats import find_frozen

log = logging.getLogger(__name__)

DTYPES = {"native": np.float64, "fp64": np.float64, "fp32": np.float32}

DATASETS = {"descriptor": "descriptor", "atomic_feature": FEATURE.atomic, "structural_feature": FEATURE.name}
"""Outputs of `DeepEval.hidden` by their names in the file of `dp embed`."""


def evaluate_descriptors(
    model: str | os.PathLike[str],
    *,
    system: str | Sequence[str] | None = None,
    datafile: str | None = None,
    output: str = "desc",
    dtype: str = "native",
    backend: str | None = None,
) -> list[Path]:
    """Write `OUTPUT/SYSTEM.npy` (frames, atoms, features) for each system and return the paths.

    `model`: a model file, with or without suffix (`deepmd.io.formats.find_frozen`).
    """
    _check_dtype(dtype)
    folders = select_systems(system=system, datafile=datafile).paths
    paths = [Path(output) / f"{name}.npy" for name in _names(folders)]
    model = find_frozen(model, backend)
    potential = DeepEval(model, backend=backend)
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: the folder cannot be made: {error.strerror}") from error
    for path in paths:
        check_output(path, reads=(model, *files_of(folders)))
    for folder, path in zip(folders, paths, strict=True):
        data = load_system(folder, potential.get_type_map(), tuple(CONDITIONS))
        features = potential.evaluate_system(data, slice(None), frozenset({"descriptor"}))["descriptor"]
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, features.astype(DTYPES[dtype]))
        log.info("%s: descriptors of %d frames are in %s", folder, len(features), path)
    return paths


def write_embeddings(
    model: str | os.PathLike[str],
    *,
    system: str | Sequence[str] | None = None,
    datafile: str | None = None,
    output: str = "embedding.hdf5",
    dtype: str = "fp32",
    backend: str | None = None,
) -> None:
    """Write the features and the last hidden layer of every atom into an HDF5 file, a group for each system.

    Datasets: `descriptor` (F, n, D); `atomic_feature` (F, n, H), the last hidden layer of the fitting net;
    `structural_feature` (F, H), its sum over the atoms; `atom_types` (F, n). `model`: as for `evaluate_descriptors`.
    """
    _check_dtype(dtype)
    folders = select_systems(system=system, datafile=datafile).paths
    names, model = _names(folders), find_frozen(model, backend)
    potential = DeepEval(model, backend=backend).hidden()
    check_output(output, reads=(model, *files_of(folders)))
    with replacing(output) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["type_map"] = potential.get_type_map()
        for folder, name in zip(folders, names, strict=True):
            data = load_system(folder, potential.get_type_map(), tuple(CONDITIONS))
            found = potential.evaluate_system(data, slice(None), frozenset(DATASETS.values()))
            group = file.create_group(name)
            group.attrs.update(nframes=data.num_frames, system=folder)
            group["atom_types"] = np.broadcast_to(data.types, found["descriptor"].shape[:2]).astype(np.int32)
            for title, key in DATASETS.items():
                group[title] = found[key].astype(DTYPES[dtype])
            log.info("%s: embeddings of %d frames are in the group %s of %s", folder, data.num_frames, name, output)


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; accepted: {', '.join(DTYPES)}")


def _names(folders: Sequence[str]) -> list[str]:
    """Return the last parts of the paths of systems, which must differ."""
    names = [Path(folder.replace("#", "/")).name for folder in folders]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{twice[0]}: two systems have this name; evaluate them one by one, with an --output each")
    return names

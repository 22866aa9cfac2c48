"""`dp eval-desc`: the features of every atom of systems, one .npy file for each system."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.errors import InputError
from deepmd.data.selection import files_of, systems_of
from deepmd.data.systems import load_system
from deepmd.infer.deep_pot import DeepEval
from deepmd.io.atomic import check_output, replacing
from deepmd.io.formats import find_frozen

log = logging.getLogger(__name__)

DTYPES = {"native": np.float64, "fp64": np.float64, "fp32": np.float32}


def evaluate_descriptors(
    model: str | os.PathLike[str],
    *,
    system: str | None = None,
    datafile: str | None = None,
    output: str = "desc",
    dtype: str = "native",
    backend: str | None = None,
) -> list[Path]:
    """Write `OUTPUT/SYSTEM.npy` (frames, atoms, features) for each system and return the paths.

    `model`: a model file, with or without suffix (`deepmd.io.formats.find_frozen`).
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; accepted: {', '.join(DTYPES)}")
    folders = systems_of(system=system, datafile=datafile)
    paths = [Path(output) / f"{Path(folder.replace('#', '/')).name}.npy" for folder in folders]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]}: two systems have this name; evaluate them one by one, with an --output each")
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

"""`.dp` (HDF5) and `.yaml` files (spec core, section 13.1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from deepmd.array_model.errors import InputError
from deepmd.io.atomic import replacing
from deepmd.io.model_file import ModelFile, from_tree, map_variables, to_tree


def save_dp(path: Path, content: ModelFile) -> None:
    """Write a `.dp` file."""
    arrays: list[np.ndarray] = []

    def store(leaf: Any) -> str:
        arrays.append(np.asarray(leaf))
        return f"/variable_{len(arrays) - 1:04d}"

    tree = map_variables(store, to_tree(content, "numpy"))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for number, array in enumerate(arrays):
            file.create_dataset(f"variable_{number:04d}", data=array)
        file.attrs["json"] = json.dumps(tree, separators=(",", ":"))


def load_dp(path: Path) -> ModelFile:
    """Read a `.dp` file."""
    try:
        with h5py.File(path, "r") as file:
            if "json" not in file.attrs:
                raise InputError(f"{path}: an HDF5 file, but not a model: it has no attribute 'json'")
            tree = json.loads(file.attrs["json"])
            return from_tree(map_variables(lambda name: _dataset(file, name, path), tree), str(path))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a readable .dp file: {error}") from error


LARGEST_ARRAY = 2**31
"""Bytes; a dataset that claims more is refused before anything is allocated."""


def _dataset(file: h5py.File, name: Any, path: Path) -> np.ndarray:
    item = file.get(name) if isinstance(name, str) and isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise InputError(f"{path}: the description names {name!r}, which is not an array of this file")
    if item.dtype.kind not in "fiu" or item.nbytes > LARGEST_ARRAY:
        raise InputError(f"{path}: {name!r} is not a parameter: {item.dtype}, {item.nbytes} bytes")
    return np.asarray(item[...])


def save_yaml(path: Path, content: ModelFile) -> None:
    """Write a `.yaml` file."""

    def store(leaf: Any) -> dict[str, Any]:
        array = np.asarray(leaf)
        return {"@class": "np.ndarray", "@is_variable": True, "@version": 1, "dtype": array.dtype.name, "value": array.tolist()}

    tree = map_variables(store, to_tree(content, "numpy"))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)


def load_yaml(path: Path) -> ModelFile:
    """Read a `.yaml` file."""

    def arrays(tree: Any) -> Any:
        if isinstance(tree, dict):
            if tree.get("@class") == "np.ndarray":
                return np.asarray(tree["value"], dtype=tree["dtype"])
            return {key: arrays(value) for key, value in tree.items()}
        return [arrays(item) for item in tree] if isinstance(tree, list) else tree

    try:
        with path.open(encoding="utf-8") as file:
            tree = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(tree, dict):
            raise InputError(f"{path}: not a model: the file is not a YAML mapping")
        return from_tree(arrays(tree), str(path))
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable .yaml model: {error}") from error

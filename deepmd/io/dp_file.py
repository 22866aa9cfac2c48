"""`.dp` (HDF5) and `.yaml` files (docs/layouts.md#dp-and-yaml). Needs no framework. Stored tree: model_file.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from deepmd.array_model.errors import InputError
from deepmd.io.atomic import replacing
from deepmd.io.bounded import check_arrays, check_tree
from deepmd.io.checking import find
from deepmd.io.model_file import ModelFile, from_tree, map_variables, to_tree

DTYPES = ("float64", "float32", "float16", "int64", "int32")
"""Accepted dtypes of arrays in `.yaml` files."""

DEEPEST = 100
"""Deepest nesting of a `.yaml` file."""


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
    """Read a `.dp` file of this program or of DeePMD-kit."""
    try:
        with h5py.File(path, "r") as file:
            tree = json.loads(_description(file, path))
            items: dict[str, h5py.Dataset] = {}
            map_variables(lambda name: _find(file, name, items, path), tree)
            check_arrays((item.nbytes for item in items.values()), path)
            arrays = {name: np.asarray(item[...]) for name, item in items.items()}
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # h5py, damaged file
        raise InputError(f"{path}: not a readable .dp file: {str(error)[:200] or type(error).__name__}") from error
    return from_tree(map_variables(lambda name: arrays[name], tree), str(path))


def _description(file: h5py.File, path: Path) -> str:
    """Return the attribute with the JSON, after a check of the length that it claims."""
    if "json" not in file.attrs:
        raise InputError(f"{path}: an HDF5 file, but not a model: it has no attribute 'json'")
    attribute = file.attrs.get_id("json")
    check_arrays([attribute.get_storage_size()], path)
    text = file.attrs["json"] if attribute.shape == () else None
    if not isinstance(text, str | bytes):
        raise InputError(f"{path}: an HDF5 file, but not a model: its attribute 'json' is no text")
    return text if isinstance(text, str) else text.decode()


def _find(file: h5py.File, name: Any, items: dict[str, h5py.Dataset], path: Path) -> None:
    """Add the dataset `name` to `items`. Raise InputError unless it is an array stored in this file, named once."""
    # hard links only, because soft and external links, virtual and external datasets may lead to other files
    item = file.get(name) if isinstance(name, str) and isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or name in items:
        raise InputError(
            f"{path}: the description names {str(name)[:100]!r}, which is not an array of this file, or names it twice"
        )
    if item.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name!r} is not a parameter: {item.dtype}")
    items[name] = item


def save_yaml(path: Path, content: ModelFile) -> None:
    """Write a `.yaml` file."""
    arrays: list[np.ndarray] = []

    def store(leaf: Any) -> dict[str, Any]:
        arrays.append(np.asarray(leaf))
        place = f"@{len(arrays) - 1}@"
        return {
            "@class": "np.ndarray",
            "@is_variable": True,
            "@version": 1,
            "dtype": arrays[-1].dtype.name,
            "value": place,
        }

    tree = map_variables(store, to_tree(content, "numpy"))
    text = yaml.dump(tree, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
    # numbers are written here, because the dumper takes several times as long for each
    text = re.sub(r"value: '@(\d+)@'", lambda found: f"value: {_flow_text(arrays[int(found[1])])}", text)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _flow_text(array: np.ndarray) -> str:
    """Return an array as YAML in flow style. YAML 1.1 reads 1e-05 as a text, and 1.0e-05 as a number."""
    return re.sub(r"(?<![.\d])(\d+)e", r"\1.0e", json.dumps(array.tolist()))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML loader without merge keys."""

    def flatten_mapping(self, node: Any) -> None:
        """Ignore merge keys (`<<`), because they multiply a mapping while it is read, and no model has them."""


def load_yaml(path: Path) -> ModelFile:
    """Read a `.yaml` file of this program or of DeePMD-kit."""
    try:
        text = path.read_text(encoding="utf-8")
        _check_depth(text, path)
        tree = yaml.load(text, Loader=_Loader)
    except InputError:
        raise
    except (yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:  # by parser
        raise InputError(f"{path}: not a readable .yaml model: {str(error)[:300]}") from error
    check_tree(tree, path)
    if not isinstance(tree, dict):
        raise InputError(f"{path}: not a model: the file is not a YAML mapping")
    return from_tree(_with_arrays(tree, path), str(path))


def _check_depth(text: str, path: Path) -> None:
    """Raise InputError for nesting deeper than DEEPEST, at which the recursive loader could overflow its stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}: not a model: it is nested more than {DEEPEST} deep")


def _with_arrays(tree: Any, path: Path) -> Any:
    """Return the tree with NumPy arrays in place of {"@class": "np.ndarray", ...}."""
    if isinstance(tree, dict) and tree.get("@class") == "np.ndarray":
        return _array(tree, path)
    if isinstance(tree, dict):
        return {key: _with_arrays(value, path) for key, value in tree.items()}
    return [_with_arrays(item, path) for item in tree] if isinstance(tree, list) else tree


def _array(tree: dict[str, Any], path: Path) -> np.ndarray:
    dtype, value = (find(tree, key, f"{path}: an array") for key in ("dtype", "value"))
    if dtype not in DTYPES:
        raise InputError(f"{path}: an array of type {dtype!r} is not a parameter. Accepted: {', '.join(DTYPES)}")
    try:
        return np.asarray(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:  # raised by NumPy for values that are no numbers
        raise InputError(f"{path}: not a readable .yaml model: {str(error)[:300]}") from error

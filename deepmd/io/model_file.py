"""What every model file holds, and its two stored forms: a tree with arrays, and JSON beside named arrays."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deepmd.array_model import models
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.registry import lookup
from deepmd.array_model.tree import flatten, map_leaves, paths
from deepmd.host import plain
from deepmd.version import __version__

assert models  # imported for its registrations


@dataclass(frozen=True)
class ModelFile:
    """A whole model: every format stores all of this.

    Attributes
    ----------
    model : its configuration
    params : its parameters, NumPy arrays
    definition : the `model` section of the input it was trained with, or {}
    min_nbor_dist : shortest distance in the training data, Angstrom, or None
    """

    model: Any
    params: Params
    definition: dict[str, Any] = field(default_factory=dict)
    min_nbor_dist: float | None = None

    def with_params(self, params: Params) -> ModelFile:
        """Return the same model with other parameters."""
        return replace(self, params=params)


def to_tree(content: ModelFile, backend: str, params: Any = None) -> dict[str, Any]:
    """Return the nested dict of a `.dp` file (spec core, section 13); `params` replaces the arrays, e.g. by names."""
    distance = {} if content.min_nbor_dist is None else {"min_nbor_dist": np.asarray(content.min_nbor_dist, dtype=np.float64)}
    return {
        "software": "deepmd",
        "version": __version__,
        "time": str(datetime.datetime.now(datetime.UTC)),
        "model": content.model.serialize(content.params if params is None else params),
        "backend": backend,
        "model_def_script": content.definition,
        "@variables": distance,
    }


def from_tree(tree: dict[str, Any], where: str) -> ModelFile:
    """Return the model of a nested dict.

    Raises
    ------
    InputError
        The tree is not that of a model, or of one that is not supported.
    """
    try:
        kind = lookup("model", tree["model"].get("type", "standard"), f"{where}: model")
        model, params = kind.deserialize(_tidy(tree["model"]))
        params = model.in_precision(map_leaves(np.asarray, params), xp=plain)
        _check_shapes(model, params, where)
        distance = tree.get("@variables", {}).get("min_nbor_dist")
        return ModelFile(model, params, tree.get("model_def_script") or {}, None if distance is None else float(np.asarray(distance).reshape(())))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except KeyError as error:
        raise InputError(f"{where}: not a model file of this program or of DeePMD-kit: {error} is missing") from error
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{where}: the stored model cannot be read: {error}") from error


def _check_shapes(model: Any, params: Params, where: str) -> None:
    """Compare every stored shape with that of fresh parameters; a wrong one would broadcast silently later."""
    fresh = {path: leaf.shape for path, leaf in flatten(model.init(np.random.default_rng, xp=plain)).items()}
    stored = {path: leaf.shape for path, leaf in flatten(params).items()}
    for path in sorted({*fresh, *stored}):
        if fresh.get(path) != stored.get(path):
            raise InputError(f"{where}: parameter {path} has shape {stored.get(path, 'none')}, expected {fresh.get(path, 'none')}")


def _tidy(tree: Any) -> Any:
    """Drop the unit axes that some DeePMD-kit backends store biases and time steps with."""
    if isinstance(tree, dict):
        out = {key: _tidy(value) for key, value in tree.items()}
        if tree.get("@class") == "Layer":
            variables = out["@variables"]
            out["@variables"] = {k: v if v is None or k == "w" else np.asarray(v).reshape(-1) for k, v in variables.items()}
        return out
    return [_tidy(item) for item in tree] if isinstance(tree, list) else tree


def map_variables(function: Callable[[Any], Any], tree: Any, inside: bool = False) -> Any:
    """Apply `function` to every leaf below a key '@variables'; None stays None."""
    if isinstance(tree, dict):
        return {key: map_variables(function, value, inside or key == "@variables") for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_variables(function, item, inside) for item in tree]
    return function(tree) if inside and tree is not None else tree


def to_json(content: ModelFile, backend: str) -> str:
    """Return the JSON that native formats carry beside their named parameters: the tree with a parameter's path for each array."""
    tree = to_tree(content, backend, params=paths(content.params))
    return json.dumps(map_variables(lambda leaf: leaf if isinstance(leaf, str) else float(leaf), tree))


def from_json(text: str, arrays: dict[str, np.ndarray], where: str) -> ModelFile:
    """Return the model from such a JSON and {path: array}.

    Raises
    ------
    InputError
        The JSON is damaged or names a parameter that is not there.
    """

    def fetch(leaf: Any) -> Any:
        if not isinstance(leaf, str):
            return leaf
        if leaf not in arrays:
            raise InputError(f"{where}: parameter {leaf!r} is missing")
        return arrays[leaf]

    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: the stored model description is damaged: {error}") from error
    return from_tree(map_variables(fetch, tree), where)

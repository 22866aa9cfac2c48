"""What every model file holds, and its two stored forms: a tree with arrays, and JSON beside named arrays."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deepmd.array_model import models, serial
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
    expansion : of a compressed model, the tables that its descriptor evaluates instead of its nets, and their number of `terms`; or None
    """

    model: Any
    params: Params
    definition: dict[str, Any] = field(default_factory=dict)
    min_nbor_dist: float | None = None
    expansion: dict[str, Any] | None = None

    @property
    def all_params(self) -> Params:
        """The parameters, and the tables of a compressed model where its descriptor looks for them."""
        if self.expansion is None:
            return self.params
        tables = {name: value for name, value in self.expansion.items() if name != "terms"}
        return {**self.params, "descriptor": {**self.params["descriptor"], "tables": tables}}

    def with_params(self, params: Params) -> ModelFile:
        """Return the same model with other parameters; a stored expansion belonged to the old ones."""
        return replace(self, params=params, expansion=None)

    def with_expansion(self, model: Any, params: Params) -> ModelFile:
        """Return the same model with what its `expanded` returned."""
        return replace(self, expansion={"terms": int(model.evaluation), **params["descriptor"]["tables"]})


def planned(content: ModelFile, evaluation: str | None = None) -> tuple[Any, Params, str]:
    """Plan the evaluation of a model at fixed parameters.

    Parameters
    ----------
    evaluation : "direct", "spectral" or "auto". None: the expansion of a compressed model, otherwise what its input said

    Returns
    -------
    Model and parameters with their expansion, or those of direct evaluation and, if it was not asked for, the reason. What a
    compressed model stores is evaluated as it is.

    Raises
    ------
    InputError
        The choice is unknown.
    """
    if content.expansion is not None and evaluation != "direct":
        return content.model.with_evaluation(content.expansion["terms"]), content.all_params, ""
    try:
        model = content.model.with_evaluation(evaluation or evaluation_asked(content))
    except ValueError as error:
        raise InputError(f"model/descriptor: {error}") from error
    out: tuple[Any, Params, str] = model.expanded(content.params, known_distance(content), stored=True, xp=plain)
    return out


def evaluation_asked(content: ModelFile) -> str:
    """Return the option `evaluation` of the input that the model was trained with."""
    section = content.definition.get("descriptor")
    return section.get("evaluation", "auto") if isinstance(section, dict) else "auto"


def known_distance(content: ModelFile) -> float | None:
    """Return the shortest distance of the data (Angstrom), or None where none within the cutoff is known."""
    distance = content.min_nbor_dist
    return distance if distance is not None and 0.0 < distance < content.model.layout().rcut else None


def to_tree(content: ModelFile, backend: str) -> dict[str, Any]:
    """Return the nested dict of a `.dp` file (spec core, section 13); other programs pass over the key `expansion`."""
    distance = {} if content.min_nbor_dist is None else {"min_nbor_dist": np.asarray(content.min_nbor_dist, dtype=np.float64)}
    return {
        "software": "deepmd",
        "version": __version__,
        "time": str(datetime.datetime.now(datetime.UTC)),
        "model": content.model.serialize(content.params),
        **({} if content.expansion is None else {"expansion": _expansion_to_tree(content.expansion)}),
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
        _check_shapes(model, params)
        distance = tree.get("@variables", {}).get("min_nbor_dist")
        distance = None if distance is None else float(np.asarray(distance).reshape(()))
        content = ModelFile(model, params, tree.get("model_def_script") or {}, distance)
        return replace(content, expansion=_expansion_from_tree(tree["expansion"], content)) if tree.get("expansion") else content
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except KeyError as error:
        raise InputError(f"{where}: not a model file of this program or of DeePMD-kit: {error} is missing") from error
    except (TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        raise InputError(f"{where}: the stored model cannot be read: {error}") from error


def _check_shapes(model: Any, params: Params) -> None:
    """Compare every stored shape with that of fresh parameters; a wrong one would broadcast silently later."""
    stored = {path: leaf.shape for path, leaf in flatten(params).items()}
    fresh = {path: leaf.shape for path, leaf in flatten(model.init(Drawn(sum(map(math.prod, stored.values()))), xp=plain)).items()}
    for path in sorted({*fresh, *stored}):
        if fresh.get(path) != stored.get(path):
            raise InputError(f"parameter {path} has shape {stored.get(path, 'none')}, expected {fresh.get(path, 'none')}")


class Drawn:
    """In place of random numbers for fresh parameters of which only the shapes count; a description may ask for more than any file holds."""

    def __init__(self, stored: int) -> None:
        self._left = 4 * stored + 1000  # shapes that differ a little are told one by one

    def __call__(self, seed: Any) -> Drawn:
        """Return itself as the generator of a seed."""
        return self

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: tuple[int, ...] = ()) -> np.ndarray:
        """Return zeros.

        Raises
        ------
        InputError
            In total, far more are asked for than are stored.
        """
        self._left -= math.prod(size)
        if self._left < 0:
            raise InputError("the description asks for far more parameters than are stored")
        return np.zeros(size)


def _expansion_to_tree(expansion: dict[str, Any]) -> dict[str, Any]:
    variables = {name: value for name, value in expansion.items() if name != "terms"}
    return {"@class": "Expansion", "@version": 2, "terms": expansion["terms"], "@variables": variables}


def _expansion_from_tree(tree: dict[str, Any], content: ModelFile) -> dict[str, Any]:
    """Return the expansion of a compressed model after checking that its tables fit the model."""
    serial.require(tree, "@version", [2], "expansion")
    terms, tables = tree["terms"], map_leaves(np.asarray, tree["@variables"])
    if type(terms) is not int or terms < 2 or terms % 2:
        raise InputError(f"expansion: stored with {terms!r} terms; accepted: a positive even number")
    width = content.model.descriptor.neuron[-1]
    expected: dict[str, tuple[int, ...]] = {"scale": (), "closest": ()}
    for group, functions in enumerate(content.model.descriptor.functions(content.model.ntypes)):
        expected.update({f"coefficients/{group}": (2 * functions * terms, width), f"starts/{group}": (functions, width)})
    stored = {path: leaf.shape for path, leaf in flatten(tables).items()}
    for path in sorted({*expected, *stored}):
        if expected.get(path) != stored.get(path):
            raise InputError(f"expansion: {path} has shape {stored.get(path, 'none')}, expected {expected.get(path, 'none')}")
    whole = content.model.in_precision(replace(content, expansion=tables).all_params, xp=plain)
    return {"terms": terms, **whole["descriptor"]["tables"]}


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
    names = paths(content.all_params)
    tables = names["descriptor"].pop("tables", None) if "descriptor" in names else None
    expansion = None if tables is None or content.expansion is None else {"terms": content.expansion["terms"], **tables}
    tree = to_tree(replace(content, params=names, expansion=expansion), backend)
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

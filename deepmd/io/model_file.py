"""Contents of a model file (`ModelFile`), and their two stored forms: a tree with arrays, and JSON beside named arrays.

`.dp` and `.yaml` store the first form, files of frameworks the second. NumPy only. Section `model`: kit/layouts/.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deepmd.array_model.components import descriptors_with, exchange_descriptors, in_precision
from deepmd.array_model.contracts import Model
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params, dtype_of
from deepmd.array_model.spectral import DOMAIN_START, Expansion, Plan
from deepmd.array_model.tree import flatten, map_leaves, paths
from deepmd.host import plain
from deepmd.io.checking import check_finite, find, find_list
from deepmd.io.kit_table import from_kit
from deepmd.plan.expansions import ask_evaluation, choose_plan
from deepmd.plan.plans import PLAN, tables_of, with_tables
from deepmd.version import __version__


@dataclass(frozen=True)
class ModelFile:
    """A complete model: every format stores all of these fields.

    Attributes
    ----------
    model : configuration
    params : parameters, NumPy arrays
    definition : section `model` of the input of the training, or {}
    min_nbor_dist : shortest distance in the training data, Angstrom, or None
    plan : expansions in place of the embedding nets of a compressed model; None if the model is not compressed
    """

    model: Model
    params: Params
    definition: dict[str, Any] = field(default_factory=dict)
    min_nbor_dist: float | None = None
    plan: Plan | None = None

    @property
    def arrays(self) -> Params:
        """Tree of all arrays of the file: parameters, and tables of the plan of a compressed model."""
        return {**self.params, PLAN: tables_of(self.plan or ())}

    def with_params(self, params: Params) -> ModelFile:
        """Return the model with other parameters and without a plan, because a plan belongs to its parameters."""
        return replace(self, params=params, plan=None)

    def with_distance(self, distance: float | None) -> ModelFile:
        """Return the model with the shorter of its own `min_nbor_dist` and another distance (Angstrom)."""
        return replace(self, min_nbor_dist=shortest(self.min_nbor_dist, distance))


def plan_evaluation(content: ModelFile, evaluation: str | None = None) -> tuple[Plan, str]:
    """Return the plan of a model at fixed parameters, and the reason for direct evaluation that was not asked for.

    Parameters
    ----------
    evaluation : "direct", "spectral" or "auto"; None: as in the input of the training. A compressed model keeps its
        stored plan unless "direct" is asked for
    """
    if content.plan is not None and evaluation != "direct":
        return content.plan, ""
    parts = []
    for (where, part, _), asked in zip(
        descriptors_with(content.model, content.params), evaluation_asked(content), strict=True
    ):
        try:
            parts.append(ask_evaluation(part, evaluation or asked))
        except ValueError as error:
            raise InputError(f"model/{where}: {error}") from error
    return choose_plan(exchange_descriptors(content.model, parts), content.params, known_distance(content), stored=True)


def evaluation_asked(content: ModelFile) -> list[str]:
    """Return the option `evaluation` in the input of the training, for each of `descriptors_with`."""
    return [
        _section(content.definition, where).get("evaluation", "auto")
        for where, _, _ in descriptors_with(content.model, content.params)
    ]


def _section(tree: Any, where: str) -> dict[str, Any]:
    """Return the section at a path, or {} where there is none."""
    for key in where.split("/"):
        if isinstance(tree, list):
            tree = {str(number): item for number, item in enumerate(tree)}
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def shortest(*distances: float | None) -> float | None:
    """Return the shortest known distance, or None. Values that are None, infinite or not positive are unknown."""
    return min((each for each in distances if each is not None and 0.0 < each < math.inf), default=None)


def known_distance(content: ModelFile) -> float | None:
    """Return the shortest distance of the data (Angstrom), or None if it is unknown or not within the cutoff."""
    distance = content.min_nbor_dist
    return distance if distance is not None and 0.0 < distance < content.model.layout().rcut else None


def model_to_dict(model: Model, params: Params) -> dict[str, Any]:
    """Return the section `model` of a `.dp` file. Leaves of `params` are copied as they are, arrays or not."""
    tree: dict[str, Any] = from_kit("model_to_dict")(model, params)
    return tree


def to_tree(content: ModelFile, backend: str) -> dict[str, Any]:
    """Return the tree of a `.dp` file; its key `expansion` is not DeePMD-kit's (docs/layouts.md#dp-and-yaml)."""
    distance = (
        {} if content.min_nbor_dist is None else {"min_nbor_dist": np.asarray(content.min_nbor_dist, dtype=np.float64)}
    )
    return {
        "software": "deepmd",
        "version": __version__,
        "time": str(datetime.datetime.now(datetime.UTC)),
        "model": model_to_dict(content.model, content.params),
        **({} if content.plan is None else {"expansion": _plan_to_tree(content.plan)}),
        "backend": backend,
        "model_def_script": content.definition,
        "@variables": distance,
    }


def from_tree(tree: dict[str, Any], where: str) -> ModelFile:
    """Return the model of a stored tree; raise InputError unless its shapes fit and all its numbers are finite."""
    try:
        check_finite({name: find(tree, name, NO_MODEL, optional=True) for name in ("model", "expansion")})
        model, params = from_kit("model_from_dict")(find(tree, "model", NO_MODEL))
        params = in_precision(model, map_leaves(np.asarray, params), xp=plain)
        _check_shapes(model, params)
        distance = find(tree, "@variables/min_nbor_dist", NO_MODEL, optional=True)
        if distance is not None and np.shape(distance) != ():
            raise InputError(f"min_nbor_dist is {distance!r:.100}; expected: one number")
        definition = find(tree, "model_def_script", NO_MODEL, optional=True) or {}
        content = ModelFile(model, params, definition, None if distance is None else float(distance))
        if tree.get("expansion"):
            content = replace(content, plan=_plan_from_tree(tree["expansion"], content))
        check_finite(content.arrays, "parameters")  # again, because casts to a narrower precision may overflow
        return content
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{where}: {NO_MODEL}: nested too deeply") from error


NO_MODEL = "not a model file of this program or of DeePMD-kit"


def _check_shapes(model: Model, params: Params) -> None:
    """Raise InputError if stored shapes are not those of initial parameters: wrong shapes could broadcast silently."""
    stored = {path: leaf.shape for path, leaf in flatten(params).items()}
    fresh = {
        path: leaf.shape
        for path, leaf in flatten(model.init(ShapeBudget(sum(map(math.prod, stored.values()))), xp=plain)).items()
    }
    for path in sorted({*fresh, *stored}):
        if fresh.get(path) != stored.get(path):
            raise InputError(
                f"parameter {path} has shape {stored.get(path, 'none')}, expected {fresh.get(path, 'none')}"
            )


class ShapeBudget:
    """Stand-in for the generator in shape checks: raises before more than four times the stored values are allocated.

    The description in a hostile file may ask for more values than fit into memory.
    """

    def __init__(self, stored: int) -> None:
        self._left = 4 * stored + 1000  # slack, because `_check_shapes` has better messages for small differences

    def __call__(self, seed: Any) -> ShapeBudget:
        """Return the budget itself in the role of the generator of a seed."""
        return self

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: tuple[int, ...] = ()) -> np.ndarray:
        """Return zeros, or raise InputError if the budget is spent."""
        self._left -= math.prod(size)
        if self._left < 0:
            raise InputError("the description asks for far more parameters than are stored")
        return np.zeros(size)


def _plan_to_tree(plan: Plan) -> dict[str, Any]:
    parts = [{"terms": each.terms, "@variables": each.tables} if each else {} for each in plan]
    return {"@class": "Expansion", "@version": 3, "parts": parts}


def _plan_from_tree(tree: dict[str, Any], content: ModelFile) -> Plan:
    """Return the plan of a compressed model after a check that it fits. Version 2 holds a single descriptor."""
    version = find(tree, "@version", "expansion")
    if version not in (2, 3):
        raise InputError(f"expansion: stored with @version = {version!r}; accepted: 2, 3")
    stored = [tree] if version == 2 else find_list(tree, "parts", "expansion")
    parts = descriptors_with(content.model, content.params)
    if len(stored) != len(parts):
        raise InputError(f"expansion: stored for {len(stored)} descriptors, the model has {len(parts)}")
    return tuple(
        _expansion_from_tree(entry, part, content.model.ntypes, where) if entry else None
        for entry, (where, part, _) in zip(stored, parts, strict=True)
    )


def _expansion_from_tree(tree: dict[str, Any], part: Any, ntypes: int, where: str) -> Expansion:
    """Return the expansion of a descriptor after a check of the shapes of its tables."""
    what = f"expansion: {where}"
    terms, tables = find(tree, "terms", what), map_leaves(np.asarray, find(tree, "@variables", what))
    if type(terms) is not int or terms < 2 or terms % 2:
        raise InputError(f"expansion: {where}: stored with {terms!r} terms; accepted: a positive even number")
    if not isinstance(part, Expandable):
        raise InputError(f"expansion: {where}: stored for {part.kind}, which has none")
    # K terms: coefficients (J * 2K, G) and starts (J, G) of the J functions of a group (array_model/spectral.py)
    expected: dict[str, tuple[int, ...]] = {"scale": (), DOMAIN_START: ()}
    for group, functions in enumerate(part.functions(ntypes)):
        expected.update(
            {
                f"coefficients/{group}": (2 * functions * terms, part.neuron[-1]),
                f"starts/{group}": (functions, part.neuron[-1]),
            }
        )
    stored = {path: leaf.shape for path, leaf in flatten(tables).items()}
    for path in sorted({*expected, *stored}):
        if expected.get(path) != stored.get(path):
            raise InputError(
                f"expansion: {where}: {path} has shape {stored.get(path, 'none')}, "
                f"expected {expected.get(path, 'none')}"
            )
    return Expansion(terms, map_leaves(lambda leaf: plain.astype(leaf, dtype_of(part.precision, xp=plain)), tables))


def map_variables(function: Callable[[Any], Any], tree: Any, inside: bool = False) -> Any:
    """Apply `function` to every leaf below a key '@variables'; None stays None."""
    if isinstance(tree, dict):
        return {key: map_variables(function, value, inside or key == "@variables") for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_variables(function, item, inside) for item in tree]
    return function(tree) if inside and tree is not None else tree


def to_json(content: ModelFile, backend: str) -> str:
    """Return the JSON that native formats store beside named arrays: the tree, with a path in place of each array."""
    names = paths(content.arrays)
    tables = names.pop(PLAN)
    plan = None if content.plan is None else with_tables(content.plan, tables)
    tree = to_tree(replace(content, params=names, plan=plan), backend)
    return json.dumps(map_variables(lambda leaf: leaf if isinstance(leaf, str) else float(leaf), tree))


def from_json(text: str, arrays: dict[str, np.ndarray], where: str) -> ModelFile:
    """Return the model of a JSON made by `to_json` and of {path: array}."""

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

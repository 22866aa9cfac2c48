"""Which parameters a training changes, and which of them are one: type vectors that members of a hybrid share."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.array_model.components import descriptors_with
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten, paths, replace_leaves

CONSTANTS = ("davg", "dstd", "inputs")
"""Names of parameters that training never changes: statistics, inputs of type embeddings."""


def trainable_paths(tree: Any, flags: Any, prefix: str = "") -> list[str]:
    """Return the paths of the leaves that a tree of flags selects.

    A flag holds for everything below it, except for what has a name in `CONSTANTS`; what `flags` does not name is not
    selected; a tuple of names selects all that have none of them either; a dict of flags given for a list holds for
    each of its items.
    """
    if isinstance(flags, bool | tuple):
        fixed = {*CONSTANTS, *(flags if isinstance(flags, tuple) else ())}
        return [path for path in flatten(tree, prefix) if flags is not False and fixed.isdisjoint(path.split("/"))]
    if isinstance(tree, list):
        each = flags if isinstance(flags, list) else [flags] * len(tree)
        items = [(str(k), value, flag) for k, (value, flag) in enumerate(zip(tree, each, strict=True))]
    else:
        items = [(key, tree[key], flag) for key, flag in flags.items()]
    return [
        path
        for key, value, flag in items
        for path in trainable_paths(value, flag, f"{prefix}/{key}" if prefix else key)
    ]


def find_copies(model: Model, params: Params) -> dict[str, str]:
    """Return the paths of all copies but the first: {path: that of the first}."""
    first: dict[tuple[str, str], str] = {}
    out = {}
    for where, part, own in descriptors_with(model, paths(params)):
        hybrid, member, _ = where.rpartition("/list/")
        if member and part.kind == "se_e2_a_typed":
            for name, path in flatten(own["type_embedding"]).items():
                original = first.setdefault((hybrid, name), path)
                if path != original:
                    out[path] = original
    return out


def tie_shared_vectors(model: Model, params: Params) -> Params:
    """Return the parameters with every copy equal to the first."""
    leaves = flatten(params)
    out: Params = replace_leaves(
        params, {**leaves, **{path: leaves[original] for path, original in find_copies(model, params).items()}}
    )
    return out


def find_shared(model: Model, params: Params) -> dict[str, str]:
    """Return the copies that are trained as one; none if they differ, because then they were trained apart."""
    leaves, found = flatten(params), find_copies(model, params)
    return found if all(np.array_equal(leaves[path], leaves[original]) for path, original in found.items()) else {}

"""Trainable parameters, and tied parameters: type vectors that members of a hybrid share."""

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

    A flag holds for all leaves below it. A tuple of names selects all leaves without one of the names in their path.
    Leaves with a name of `CONSTANTS` in their path, and leaves that `flags` does not name, are not selected. Flags of a
    list are a list, or one entry that holds for every item.
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
    """Return the copies of shared type vectors: {path of a further copy: path of the first copy}."""
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
    """Return the parameters with every copy of a shared type vector set to the first copy."""
    leaves = flatten(params)
    out: Params = replace_leaves(
        params, {**leaves, **{path: leaves[original] for path, original in find_copies(model, params).items()}}
    )
    return out


def find_shared(model: Model, params: Params) -> dict[str, str]:
    """Return `find_copies` if all copies are equal; {} if any differ, because then copies were trained separately."""
    leaves, found = flatten(params), find_copies(model, params)
    return found if all(np.array_equal(leaves[path], leaves[original]) for path, original in found.items()) else {}

"""Parameters that stand for the same: vectors of the types that a model has once, for all members of a hybrid (its `type_embedding`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten, paths, replace_leaves


def copies(model: Any, params: Params) -> dict[str, str]:
    """Return the paths of all copies but the first: {path: that of the first}."""
    first: dict[tuple[str, str], str] = {}
    out = {}
    for where, part, own in model.each_part(paths(params)):
        hybrid, member, _ = where.rpartition("/list/")
        if member and part.kind == "se_e2_a_typed":
            for name, path in flatten(own["type_embedding"]).items():
                original = first.setdefault((hybrid, name), path)
                if path != original:
                    out[path] = original
    return out


def made_equal(model: Any, params: Params) -> Params:
    """Return the parameters with every copy equal to the first."""
    leaves = flatten(params)
    out: Params = replace_leaves(params, {**leaves, **{path: leaves[original] for path, original in copies(model, params).items()}})
    return out


def shared(model: Any, params: Params) -> dict[str, str]:
    """Return the `copies` that are to be trained as one: not in models whose copies differ, which were trained apart."""
    leaves, found = flatten(params), copies(model, params)
    return found if all(np.array_equal(leaves[path], leaves[original]) for path, original in found.items()) else {}

"""Parameter trees: nested dicts and lists with arrays as leaves. None is not a leaf but an absence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CONSTANTS = ("davg", "dstd", "inputs", "tables")
"""Names of parameters that training never changes: statistics, inputs of type embeddings, expansions."""


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply `function` to every leaf of `tree` (and the matching leaves of `others`); the structure is kept."""
    if isinstance(tree, dict):
        return {key: map_leaves(function, value, *(other[key] for other in others)) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [map_leaves(function, value, *(other[k] for other in others)) for k, value in enumerate(tree)]
    return function(tree, *others)


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return {path: leaf}, paths like 'descriptor/embeddings/0/layers/1/w', in the order of the tree."""
    if isinstance(tree, dict):
        items = [(key, value) for key, value in tree.items() if value is not None]
    elif isinstance(tree, list):
        items = [(str(k), value) for k, value in enumerate(tree)]
    else:
        return {prefix: tree}
    return {path: leaf for key, value in items for path, leaf in flatten(value, f"{prefix}/{key}" if prefix else key).items()}


def replace_leaves(tree: Any, leaves: dict[str, Any]) -> Any:
    """Return the tree with its leaves taken from {path: leaf}."""
    return map_leaves(lambda path: leaves[path], paths(tree))


def paths(tree: Any) -> Any:
    """Return the tree with every leaf replaced by its own path."""
    remaining = iter(flatten(tree))
    return map_leaves(lambda _: next(remaining), tree)


def flagged(tree: Any, flags: Any, prefix: str = "") -> list[str]:
    """Return the paths of the leaves that a tree of flags selects.

    A flag holds for everything below it, except for what has a name in `CONSTANTS`; what `flags` does not name is not selected; a tuple
    of names selects all that have none of them either; a dict of flags given for a list holds for each of its items.
    """
    if isinstance(flags, bool | tuple):
        fixed = {*CONSTANTS, *(flags if isinstance(flags, tuple) else ())}
        return [path for path in flatten(tree, prefix) if flags is not False and fixed.isdisjoint(path.split("/"))]
    if isinstance(tree, list):
        each = flags if isinstance(flags, list) else [flags] * len(tree)
        items = [(str(k), value, flag) for k, (value, flag) in enumerate(zip(tree, each, strict=True))]
    else:
        items = [(key, tree[key], flag) for key, flag in flags.items()]
    return [path for key, value, flag in items for path in flagged(value, flag, f"{prefix}/{key}" if prefix else key)]

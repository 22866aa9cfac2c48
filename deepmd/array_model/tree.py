"""Parameter trees: nested dicts and lists with arrays as leaves. An entry of a dict that is None counts as absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply `function` to every leaf of `tree` and the matching leaves of `others`; the structure is kept."""
    if isinstance(tree, dict):
        return {
            key: map_leaves(function, value, *(other[key] for other in others))
            for key, value in tree.items()
            if value is not None
        }
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
    return {
        path: leaf
        for key, value in items
        for path, leaf in flatten(value, f"{prefix}/{key}" if prefix else key).items()
    }


def replace_leaves(tree: dict[str, Any], leaves: dict[str, Any]) -> dict[str, Any]:
    """Return the tree with the leaves of {path: leaf}."""
    out: dict[str, Any] = map_leaves(lambda path: leaves[path], paths(tree))
    return out


def paths(tree: Any) -> Any:
    """Return the tree with every leaf replaced by its own path."""
    remaining = iter(flatten(tree))
    return map_leaves(lambda _: next(remaining), tree)

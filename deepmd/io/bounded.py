"""Memory limits against damaged and hostile files: what is allocated follows the size of a file, not what it claims."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepmd.array_model.errors import InputError

SHARE, FREE = 20, 2**20
"""Limit of what a file may claim: SHARE times its size and FREE bytes.

SHARE is more than 1, because constants of equal values are stored once.
"""


def check_arrays(sizes: Iterable[int], path: Path, stored: int | None = None) -> None:
    """Raise InputError, before anything is allocated, if arrays claim more than SHARE * stored + FREE bytes.

    Parameters
    ----------
    sizes : bytes of each array
    stored : bytes of the file (default: of `path`)
    """
    claimed, stored = sum(sizes), path.stat().st_size if stored is None else stored
    if claimed > FREE + SHARE * stored:
        raise InputError(
            f"{path}: damaged, or no model: its arrays claim {claimed:,} bytes, and the file has {stored:,}"
        )


def check_tree(tree: Any, path: Path) -> None:
    """Raise InputError if nested dicts, lists and tuples exceed the limit once parts shared by reference are copied."""
    try:
        size = _expanded(tree, {})
    except RecursionError as error:
        raise InputError(f"{path}: damaged, or no model: it is nested too deeply") from error
    if size > FREE + SHARE * path.stat().st_size:
        raise InputError(f"{path}: damaged, or no model: it repeats parts of itself by reference without measure")


def _expanded(tree: Any, known: dict[int, float]) -> float:
    """Return the number of values and characters of a tree, shared parts counted each time, cycles as infinite."""
    if isinstance(tree, str | bytes):
        return 1 + len(tree)
    if not isinstance(tree, dict | list | tuple):
        return 1
    if id(tree) not in known:
        known[id(tree)] = math.inf  # stays infinite if a part contains itself
        parts = [*tree.keys(), *tree.values()] if isinstance(tree, dict) else tree
        known[id(tree)] = 1 + sum(_expanded(part, known) for part in parts)
    return known[id(tree)]

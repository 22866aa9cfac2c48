"""Memory follows the size of a file, not what the file claims."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepmd.array_model.errors import InputError

SHARE, FREE = 20, 2**20
"""What a file may grow to: so many times its size, and so many bytes besides.

Constants of equal values are stored once.
"""


def check_arrays(sizes: Iterable[int], path: Path, stored: int | None = None) -> None:
    """Refuse arrays that claim far more than the file has, before anything is allocated.

    Parameters
    ----------
    sizes : bytes of each array
    stored : bytes of the file (default: of `path`)

    Raises
    ------
    InputError
        They claim more.
    """
    claimed, stored = sum(sizes), path.stat().st_size if stored is None else stored
    if claimed > FREE + SHARE * stored:
        raise InputError(
            f"{path}: damaged, or no model: its arrays claim {claimed:,} bytes, and the file has {stored:,}"
        )


def check_tree(tree: Any, path: Path) -> None:
    """Refuse nested dicts, lists and tuples that repeat a part, by reference, so often that a copy would not fit.

    Raises
    ------
    InputError
        A copy would be far larger than the file, or endless.
    """
    try:
        size = _expanded(tree, {})
    except RecursionError as error:
        raise InputError(f"{path}: damaged, or no model: it is nested too deeply") from error
    if size > FREE + SHARE * path.stat().st_size:
        raise InputError(f"{path}: damaged, or no model: it repeats parts of itself by reference without measure")


def _expanded(tree: Any, known: dict[int, float]) -> float:
    """Return the number of values and characters of a tree in which nothing is shared."""
    if isinstance(tree, str | bytes):
        return 1 + len(tree)
    if not isinstance(tree, dict | list | tuple):
        return 1
    if id(tree) not in known:
        known[id(tree)] = math.inf  # what holds itself is endless
        parts = [*tree.keys(), *tree.values()] if isinstance(tree, dict) else tree
        known[id(tree)] = 1 + sum(_expanded(part, known) for part in parts)
    return known[id(tree)]

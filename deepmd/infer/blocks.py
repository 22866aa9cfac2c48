"""Blocks: frames that are evaluated together, and runs of the centres of a large frame. NumPy only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.neighbours import PairList

DEFAULT_BATCH_SIZE = 768
"""Largest number of centre atoms of a block: enough to keep the frameworks busy, few enough to bound memory."""


def block_limit(auto_batch_size: bool | int) -> int | None:
    """Return the largest number of centre atoms of a block, None for no limit."""
    if auto_batch_size is False:
        return None
    name, value = "auto_batch_size", auto_batch_size
    if auto_batch_size is True:
        name, text = (
            "environment variable DP_INFER_BATCH_SIZE",
            os.environ.get("DP_INFER_BATCH_SIZE", str(DEFAULT_BATCH_SIZE)),
        )
        value = int(text) if text.strip().isdecimal() else 0
        if value < 1:
            raise InputError(f"{name}: is {text!r}, accepted: a positive number of atoms")
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name}: is {value!r}, accepted: True, False, or a positive number of atoms")
    return value


def group_frames(atoms: Sequence[int] | np.ndarray, limit: int | None) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of runs of frames with at most `limit` atoms together; a larger frame is a run by itself."""
    first, total = 0, 0
    for frame, number in enumerate(atoms):
        if frame > first and limit is not None and total + number > limit:
            yield first, frame
            first, total = frame, 0
        total += int(number)
    if len(atoms):
        yield first, len(atoms)


def split_atoms(types: np.ndarray, limit: int | None, workers: int = 1, fewest: int = 1) -> list[np.ndarray]:
    """Split the real atoms into runs of nearly equal length.

    Parameters
    ----------
    limit : largest number of atoms of a run, None for a single run
    workers : runs evaluated side by side. Several runs are a multiple of `workers`, so that every worker is busy
    fewest : atoms that keep a worker busy. A system with that many for each worker is split even below the limit
    """
    real = np.flatnonzero(types >= 0)
    if not len(real):
        return []
    count = 1 if limit is None else math.ceil(len(real) / limit)
    if count > 1 or (limit is not None and len(real) >= workers * fewest):
        count = workers * math.ceil(count / workers)
    return np.array_split(real, min(count, len(real)))


def select_centres(neighbours: PairList, centres: np.ndarray) -> PairList:
    """Return the pairs of a run of centres: a view, because pairs are sorted by centre."""
    start, stop = np.searchsorted(neighbours.i, [centres[0], centres[-1] + 1])
    part = slice(start, stop)
    return replace(
        neighbours, i=neighbours.i[part], j=neighbours.j[part], disp=neighbours.disp[part], dist=neighbours.dist[part]
    )

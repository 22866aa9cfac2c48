"""Blocks: frames that are evaluated together, and runs of the centres of a large frame. NumPy only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.neighbours import PairList
from deepmd.process import CPU

DEFAULT_BATCH_SIZE = 768
"""Largest number of centre atoms of a block on the processor, and of the first blocks on another device: enough to keep
the frameworks busy, few enough to bound memory."""


@dataclass
class BlockLimit:
    """Largest number of centre atoms of a block.

    Attributes
    ----------
    atoms : the number; None: no limit
    grows : whether the number becomes twice the size of every block that fits on its device
    """

    atoms: int | None
    grows: bool = False

    def passed(self, count: int) -> None:
        """Note that a block of `count` centres has been evaluated."""
        if self.grows and self.atoms is not None:
            self.atoms = max(self.atoms, 2 * count)

    def failed(self, count: int) -> None:
        """Note that a block of `count` centres does not fit on its device: half of it is the limit from now on."""
        self.atoms, self.grows = max(count // 2, 1), False


def block_limit(auto_batch_size: bool | int, device: str = CPU) -> BlockLimit:
    """Return the limit for the blocks of a model; a default grows on other devices than the processor."""
    if auto_batch_size is False:
        return BlockLimit(None)
    name, value, grows = "auto_batch_size", auto_batch_size, False
    if auto_batch_size is True:
        name, given = "environment variable DP_INFER_BATCH_SIZE", os.environ.get("DP_INFER_BATCH_SIZE")
        text, grows = str(DEFAULT_BATCH_SIZE) if given is None else given, given is None and device != CPU
        value = int(text) if text.strip().isdecimal() else 0
        if value < 1:
            raise InputError(f"{name}: is {text!r}, accepted: a positive number of atoms")
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name}: is {value!r}, accepted: True, False, or a positive number of atoms")
    return BlockLimit(value, grows)


def group_frames(atoms: Sequence[int] | np.ndarray, limit: BlockLimit) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of runs of frames with at most `limit` atoms together; a larger frame is a run by itself."""
    first, total = 0, 0
    for frame, number in enumerate(atoms):
        if frame > first and limit.atoms is not None and total + number > limit.atoms:
            yield first, frame
            first, total = frame, 0
        total += int(number)
    if len(atoms):
        yield first, len(atoms)


def split_atoms(types: np.ndarray, limit: BlockLimit, workers: int = 1, fewest: int = 1) -> Iterator[np.ndarray]:
    """Split the real atoms into runs of nearly equal length; the limit may change between two of them.

    Parameters
    ----------
    limit : largest number of atoms of a run
    workers : runs evaluated side by side. Several runs are a multiple of `workers`, so that every worker is busy
    fewest : atoms that keep a worker busy. A system with that many for each worker is split even below the limit
    """
    rest, count, known = np.flatnonzero(types >= 0), 0, limit.atoms
    while len(rest):
        if not count or limit.atoms != known:
            known = limit.atoms
            count = 1 if known is None else math.ceil(len(rest) / known)
            if count > 1 or (known is not None and len(rest) >= workers * fewest):
                count = workers * math.ceil(count / workers)
        size = math.ceil(len(rest) / count)
        yield rest[:size]
        rest, count = rest[size:], count - 1


def halve_centres(centres: np.ndarray, whole: int) -> list[np.ndarray]:
    """Return the two halves of a run of centres; one if it cannot be divided.

    Parameters
    ----------
    whole : numbers of atoms, `whole` at a time from 0 on, that must stay together
    """
    group = centres // whole
    cuts = np.flatnonzero(np.diff(group)) + 1
    if not len(cuts):
        return [centres]
    middle = cuts[np.argmin(np.abs(cuts - len(centres) / 2))]
    return np.split(centres, [middle])


def select_centres(neighbours: PairList, centres: np.ndarray) -> PairList:
    """Return the pairs of a run of centres: a view, because pairs are sorted by centre."""
    start, stop = np.searchsorted(neighbours.i, [centres[0], centres[-1] + 1])
    part = slice(start, stop)
    return replace(
        neighbours, i=neighbours.i[part], j=neighbours.j[part], disp=neighbours.disp[part], dist=neighbours.dist[part]
    )

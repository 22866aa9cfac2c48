"""Validation frames set aside from the training data (docs/input.md#validation-frames-set-aside)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.frame_arrays import FrameArray
from deepmd.data.systems import System, Values


class _Taken(FrameArray):
    """Some frames of an array of frames, read when they are used."""

    def __init__(self, values: Values, frames: np.ndarray) -> None:
        self._values, self._frames = values, frames
        self.shape = (len(frames), *values.shape[1:])
        self.ndim, self.dtype = values.ndim, values.dtype

    def _read(self, first: int, last: int) -> np.ndarray:
        return np.asarray(self._values[self._frames[first:last]])


def take_frames(system: System, frames: np.ndarray) -> System:
    """Return a system with some of its frames only, in one set."""
    return replace(
        system,
        types=_Taken(system.types, frames) if system.mixed else system.types,
        coord=_Taken(system.coord, frames),
        cell=None if system.cell is None else _Taken(system.cell, frames),
        data={name: _Taken(values, frames) for name, values in system.data.items()},
        sets=(len(frames),),
        numbers=np.array([system.number(frame) for frame in frames]),
    )


def split_frames(systems: Sequence[System], fraction: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each system which frames are for training and which for validation.

    A function of the arguments and the numbers of frames only. At least one frame goes to each side.
    """
    paths = [system.path for system in systems]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise InputError(f"validation_fraction: {twice[0]} is named twice, so that its frames would be on both sides")
    counts = [system.num_frames for system in systems]
    total = sum(counts)
    if total < 2:
        raise InputError(f"validation_fraction: the data hold {total} frame; two are the fewest that can be split")
    aside = np.zeros(total, dtype=bool)
    aside[np.random.default_rng(seed).permutation(total)[: min(max(1, round(fraction * total)), total - 1)]] = True
    return [(np.flatnonzero(~each), np.flatnonzero(each)) for each in np.split(aside, np.cumsum(counts)[:-1])]


def split_systems(systems: Sequence[System], fraction: float, seed: int) -> tuple[list[System], list[System]]:
    """Return systems of the training frames and of the validation frames; systems without a frame are left out."""
    parts = list(zip(systems, split_frames(systems, fraction, seed), strict=True))
    training, validation = ([take_frames(each, part[k]) for each, part in parts if len(part[k])] for k in (0, 1))
    return training, validation

"""Statistics of the data, on the host (docs/theory/environment.md#statistics). Of outputs: `output_statistics.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.array_model.components import in_precision
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.models.linear import Combination
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.namespace import Params
from deepmd.data.batch import Frames, pack_frames, read_conditions
from deepmd.data.neighbours import find_neighbours
from deepmd.data.output_statistics import output_statistics
from deepmd.data.sampling import Sampler
from deepmd.data.systems import System
from deepmd.host import plain
from deepmd.world import ALONE, World

SMALLEST_STD = 1e-2
"""Lower bound of deviations."""

UNSEEN_STD = 0.1
"""Deviation of a type that the data lack."""


def sample(sampler: Sampler, num_batches: int) -> list[tuple[System, int]]:
    """Return the frames of the first `num_batches` batches of every system, each frame once."""
    out = []
    for number, system in enumerate(sampler.rule.systems):
        frames = np.concatenate([sampler.batch_frames(number, batch) for batch in range(num_batches)])
        out += [(system, int(frame)) for frame in dict.fromkeys(frames.tolist())]
    return out


def environment_statistics(
    model: StandardModel, frames: Frames, world: World = ALONE
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return mean and deviation by centre type, a pair for each part of the descriptor with statistics of its own.

    Rows (N, M, 4) give (T, 4) over all slots, empty slots counted as zeros: the mean is (radial mean, 0, 0, 0), and x,
    y and z are pooled for the deviation. Features (N, D) give (T, D). Each process of `world` takes a share of the
    frames.
    """
    shares = [share for share in world.gather(_sums(model, world.share(frames))) if share]
    return [
        _mean_and_deviation(sum(array for array, _ in part), pooled=part[0][1]) for part in zip(*shares, strict=True)
    ]


def _sums(model: StandardModel, frames: Frames) -> list[tuple[np.ndarray, bool]]:
    """Return sums, sums of squares and counts (3, T, columns) of each part, and whether x, y and z are pooled.

    Sums run over the slots of a frame, counts over all slots: the slots that a frame lacks are zeros.
    """
    out: list[tuple[np.ndarray, bool]] = []
    for item in frames:
        neighbours = pack_frames(model, [item]).neighbours
        each = []
        for rows, slots in zip(
            model.descriptor.raw_rows(neighbours, xp=plain), model.descriptor.part_slots, strict=True
        ):
            pooled = rows.ndim == 3
            by_type = [rows[neighbours.type_N == kind] for kind in range(model.ntypes)]
            sums = [_of_rows(own, slots) if pooled else _of_features(own) for own in by_type]
            each.append((np.stack(sums, axis=1), pooled))
        out = [(total + new, pooled) for (total, _), (new, pooled) in zip(out, each, strict=True)] if out else each
    return out


def _of_rows(rows: np.ndarray, slots: int) -> np.ndarray:
    """Return sums, sums of squares and counts (3, 2) of the radial column, and of x, y and z pooled."""
    columns, count = (rows[..., 0], rows[..., 1:]), len(rows) * slots
    return np.array(
        [[column.sum() for column in columns], [(column**2).sum() for column in columns], [count, 3 * count]]
    )


def _of_features(rows: np.ndarray) -> np.ndarray:
    """Return sums, sums of squares and counts (3, D) of each feature."""
    return np.stack([rows.sum(axis=0), (rows**2).sum(axis=0), np.full(rows.shape[1], len(rows))])


def _mean_and_deviation(sums: Any, pooled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation sqrt(<x^2> - <x>^2) from sums, sums of squares and counts (3, T, columns)."""
    total, square, count = sums
    seen = np.maximum(count, 1)
    mean = total / seen
    std = np.maximum(np.sqrt(np.maximum(square / seen - mean**2, 0.0)), SMALLEST_STD)
    std = np.where(count > 0, std, UNSEEN_STD)
    if not pooled:
        return mean, std
    mean[:, 1] = 0.0
    return mean[:, [0, 1, 1, 1]], std[:, [0, 1, 1, 1]]


def apply_statistics(model: Model, params: Params, frames: Frames, protect: float, world: World = ALONE) -> Params:
    """Return the parameters with the statistics of a sample of frames: inputs, and bias and scale of the output.

    `protect` is the lower bound of the deviations of frame and atomic parameters; the processes of `world` share the
    work.
    """
    bias_Td, std_Td = output_statistics(model, frames)
    return {**_adapted(model, params, frames, protect, world), "out_bias": bias_Td[None], "out_std": std_Td[None]}


def _adapted(model: Model, params: Params, frames: Frames, protect: float, world: World) -> Params:
    """Return the parameters with the statistics of inputs: environment rows, frame and atomic parameters.

    Members of a combination get input statistics only, because bias and scale are those of the combination.
    """
    if isinstance(model, Combination):
        members = [
            _adapted(member, own, frames, protect, world)
            for member, own in zip(model.models, params["models"], strict=True)
        ]
        return {**params, "models": members}
    if "descriptor" not in params:
        return params
    assert isinstance(model, StandardModel)
    params = dict(params)
    params["descriptor"] = model.descriptor.with_statistics(
        params["descriptor"], environment_statistics(model, frames, world), xp=plain
    )
    fitting = dict(params["fitting"])
    each = [
        read_conditions(model, [(system, frame)], np.flatnonzero(system.types_of(frame) >= 0))
        for system, frame in frames
    ]
    for name in model.conditions:
        if f"{name}_avg" in fitting:
            array = np.concatenate([conditions[name] for conditions in each])
            fitting[f"{name}_avg"] = array.mean(axis=0)
            fitting[f"{name}_inv_std"] = 1.0 / np.maximum(array.std(axis=0), protect)
    params["fitting"] = fitting
    out: Params = in_precision(model, params, xp=plain)
    return out


def neighbour_statistics(
    systems: Sequence[System], cutoffs: Sequence[float], ntypes: int
) -> tuple[float, dict[float, list[int]]]:
    """Return the shortest distance (Angstrom), and by cutoff the largest number of neighbours of each type within it.

    All cutoffs share one search. One frame after another is read.
    """
    widest = max(cutoffs)
    shortest, most = np.inf, np.zeros((len(cutoffs), ntypes), dtype=np.int64)
    for system in systems:
        for frame in range(system.num_frames):
            found = find_neighbours([system.structure(frame)], widest)
            if len(found.dist) == 0:
                continue
            shortest = min(shortest, float(found.dist.min()))
            if shortest < 1e-6:
                raise InputError(f"{system.path}: two atoms of frame {system.number(frame)} are at the same place")
            pair = found.i * ntypes + found.types[found.j]
            for number, rcut in enumerate(cutoffs):
                near = pair if rcut == widest else pair[found.dist <= rcut]
                counts = np.bincount(near, minlength=len(found.types) * ntypes)
                most[number] = np.maximum(most[number], counts.reshape(-1, ntypes).max(axis=0))
    return shortest, dict(zip(cutoffs, most.tolist(), strict=True))

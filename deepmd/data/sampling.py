"""Which frames make the batch of a step: a pure function of the seed and the step (docs/input.md#batches)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.systems import System

DRAWS_PER_GENERATOR = 4096
"""Systems drawn by one generator: draw d is entry d % DRAWS_PER_GENERATOR of generator d // DRAWS_PER_GENERATOR."""


@dataclass(frozen=True)
class SamplingRule:
    """How batches are drawn.

    Attributes
    ----------
    systems : systems that take part
    batch_size : frames per batch of each system
    probability : probability of each system
    mixed : frames of a batch whose systems are drawn frame by frame; 0: all frames of a batch are of one system
    """

    systems: tuple[System, ...]
    batch_size: tuple[int, ...]
    probability: tuple[float, ...]
    mixed: int = 0

    @property
    def num_batches(self) -> tuple[int, ...]:
        """Batches of each system, counted set by set."""
        return count_batches(self.systems, self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every frame of every system has been in a batch, on average."""
        draws = max(n / p for n, p in zip(self.num_batches, self.probability, strict=True) if p > 0.0)
        return math.ceil(draws / max(self.mixed, 1))


def count_batches(systems: Sequence[System], batch_size: Sequence[int]) -> tuple[int, ...]:
    """Return the number of batches of each system."""
    return tuple(
        sum(max(frames // size, 1) for frames in system.sets) for system, size in zip(systems, batch_size, strict=True)
    )


def make_rule(
    systems: Sequence[System],
    batch_size: int | str | Sequence[int],
    auto_prob: str,
    sys_probs: Sequence[float] | None,
    where: str,
    processes: int = 1,
) -> SamplingRule:
    """Return the rule that the options of a data section describe; errors name the section `where`.

    The batch size of the options is that of one process. Batches of the rule are those of all `processes` together.
    """
    place = f"{where}/batch_size"
    form, number = _parse_batch_size(batch_size, place) if isinstance(batch_size, str) else ("", 0)
    kept = _filter_systems(systems, number, place) if form == "filter" else list(systems)
    if isinstance(batch_size, str):
        sizes = [_size_batch(form, number, system) for system in kept]
    else:
        sizes = _check_sizes(batch_size, len(kept), place)
    mixed = number * processes if form == "mixed" else 0
    sizes = sizes if mixed else [size * processes for size in sizes]
    if sys_probs is not None:
        if len(kept) != len(systems):
            raise InputError(f"{where}/sys_probs: cannot be combined with batch_size 'filter:N', which drops systems")
        probability = _complete_probabilities(sys_probs, count_batches(kept, sizes), f"{where}/sys_probs")
    else:
        probability = _weigh_systems(auto_prob, count_batches(kept, sizes), f"{where}/auto_prob")
    return SamplingRule(tuple(kept), tuple(sizes), tuple(float(p) for p in probability), mixed)


def _parse_batch_size(text: str, where: str) -> tuple[str, int]:
    """Return form and number of a `batch_size` that is a text, "FORM:N" or "auto" (N = 32)."""
    form, _, number = text.partition(":")
    known = ("auto", "mixed", "max", "filter")
    if form not in known or (form != "auto" and not number) or (number and not (number.isdecimal() and int(number))):
        accepted = f"number, list, auto, auto:N, mixed:N, max:N, filter:N.{nearest(form, known)}"
        raise InputError(f"{where}: {text!r} is not understood. Accepted: {accepted}")
    return form, int(number or 32)


def _filter_systems(systems: Sequence[System], most: int, where: str) -> list[System]:
    """Return the systems of at most `most` atoms."""
    kept = [system for system in systems if system.num_atoms <= most]
    if not kept:
        raise InputError(f"{where}: 'filter:{most}' leaves no system")
    return kept


def _size_batch(form: str, number: int, system: System) -> int:
    """Return the frames of a batch of a system: "auto" at least `number` atoms, "max" and "filter" at most."""
    if form == "mixed":  # one frame each of systems that are drawn frame by frame
        return 1
    return math.ceil(number / system.num_atoms) if form == "auto" else max(1, number // system.num_atoms)


def _check_sizes(batch_size: int | Sequence[int], count: int, where: str) -> list[int]:
    """Return a batch size for each of `count` systems from one number, or from a number for each."""
    sizes = [batch_size] * count if isinstance(batch_size, int) else list(batch_size)
    if len(sizes) != count:
        raise InputError(f"{where}: has {len(sizes)} entries for {count} systems")
    if min(sizes) < 1:
        raise InputError(f"{where}: a batch needs at least one frame, got {min(sizes)}")
    return sizes


def _complete_probabilities(sys_probs: Sequence[float], batches: Sequence[int], where: str) -> np.ndarray:
    """Return the given probabilities; negative entries share the rest in proportion to their numbers of batches."""
    probability = np.array(sys_probs, dtype=np.float64)
    if len(probability) != len(batches):
        raise InputError(f"{where}: has {len(probability)} entries for {len(batches)} systems")
    free = probability < 0.0
    left = 1.0 - probability[~free].sum()
    if left < -1e-8 or (not free.any() and abs(left) > 1e-8):
        raise InputError(
            f"{where}: the probabilities sum to {1.0 - left:g}, they must sum to 1 (negative entries share the rest)"
        )
    weights = np.array(batches, dtype=np.float64)[free]
    probability[free] = max(left, 0.0) * weights / weights.sum() if free.any() else 0.0
    return probability


def _weigh_systems(auto_prob: str, batches: Sequence[int], where: str) -> np.ndarray:
    """Return the probabilities of `auto_prob`: uniform, or by numbers of batches, in runs of systems with weights."""
    weights = np.array(batches, dtype=np.float64)
    head, *runs = auto_prob.split(";")
    if head == "prob_uniform" and not runs:
        return np.full(len(weights), 1.0 / len(weights))
    if head != "prob_sys_size":
        known = ("prob_uniform", "prob_sys_size")
        accepted = f"{', '.join(known)}, prob_sys_size;start:end:weight;...{nearest(head, known)}"
        raise InputError(f"{where}: {auto_prob!r} is not understood. Accepted: {accepted}")
    if not runs:
        return np.asarray(weights / weights.sum())
    probability = np.zeros(len(weights))
    for run in runs:
        try:
            start, end, weight = (kind(text) for kind, text in zip((int, int, float), run.split(":"), strict=True))
        except ValueError as error:
            raise InputError(f"{where}: the block {run!r} is not start:end:weight") from error
        if not 0 <= start <= end <= len(weights) or not 0.0 <= weight < math.inf:
            raise InputError(f"{where}: the block {run!r} does not fit {len(weights)} systems")
        probability[start:end] = weight * weights[start:end] / weights[start:end].sum()
    if not 0.0 < probability.sum() < math.inf:
        raise InputError(
            f"{where}: the weights of {auto_prob!r} sum to {probability.sum():g}; accepted: a positive number"
        )
    return np.asarray(probability / probability.sum())


class Sampler:
    """Frames of each step, a function of seed and step only: a restart needs no stored state of the data."""

    def __init__(self, rule: SamplingRule, seed: int) -> None:
        self.rule = rule
        self._seed = seed
        self._draws_before: list[np.ndarray] = [np.zeros(len(rule.systems), dtype=np.int64)]
        self._order = lru_cache(maxsize=4 * len(rule.systems))(self._draw_order)
        self._systems = lru_cache(maxsize=2)(self._draw_systems)

    def frames(self, step: int) -> list[tuple[System, int]]:
        """Return the (system, frame) pairs of the batch of a step (from 0)."""
        out = []
        per_step = max(self.rule.mixed, 1)
        for draw in range(step * per_step, (step + 1) * per_step):
            system, batch = self._locate_draw(draw)
            out += [(self.rule.systems[system], int(frame)) for frame in self.batch_frames(system, batch)]
        return out

    def batch_frames(self, system: int, batch: int) -> np.ndarray:
        """Return the frames of a batch of a system; each pass over its frames is a new permutation."""
        size, frames = self.rule.batch_size[system], self.rule.systems[system].num_frames
        per_pass = max(frames // size, 1)
        order = self._order(system, batch // per_pass)
        start = (batch % per_pass) * size
        return order[start : start + size]

    def _draw_order(self, system: int, number: int) -> np.ndarray:
        """Return the order of the frames of a system in a pass."""
        return np.random.default_rng([1, system, number, self._seed]).permutation(self.rule.systems[system].num_frames)

    def _draw_systems(self, generator: int) -> np.ndarray:
        """Return the systems of all draws of a generator."""
        return np.random.default_rng([0, generator, self._seed]).choice(
            len(self.rule.systems), size=DRAWS_PER_GENERATOR, p=self.rule.probability
        )

    def _locate_draw(self, draw: int) -> tuple[int, int]:
        """Return the system of a draw, and how many earlier draws gave the same system: the number of its batch."""
        generator, offset = divmod(draw, DRAWS_PER_GENERATOR)
        while len(self._draws_before) <= generator:
            drawn = self._systems(len(self._draws_before) - 1)
            self._draws_before.append(self._draws_before[-1] + np.bincount(drawn, minlength=len(self.rule.systems)))
        drawn = self._systems(generator)
        system = int(drawn[offset])
        return system, int(self._draws_before[generator][system] + np.count_nonzero(drawn[:offset] == system))

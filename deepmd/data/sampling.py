"""Which frames make the batch of a step: a pure function of the seed and the step (docs/input.md#batches)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.systems import System

BLOCK = 4096
"""Systems drawn by one generator: draw d is entry d % BLOCK of the generator of block d // BLOCK."""


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
    def epoch(self) -> int:
        """Steps until every system has been visited completely, on average."""
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
) -> SamplingRule:
    """Return the rule that the options of a data section describe; errors name the section `where`."""
    kept, sizes, mixed = _sizes(systems, batch_size, f"{where}/batch_size")
    if sys_probs is not None:
        if len(kept) != len(systems):
            raise InputError(f"{where}/sys_probs: cannot be combined with batch_size 'filter:N', which drops systems")
        probability = _given(sys_probs, count_batches(kept, sizes), f"{where}/sys_probs")
    else:
        probability = _automatic(auto_prob, count_batches(kept, sizes), f"{where}/auto_prob")
    return SamplingRule(tuple(kept), tuple(sizes), tuple(float(p) for p in probability), mixed)


def _sizes(
    systems: Sequence[System], batch_size: int | str | Sequence[int], where: str
) -> tuple[list[System], list[int], int]:
    """Return the systems that stay under `batch_size`, their batch sizes, and `mixed` of the rule."""
    systems = list(systems)
    if isinstance(batch_size, int):
        sizes = [batch_size] * len(systems)
    elif not isinstance(batch_size, str):
        sizes = list(batch_size)
        if len(sizes) != len(systems):
            raise InputError(f"{where}: has {len(sizes)} entries for {len(systems)} systems")
    else:
        rule, _, text = batch_size.partition(":")
        known = ("auto", "mixed", "max", "filter")
        if rule not in known or (rule != "auto" and not text) or (text and not (text.isdecimal() and int(text))):
            accepted = f"number, list, auto, auto:N, mixed:N, max:N, filter:N.{nearest(rule, known)}"
            raise InputError(f"{where}: {batch_size!r} is not understood. Accepted: {accepted}")
        number = int(text or 32)
        if rule == "mixed":
            return systems, [1] * len(systems), number
        if rule == "filter":
            systems = [system for system in systems if system.num_atoms <= number]
            if not systems:
                raise InputError(f"{where}: {batch_size!r} leaves no system")
        if rule == "auto":
            sizes = [math.ceil(number / system.num_atoms) for system in systems]
        else:
            sizes = [max(1, number // system.num_atoms) for system in systems]
    if min(sizes) < 1:
        raise InputError(f"{where}: a batch needs at least one frame, got {min(sizes)}")
    return systems, sizes, 0


def _given(sys_probs: Sequence[float], batches: Sequence[int], where: str) -> np.ndarray:
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


def _automatic(rule: str, batches: Sequence[int], where: str) -> np.ndarray:
    """Return the probabilities of `auto_prob`: uniform, or by numbers of batches, in blocks of systems with weights."""
    weights = np.array(batches, dtype=np.float64)
    head, *blocks = rule.split(";")
    if head == "prob_uniform" and not blocks:
        return np.full(len(weights), 1.0 / len(weights))
    if head != "prob_sys_size":
        known = ("prob_uniform", "prob_sys_size")
        accepted = f"{', '.join(known)}, prob_sys_size;start:end:weight;...{nearest(head, known)}"
        raise InputError(f"{where}: {rule!r} is not understood. Accepted: {accepted}")
    if not blocks:
        return np.asarray(weights / weights.sum())
    probability = np.zeros(len(weights))
    for block in blocks:
        try:
            start, end, weight = (kind(text) for kind, text in zip((int, int, float), block.split(":"), strict=True))
        except ValueError as error:
            raise InputError(f"{where}: the block {block!r} is not start:end:weight") from error
        if not 0 <= start < end <= len(weights) or not 0.0 <= weight < math.inf:
            raise InputError(f"{where}: the block {block!r} does not fit {len(weights)} systems")
        probability[start:end] = weight * weights[start:end] / weights[start:end].sum()
    if not 0.0 < probability.sum() < math.inf:
        raise InputError(f"{where}: the weights of {rule!r} sum to {probability.sum():g}; accepted: a positive number")
    return np.asarray(probability / probability.sum())


class Sampler:
    """Frames of each step, a function of seed and step only: a restart needs no stored state of the data."""

    def __init__(self, rule: SamplingRule, seed: int) -> None:
        self.rule = rule
        self._seed = seed
        self._visits_before: list[np.ndarray] = [np.zeros(len(rule.systems), dtype=np.int64)]
        self._order = lru_cache(maxsize=4 * len(rule.systems))(self._draw_order)
        self._systems = lru_cache(maxsize=2)(self._draw_systems)

    def frames(self, step: int) -> list[tuple[System, int]]:
        """Return the (system, frame) pairs of the batch of a step (from 0)."""
        out = []
        per_step = max(self.rule.mixed, 1)
        for draw in range(step * per_step, (step + 1) * per_step):
            system, visit = self._visit(draw)
            out += [(self.rule.systems[system], int(frame)) for frame in self.visit(system, visit)]
        return out

    def visit(self, system: int, visit: int) -> np.ndarray:
        """Return the frames of batch `visit` of a system: each epoch is a new permutation of its frames."""
        size, frames = self.rule.batch_size[system], self.rule.systems[system].num_frames
        per_epoch = max(frames // size, 1)
        order = self._order(system, visit // per_epoch)
        start = (visit % per_epoch) * size
        return order[start : start + size]

    def _draw_order(self, system: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([1, system, epoch, self._seed]).permutation(self.rule.systems[system].num_frames)

    def _draw_systems(self, block: int) -> np.ndarray:
        return np.random.default_rng([0, block, self._seed]).choice(
            len(self.rule.systems), size=BLOCK, p=self.rule.probability
        )

    def _visit(self, draw: int) -> tuple[int, int]:
        """Return the system of a draw, and how many earlier draws gave the same system."""
        block, offset = divmod(draw, BLOCK)
        while len(self._visits_before) <= block:
            drawn = self._systems(len(self._visits_before) - 1)
            self._visits_before.append(self._visits_before[-1] + np.bincount(drawn, minlength=len(self.rule.systems)))
        drawn = self._systems(block)
        system = int(drawn[offset])
        return system, int(self._visits_before[block][system] + np.count_nonzero(drawn[:offset] == system))

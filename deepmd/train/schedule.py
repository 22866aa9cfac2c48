"""Learning rate as a function of the step (docs/input.md#learning-rate-and-optimizer)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from deepmd.array_model.errors import InputError
from deepmd.io.sections import CosineDecay, ExpDecay, LearningRate, StableDecay

Rate = Callable[[int], float]


def scaled(options: LearningRate, processes: int) -> LearningRate:
    """Return the options with start_lr scaled by the rule `scale_by_worker` for a number of processes."""
    factor = {"none": 1.0, "linear": processes, "sqrt": math.sqrt(processes)}[options.scale_by_worker]
    return replace(options, start_lr=options.start_lr * factor)


def learning_rate(options: LearningRate, numb_steps: int) -> Rate:
    """Return lr(t) for the update that follows t finished steps: a linear warm-up, then the decay of the type."""
    start, stop = options.start_lr, options.last
    warmup = options.warmup_steps if options.warmup_ratio is None else int(options.warmup_ratio * numb_steps)
    steps = numb_steps - warmup
    if warmup and steps <= 0:
        raise InputError(f"learning_rate: {warmup} warm-up steps leave none of the {numb_steps} training steps")
    if isinstance(options, StableDecay):
        decay = _stable(options, start, stop, steps, numb_steps)
    elif isinstance(options, CosineDecay):
        decay = _cosine(start, stop, steps)
    else:
        assert isinstance(options, ExpDecay)
        decay = _exponential(options, start, stop, steps)

    def lr(t: int) -> float:
        if t < warmup:
            return start * (options.warmup_start_factor + (1.0 - options.warmup_start_factor) * t / warmup)
        return decay(t - warmup)

    return lr


def _exponential(options: ExpDecay, start: float, stop: float, steps: int) -> Rate:
    """start_lr * rate^floor(t / decay_steps), without the floor under `smooth`, never below stop_lr."""
    every = options.decay_steps
    if options.decay_rate is None and every >= steps:
        every = 100 if steps // 10 > 100 else steps // 100 + 1
    rate = options.decay_rate
    if rate is None:
        rate = math.exp(math.log(max(stop, 1e-10) / start) / (steps / every)) if steps > 0 else 1.0
    return lambda t: max(start * rate ** (t / every if options.smooth else t // every), stop)


def _cosine(start: float, stop: float, steps: int) -> Rate:
    """Half a period of a cosine from start_lr to stop_lr."""
    return lambda t: _half_cosine(start, stop, min(t / max(steps, 1), 1.0))


def _half_cosine(start: float, stop: float, part: float) -> float:
    """Value from `start` at part 0 to `stop` at part 1."""
    return stop + 0.5 * (start - stop) * (1.0 + math.cos(math.pi * part))


def _stable(options: StableDecay, start: float, stop: float, steps: int, numb_steps: int) -> Rate:
    """start_lr, then a decay to stop_lr (of a cosine, of lr or of 1/lr) in the last `decay_phase_ratio` of all steps.

    The decay begins after the warm-up at the earliest.
    """
    phase = min(max(int(options.decay_phase_ratio * numb_steps), 1), max(steps, 1))

    def lr(t: int) -> float:
        part = min(max((t - (steps - phase)) / phase, 0.0), 1.0)
        if options.decay_type == "cosine":
            return _half_cosine(start, stop, part)
        if options.decay_type == "linear":
            return start + (stop - start) * part
        return 1.0 / (part / stop + (1.0 - part) / start) if stop > 0.0 else start * (1.0 - part)

    return lr

"""Learning rate as a function of the step (spec formats, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable

from deepmd.array_model.errors import InputError
from deepmd.io.train_input import ExpDecay

DEFAULT_STOP_LR = 5e-8


def learning_rate(options: ExpDecay, numb_steps: int) -> Callable[[int], float]:
    """Return lr(t) for the update that follows t finished steps.

    A linear warm-up, then start_lr * rate^floor(t / decay_steps) (without the floor under `smooth`), never below stop_lr.

    Raises
    ------
    InputError
        The warm-up is as long as the training.
    """
    start = options.start_lr
    if options.stop_lr_ratio is not None:
        stop = start * options.stop_lr_ratio
    else:
        stop = DEFAULT_STOP_LR if options.stop_lr is None else options.stop_lr
    warmup = options.warmup_steps if options.warmup_ratio is None else int(options.warmup_ratio * numb_steps)
    steps = numb_steps - warmup
    if warmup and steps <= 0:
        raise InputError(f"learning_rate: {warmup} warm-up steps leave none of the {numb_steps} training steps")
    every = options.decay_steps
    if options.decay_rate is None and every >= steps:
        every = 100 if steps // 10 > 100 else steps // 100 + 1
    rate = options.decay_rate
    if rate is None:
        rate = math.exp(math.log(max(stop, 1e-10) / start) / (steps / every)) if steps > 0 else 1.0

    def lr(t: int) -> float:
        if t < warmup:
            return start * (options.warmup_start_factor + (1.0 - options.warmup_start_factor) * t / warmup)
        age = (t - warmup) / every
        return max(start * rate ** (age if options.smooth else math.floor(age)), stop)

    return lr

"""The training loop, once for every backend."""

from __future__ import annotations

import datetime
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.adapters.training import Progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten
from deepmd.data.batch import Batch, Preparation
from deepmd.data.batches import Sampler
from deepmd.io.model_file import ModelFile
from deepmd.io.train_input import TrainInput
from deepmd.train import lcurve
from deepmd.train.checkpoints import announce
from deepmd.train.expanding import ExpandingTrainer
from deepmd.train.tensorboard import ScalarLog
from deepmd.train.validating import FullValidation

log = logging.getLogger(__name__)

Row = dict[str, float]
OnRow = Callable[[int, Row, Row | None, float], None]
"""Called with step, training and validation quantities and the learning rate, unrounded, after each row of the curve."""


@dataclass(frozen=True)
class Run:
    """Everything that a loop needs and does not change.

    Attributes
    ----------
    options : the checked input
    content : the model file that checkpoints carry, with whatever parameters
    backend : its canonical name
    train, validation : samplers
    lr : learning rate for the update after t steps
    numb_steps : updates in all
    seed : of the samplers
    finish : what happens to the parameters after the last step, if anything
    full : the full validation, if there is one
    """

    options: TrainInput
    content: ModelFile
    backend: str
    train: Sampler
    validation: Sampler | None
    lr: Callable[[int], float]
    numb_steps: int
    seed: int
    finish: Callable[[Params], Params] | None = None
    full: FullValidation | None = None


def run_loop(run: Run, trainer: ExpandingTrainer, start: int, on_row: OnRow | None = None) -> None:
    """Train from step `start` to the last; write the learning curve and the checkpoints.

    Raises
    ------
    InputError
        The loss or a parameter is not finite any more; nothing is written after that.
    """
    options, training = run.options, run.options.training
    curve = None
    if training.disp_training:
        curve = lcurve.LearningCurve(training.disp_file, lcurve.columns(options.loss), run.validation is not None, start)
    board = ScalarLog(training.tensorboard_log_dir) if training.tensorboard else None
    saved = start if start > 0 else -1
    clock = _Clock(start, run.numb_steps)
    prepare, prepare_validation = (Preparation(run.content.model, options.loss) for _ in range(2))
    with ThreadPoolExecutor(max_workers=1) as pool, _progress_bar(start, run.numb_steps) as advance:
        upcoming = pool.submit(prepare, run.train.frames(start))
        for step in range(start + 1, run.numb_steps + 1):
            batch = upcoming.result()
            if step < run.numb_steps:
                upcoming = pool.submit(prepare, run.train.frames(step))  # the next batch is prepared while this one is trained on
            lr = run.lr(step - 1)
            prefactors = options.loss.prefactors(lr / options.learning_rate.start_lr)
            _finite(trainer.step(batch, lr, _present(prefactors, batch), step), step)
            if board and step % training.tensorboard_freq == 0:
                quantities = _quantities(run, trainer, batch, step, prefactors)
                board.add(step, {**{f"{name}_trn": value for name, value in quantities.items()}, "lr": lr})
            if curve and (step == 1 or step % training.disp_freq == 0):
                train, validation = _measure(run, trainer, batch, step, prefactors, prepare_validation)
                if board and validation is not None:
                    board.add(step, {f"{name}_val": value for name, value in validation.items()})
                curve.add(lcurve.row(step, train, validation, lr))
                log.info(lcurve.log_line(step, "trn", train, lr))
                if validation is not None:
                    log.info(lcurve.log_line(step, "val", validation, None))
                if training.time_training:
                    log.info(clock.line(step))
                if on_row:
                    on_row(step, train, validation, lr)
            if run.full and run.full.due(step):
                _validate(run, run.full, trainer, step)
            if step % training.save_freq == 0 or step == run.numb_steps:
                _save(run, trainer, step)
                saved = step
            advance(step)
    if saved < run.numb_steps:
        _save(run, trainer, run.numb_steps)
    log.info(clock.summary())


def _present(prefactors: dict[str, float], batch: Batch) -> dict[str, float]:
    """Prefactors of a batch: zero for what it has no label for."""
    return {term: value if batch.found[term] else 0.0 for term, value in prefactors.items()}


def _finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"the loss is {loss} at step {step}; training stops, nothing was written since the last checkpoint. "
            "Check the labels for wrong units and outliers, or lower learning_rate/start_lr"
        )


def _quantities(run: Run, trainer: ExpandingTrainer, batch: Batch, step: int, prefactors: dict[str, float]) -> Row:
    """Quantities of a row on one batch."""
    errors = trainer.errors(batch, _present(prefactors, batch))
    _finite(errors["loss"], step)
    return lcurve.displayed(run.options.loss, errors, batch.found)


def _measure(
    run: Run, trainer: ExpandingTrainer, batch: Batch, step: int, prefactors: dict[str, float], prepare: Preparation
) -> tuple[Row, Row | None]:
    """Quantities of a row: on the batch of the step after its update, and on validation batches (weighted by atoms)."""
    train = _quantities(run, trainer, batch, step, prefactors)
    if run.validation is None or run.options.validation is None:
        return train, None
    number = run.options.validation.numb_btch
    first = (step // run.options.training.disp_freq) * number
    total, atoms = dict.fromkeys(train, 0.0), 0.0
    for draw in range(first, first + number):
        each = prepare(run.validation.frames(draw))
        weight = float(each.natoms_F.mean())
        values = _quantities(run, trainer, each, step, prefactors)
        total = {name: total[name] + weight * value for name, value in values.items()}
        atoms += weight
    return train, {name: value / atoms for name, value in total.items()}


def _validate(run: Run, full: FullValidation, trainer: ExpandingTrainer, step: int) -> None:
    content = run.content.with_params(trainer.params()).with_distance(trainer.closest)
    progress = Progress(step, run.seed, trainer.moments(), trainer.evaluation)
    full(step, content, lambda prefix: trainer.save(prefix, content, progress))


def _save(run: Run, trainer: ExpandingTrainer, step: int) -> None:
    params = trainer.params()
    if run.finish and step == run.numb_steps:
        params = run.finish(params)
    for path, array in flatten(params).items():
        if not np.all(np.isfinite(array)):
            raise InputError(f"parameter {path} is not finite at step {step}; training stops, nothing was written since the last checkpoint")
    link = Path(run.options.training.save_ckpt)
    prefix = link if run.options.training.save_dir is None else Path(run.options.training.save_dir) / link.name
    progress = Progress(step, run.seed, trainer.moments(), trainer.evaluation)
    content = run.content.with_params(params).with_distance(trainer.closest)
    name = trainer.save(prefix, content, progress)
    announce(run.backend, prefix, name, step, _kept(run), link)
    log.info("Saved model to %s", prefix.with_name(name))


def _kept(run: Run) -> int:
    """Return how many checkpoints to keep."""
    training = run.options.training
    if training.ckpt_keep_ratio is None:
        return training.max_ckpt_keep
    return math.ceil(training.ckpt_keep_ratio * math.ceil(run.numb_steps / training.save_freq))


class _Clock:
    """Wall time per interval, speed, and when the training will be done."""

    def __init__(self, start: int, last: int) -> None:
        self._first = self._last_step = start
        self._numb_steps = last
        self._begin = self._last_time = time.perf_counter()

    def line(self, step: int) -> str:
        now = time.perf_counter()
        elapsed, steps = now - self._last_time, step - self._last_step
        left = (self._numb_steps - step) * elapsed / max(steps, 1)
        done = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=left)
        self._last_time, self._last_step = now, step
        eta = datetime.timedelta(seconds=int(left))
        return (
            f"Batch {step:7d}: total wall time = {elapsed:.2f} s, eta = {eta!s} at {done:%Y-%m-%d %H:%M}, {1e3 * elapsed / max(steps, 1):.1f} ms/step"
        )

    def summary(self) -> str:
        steps, elapsed = self._numb_steps - self._first, time.perf_counter() - self._begin
        return f"finished training: {steps} steps in {elapsed:.1f} s, {1e3 * elapsed / max(steps, 1):.1f} ms/step"


@contextmanager
def _progress_bar(start: int, last: int) -> Iterator[Callable[[int], Any]]:
    """Yield a function to call with the finished step; it moves a bar if the log goes to a terminal."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    parts = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=last, completed=start)
        yield lambda step: bar.update(task, completed=step)

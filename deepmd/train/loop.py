"""The training loop, once for every backend."""

from __future__ import annotations

import datetime
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepmd.adapters.training import Progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.data.batch import Batch, Frames, Preparation
from deepmd.data.batches import Sampler
from deepmd.io.checking import check_finite
from deepmd.io.model_file import ModelFile
from deepmd.io.train_input import TrainInput
from deepmd.train import lcurve
from deepmd.train.checkpoints import announce
from deepmd.train.expanding import ExpandingTrainer
from deepmd.train.others import Others, Rows
from deepmd.train.places import prefix_of
from deepmd.train.stopping import stop_requests, stopped
from deepmd.train.tensorboard import ScalarLog
from deepmd.train.validating import FullValidation

log = logging.getLogger(__name__)

FOREVER = 100 * 365 * 86400.0
"""Seconds; calendars end somewhere."""

MOST = 8
"""Frames of a system that an error names."""

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
    others : files of another training, which are moved before the first checkpoint is written
    go_on : the command that continues the training from its newest checkpoint
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
    others: Others
    go_on: str
    finish: Callable[[Params], Params] | None = None
    full: FullValidation | None = None


def run_loop(run: Run, trainer: ExpandingTrainer, start: int, on_row: OnRow | None = None) -> None:
    """Train from step `start` to the last; write the learning curve and the checkpoints.

    Raises
    ------
    InputError
        The loss or a parameter is not finite any more; nothing is written after that.
    KeyboardInterrupt, SystemExit
        SIGINT or SIGTERM has come: the step was finished and a checkpoint written.
    """
    options, training = run.options, run.options.training
    if start == run.numb_steps > 0:
        log.info("all %d steps were done before", start)
        return
    board = ScalarLog(training.tensorboard_log_dir) if training.tensorboard else None
    clock = _Clock(start, run.numb_steps)
    prepare, prepare_validation = (Preparation(run.content.model, options.loss) for _ in range(2))
    with ExitStack() as stack:
        curve = None
        if training.disp_training:
            head, rows = run.others.rows(training.disp_file, start)
            text = "".join(head or [lcurve.header(lcurve.columns(options.loss), run.validation is not None)]) + "".join(
                rows
            )
            curve = stack.enter_context(closing(Rows(training.disp_file, text, run.others)))
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        advance = stack.enter_context(_progress_bar(start, run.numb_steps))
        asked = stack.enter_context(stop_requests())
        following = run.train.frames(start)
        upcoming = pool.submit(prepare, following)
        for step in range(start + 1, run.numb_steps + 1):
            frames, batch = following, upcoming.result()
            if step < run.numb_steps:  # the next batch is prepared while this one is trained on
                following = run.train.frames(step)
                upcoming = pool.submit(prepare, following)
            lr = run.lr(step - 1)
            prefactors = options.loss.prefactors(lr / options.learning_rate.start_lr)
            with _told(step, frames):
                _check({"loss": trainer.step(batch, lr, _present(prefactors, batch), step)})
                shown = curve is not None and (step == 1 or step % training.disp_freq == 0)
                logged = board is not None and step % training.tensorboard_freq == 0
                train = _quantities(run, trainer, batch, prefactors) if shown or logged else {}
            if board and logged:
                board.add(step, {**{f"{name}_trn": value for name, value in train.items()}, "lr": lr})
            if curve and shown:
                validation = _on_validation(run, trainer, step, prefactors, prepare_validation)
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
            with _told(step, frames):
                if run.full and run.full.due(step):
                    _validate(run, run.full, trainer, step)
                stop, last = asked(), step == run.numb_steps
                if last or stop is not None or step % training.save_freq == 0:
                    if not train:  # what is saved evaluates to numbers
                        _quantities(run, trainer, batch, prefactors)
                    _save(run, trainer, step)
            advance(step)
            if stop is not None and not last:
                message = f"stopped by {stop.name} after step {step}; to go on: {run.go_on}"
                log.warning(message)
                raise stopped(stop, message)
        if run.numb_steps == 0:
            _save(run, trainer, 0)
    log.info(clock.summary())


@contextmanager
def _told(step: int, frames: Frames) -> Iterator[None]:
    """Add the step and its batch to an error."""
    try:
        yield
    except InputError as error:
        systems: dict[str, list[int]] = {}
        for system, frame in frames:
            systems.setdefault(system.path, []).append(int(frame))
        batch = "; ".join(
            f"frame{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:MOST]))}{' ...' * (len(numbers) > MOST)} of {path}"
            for path, numbers in systems.items()
        )
        raise InputError(
            f"step {step}: {error}. Batch: {batch}. Training stops; nothing was written since the last checkpoint. "
            "Check the labels for wrong units and outliers, or lower learning_rate/start_lr"
        ) from error


def _present(prefactors: dict[str, float], batch: Batch) -> dict[str, float]:
    """Prefactors of a batch: zero for what it has no label for."""
    return {term: value if batch.found[term] else 0.0 for term, value in prefactors.items()}


def _check(values: Row) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"the {name} is {value}")


def _quantities(run: Run, trainer: ExpandingTrainer, batch: Batch, prefactors: dict[str, float]) -> Row:
    """Quantities of a row on one batch."""
    errors = trainer.errors(batch, _present(prefactors, batch))
    columns = run.options.loss.columns()
    _check({"loss": errors["loss"], **{column: errors[term] for term, column in columns.items() if batch.found[term]}})
    return lcurve.displayed(run.options.loss, errors, batch.found)


def _on_validation(
    run: Run, trainer: ExpandingTrainer, step: int, prefactors: dict[str, float], prepare: Preparation
) -> Row | None:
    """Quantities of a row on validation batches (weighted by atoms), if there are any."""
    if run.validation is None or run.options.validation is None:
        return None
    number = run.options.validation.numb_btch
    first = (step // run.options.training.disp_freq) * number
    total: Row = {}
    atoms = 0.0
    for draw in range(first, first + number):
        frames = run.validation.frames(draw)
        each = prepare(frames)
        weight = float(each.natoms_F.mean())
        with _told(step, frames):
            values = _quantities(run, trainer, each, prefactors)
        total = {name: total.get(name, 0.0) + weight * value for name, value in values.items()}
        atoms += weight
    return {name: value / atoms for name, value in total.items()}


def _validate(run: Run, full: FullValidation, trainer: ExpandingTrainer, step: int) -> None:
    content, progress = _state(run, trainer, step, trainer.params())

    def save(prefix: Path) -> str:
        run.others.move()
        return trainer.save(prefix, content, progress)

    full(step, content, save)


def _save(run: Run, trainer: ExpandingTrainer, step: int) -> None:
    params = trainer.params()
    if run.finish and step == run.numb_steps:
        params = run.finish(params)
    content, progress = _state(run, trainer, step, params)
    prefix = prefix_of(run.options)
    run.others.move()
    name = trainer.save(prefix, content, progress)
    announce(run.backend, prefix, name, step, _kept(run), Path(run.options.training.save_ckpt))
    log.info("Saved model to %s", prefix.with_name(name))


def _state(run: Run, trainer: ExpandingTrainer, step: int, params: Params) -> tuple[ModelFile, Progress]:
    """Return what a checkpoint holds; nothing of it is NaN or infinite."""
    check_finite(params, "parameters")
    content = run.content.with_params(params).with_distance(trainer.closest)
    return content, Progress(step, run.seed, trainer.moments(), trainer.evaluation)


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
        left = min((self._numb_steps - step) * elapsed / max(steps, 1), FOREVER)
        done = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=left)
        self._last_time, self._last_step = now, step
        eta = datetime.timedelta(seconds=int(left))
        pace = 1e3 * elapsed / max(steps, 1)

        when = f"eta = {eta!s} at {done:%Y-%m-%d %H:%M}"
        return f"Batch {step:7d}: total wall time = {elapsed:.2f} s, {when}, {pace:.1f} ms/step"

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
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    parts = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=last, completed=start)
        yield lambda step: bar.update(task, completed=step)

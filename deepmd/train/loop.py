"""The training loop, once for every backend: `run(job)`. The job comes from `prepare.py`, updates from the trainer."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deepmd.adapters.contracts import Trainer
from deepmd.adapters.training import Progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.data.batch import Batch, Frames, Preparation
from deepmd.data.sampling import Sampler
from deepmd.io.checking import check_finite
from deepmd.io.model_file import ModelFile
from deepmd.io.sections import FRACTION_BATCHES
from deepmd.io.train_input import TrainInput
from deepmd.train import lcurve
from deepmd.train.checkpoints import announce
from deepmd.train.clock import Clock, progress_bar
from deepmd.train.other_training import OtherTraining, Rows
from deepmd.train.places import prefix_of
from deepmd.train.planning import Planner
from deepmd.train.stopping import make_stop, stop_requests
from deepmd.train.tensorboard import ScalarLog
from deepmd.train.validating import FullValidation
from deepmd.world import ALONE, PeerError, World

log = logging.getLogger(__name__)

MOST_NAMED = 8
"""Frames of a system that an error names."""


class Located(InputError):
    """An error that names the step and its batch."""


Row = dict[str, float]
OnRow = Callable[[int, Row, Row | None, float], None]
"""Called after each row of the curve with step, training and validation quantities and learning rate, unrounded."""


@dataclass(frozen=True)
class Job:
    """A training that is ready to run from step `done` on.

    Attributes
    ----------
    options : the checked input
    content : model file of the checkpoints, whose parameters are replaced on saving
    backend : canonical name of the backend
    trainer : the model in training
    planner : plan of the embedding nets, which follows the weights and the data
    train, validation : samplers
    lr : learning rate for the update after t steps
    prefactors : prefactors of the loss at a learning rate
    done, numb_steps : updates made before, and in all
    seed : seed of the training sampler
    others : files of another training, which are moved before the first checkpoint is written
    go_on : command that continues the training from its newest checkpoint
    finish : function of the parameters after the last step, if any
    full : full validation, if any
    world : the processes that train together; the first writes
    covered : whether the expansions reach the shortest distance of the training data from the start
    """

    options: TrainInput
    content: ModelFile
    backend: str
    trainer: Trainer
    planner: Planner
    train: Sampler
    validation: Sampler | None
    lr: Callable[[int], float]
    prefactors: Callable[[float], dict[str, float]]
    done: int
    numb_steps: int
    seed: int
    others: OtherTraining
    go_on: str
    finish: Callable[[Params], Params] | None = None
    full: FullValidation | None = None
    world: World = ALONE
    covered: bool = False


def run(job: Job, on_row: OnRow | None = None, bar: bool = True) -> None:
    """Train to the last step; write the learning curve and the checkpoints.

    Raises
    ------
    InputError
        The loss or a parameter is not finite. No checkpoint is written after that.
    KeyboardInterrupt, SystemExit
        SIGINT or SIGTERM came. The step was finished and a checkpoint written.
    """
    clock = Clock(job.done, job.numb_steps)
    with ExitStack() as stack:
        if job.full:
            stack.enter_context(closing(job.full))
        if job.done:
            log.info("%d of %d steps were done before", job.done, job.numb_steps)
        if job.done == job.numb_steps > 0:
            return
        _train(job, on_row, clock, stack, bar)
    log.info(clock.summary())


def _train(job: Job, on_row: OnRow | None, clock: Clock, stack: ExitStack, bar: bool) -> None:
    """Make the updates; `stack` closes files, threads and handlers."""
    training, world = job.options.training, job.world
    board = ScalarLog(training.tensorboard_log_dir) if training.tensorboard and world.leads else None
    prepare, prepare_validation = (_Shares(job) for _ in range(2))
    curve = stack.enter_context(closing(_open_curve(job))) if training.disp_training and world.leads else None
    pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
    advance = stack.enter_context(progress_bar(clock, job.numb_steps)) if bar and world.leads else lambda step: None
    asked = stack.enter_context(stop_requests())
    following = job.train.frames(job.done)
    upcoming = pool.submit(prepare, following)
    for step in range(job.done + 1, job.numb_steps + 1):
        frames, batch = following, upcoming.result()
        if step < job.numb_steps:  # the next batch is prepared during the update
            following = job.train.frames(step)
            upcoming = pool.submit(prepare, following)
        lr = job.lr(step - 1)
        prefactors = job.prefactors(lr)
        shown = training.disp_training and (step == 1 or step % training.disp_freq == 0)
        logged = training.tensorboard and step % training.tensorboard_freq == 0
        validated = job.full is not None and job.full.due(step)
        with _locate_errors(step, frames):
            _cover(job, step - 1, batch, known=job.covered)
            job.trainer.step(batch, lr, _mask_prefactors(prefactors, batch), step)
            if shown or logged or validated or job.planner.due(step):
                _check_updates(job)
            job.planner.follow(job.trainer, step)
            train = _measure(job, step, batch, prefactors, known=job.covered) if shown or logged else {}
        clock.tick(step)
        if board and logged:
            board.add(step, {**{f"{name}_trn": value for name, value in train.items()}, "lr": lr})
        if shown:
            validation = _measure_validation(job, step, prefactors, prepare_validation)
            if board and validation is not None:
                board.add(step, {f"{name}_val": value for name, value in validation.items()})
            if curve:
                curve.add(lcurve.row(step, train, validation, lr))
            log.info(lcurve.log_line(step, "trn", train, lr))
            if validation is not None:
                log.info(lcurve.log_line(step, "val", validation, None))
            if training.time_training:
                log.info(clock.line(step))
            if on_row:
                on_row(step, train, validation, lr)
        with _locate_errors(step, frames):
            if job.full and validated:
                _validate(job, job.full, step)
            stop, last = _agreed_stop(world, asked()), step == job.numb_steps
            if last or stop is not None or step % training.save_freq == 0:
                _check_updates(job)
                if not train:  # a checkpoint must evaluate: finite parameters may overflow in use
                    _measure(job, step, batch, prefactors, known=job.covered)
                _save(job, step)
        advance(step)
        if stop is not None and not last:
            world.from_leader(None)  # it has saved: torchrun ends all others as soon as one process has ended
            message = f"stopped by {stop.name} after step {step}; to go on: {job.go_on}"
            log.warning(message)
            raise make_stop(stop, message)
    if job.numb_steps == 0:
        _save(job, 0)


def _open_curve(job: Job) -> Rows:
    """Begin the learning curve, with the rows of the training that is continued, if any."""
    place = job.options.training.disp_file
    head, rows = job.others.rows(place, job.done)
    head = head or [lcurve.header(lcurve.columns(job.options.loss), job.validation is not None)]
    return Rows(place, "".join([*head, *rows]), job.others)


class _Shares:
    """Preparation of this process's part of a batch of all processes."""

    def __init__(self, job: Job) -> None:
        self._world, self._prepare = job.world, Preparation(job.content.model, job.options.loss)

    def __call__(self, frames: Frames) -> Batch:
        """Return the part; a process without a part gets a frame of another, with weight 0."""
        share = self._world.share(frames)
        return self._prepare(share) if share else replace(self._prepare(frames[:1]), weight=0.0)


def _cover(job: Job, step: int, batch: Batch, *, known: bool) -> None:
    """Extend the expansions of every process to the shortest distance that any has in its part of a batch.

    `known` : the expansions reach the shortest distance of the data already, so that no process has to ask the others.
    """
    job.planner.cover(job.trainer, batch.closest if known else job.world.smallest(batch.closest), step)


def _agreed_stop(world: World, asked: signal.Signals | None) -> signal.Signals | None:
    """Return the signal that has asked any process to stop, so that all stop after the same step."""
    number = world.largest_before(asked or 0)
    return signal.Signals(number) if number else None


def _check_updates(job: Job) -> None:
    """Raise InputError if the loss of an update was not finite; name the step and its batch."""
    if failure := job.trainer.failure():
        step, loss = failure
        with _locate_errors(step, job.train.frames(step - 1)):
            _check({"loss": loss})


@contextmanager
def _locate_errors(step: int, frames: Frames) -> Iterator[None]:
    """Add the step and its batch to an InputError that does not name them."""
    try:
        yield
    except (Located, PeerError):
        raise
    except InputError as error:
        systems: dict[str, list[str]] = {}
        for system, frame in frames:
            systems.setdefault(system.path, []).append(str(system.number(frame)))
        batch = "; ".join(
            f"frame{'s' * (len(each) > 1)} {', '.join(each[:MOST_NAMED])}{' ...' * (len(each) > MOST_NAMED)} of {path}"
            for path, each in systems.items()
        )
        raise Located(
            f"step {step}: {error}. Batch: {batch}. Training stops; nothing was written since the last checkpoint. "
            "Check the labels for wrong units and outliers, or lower learning_rate/start_lr"
        ) from error


def _mask_prefactors(prefactors: dict[str, float], batch: Batch) -> dict[str, float]:
    """Set the prefactors of terms without a label in a batch to zero."""
    return {term: value if batch.found[term] else 0.0 for term, value in prefactors.items()}


def _check(values: Row) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"the {name} is {value}")


def _measure(job: Job, step: int, batch: Batch, prefactors: dict[str, float], *, known: bool) -> Row:
    """Return the quantities of a row on one batch (`known`: see `_cover`)."""
    _cover(job, step, batch, known=known)
    errors = job.trainer.errors(batch, _mask_prefactors(prefactors, batch))
    columns = job.options.loss.curve_columns()
    _check({"loss": errors["loss"], **{column: errors[term] for term, column in columns.items() if batch.found[term]}})
    return lcurve.row_quantities(job.options.loss, errors, batch.found)


def _measure_validation(job: Job, step: int, prefactors: dict[str, float], prepare: _Shares) -> Row | None:
    """Return the quantities of a row on validation batches, weighted by atoms; None without validation data."""
    if job.validation is None:
        return None
    number = FRACTION_BATCHES if job.options.validation is None else job.options.validation.numb_btch
    first = (step // job.options.training.disp_freq) * number
    total: Row = {}
    atoms = 0.0
    for draw in range(first, first + number):
        frames = job.validation.frames(draw)
        batch = prepare(frames)
        weight = sum(np.count_nonzero(system.types_of(frame) >= 0) for system, frame in frames) / len(frames)
        with _locate_errors(step, frames):
            values = _measure(job, step, batch, prefactors, known=False)
        total = {name: total.get(name, 0.0) + weight * value for name, value in values.items()}
        atoms += weight
    return {name: value / atoms for name, value in total.items()}


def _validate(job: Job, full: FullValidation, step: int) -> None:
    content, progress = _state(job, step, job.trainer.params())

    def save(prefix: Path) -> str:
        job.others.move()
        return job.trainer.save(prefix, content, progress)

    full(step, content, save)


def _save(job: Job, step: int) -> None:
    params = job.trainer.params()
    if job.finish and step == job.numb_steps:
        params = job.finish(params)
    content, progress = _state(job, step, params)
    if not job.world.leads:
        return
    training, prefix = job.options.training, prefix_of(job.options)
    job.others.move()
    name = job.trainer.save(prefix, content, progress)
    keep = training.max_ckpt_keep
    if training.ckpt_keep_ratio is not None:
        keep = math.ceil(training.ckpt_keep_ratio * math.ceil(job.numb_steps / training.save_freq))
    announce(job.backend, prefix, name, step, keep, Path(training.save_ckpt))
    log.info("Saved model to %s", prefix.with_name(name))


def _state(job: Job, step: int, params: Params) -> tuple[ModelFile, Progress]:
    """Return the content of a checkpoint; raise InputError unless parameters and moments are finite."""
    check_finite(params, "parameters")
    content = job.content.with_params(params).with_distance(job.planner.closest)
    return content, Progress(step, job.seed, job.trainer.moments(), job.planner.terms)

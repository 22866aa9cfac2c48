"""Full validation: errors over all validation frames at intervals, and checkpoints of the best models.

Options and files: docs/input.md#full-validation.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from deepmd.adapters.contracts import checkpoint_module, evaluate_module
from deepmd.adapters.frames import FramesEvaluator
from deepmd.array_model.errors import InputError
from deepmd.array_model.outputs import ENERGY
from deepmd.data.prediction_errors import (
    QUANTITIES,
    MeanErrors,
    average_errors,
    compare,
    errors_of,
    join_errors,
    labels_of,
)
from deepmd.data.systems import System
from deepmd.io.model_file import ModelFile
from deepmd.io.train_input import TrainInput
from deepmd.losses import EnerLoss
from deepmd.train.other_training import OtherTraining, Rows
from deepmd.world import ALONE, World

log = logging.getLogger(__name__)

METRICS = {
    "E": ("energy/natoms", "e", "meV/atom"),
    "F": ("force", "f", "meV/Å"),
    "S": ("stress", "v", "meV/Å³"),
    "V": ("virial/natoms", "v", "meV/atom"),
}
"""{metric: (name in `QUANTITIES`, term of the loss that must be on, unit in the log)}."""

MOST_ATOMS = 1024
"""Most atoms of frames that are evaluated together."""

RUN_ATOMS = 2**16
"""Atoms of the frames whose labels and predictions are in memory together."""


def full_errors(
    content: ModelFile, backend: str, systems: Sequence[System], metrics: Iterable[str], world: World = ALONE
) -> dict[str, float]:
    """Return `METRIC:MAE` and `METRIC:RMSE` over all frames of systems, as `dp test` averages them; eV and Angstrom.

    NaN where no system has labels. The processes of `world` share the systems out.
    """
    names = {metric: METRICS[metric][0] for metric in metrics}
    outputs = {QUANTITIES[name].output for name in names.values()}
    make = evaluate_module(backend).evaluator
    evaluate = FramesEvaluator(make, content, MOST_ATOMS)
    found = []
    for system in systems[world.rank :: world.size]:
        size = max(1, RUN_ATOMS // system.num_atoms)
        runs = [
            _errors_of_run(evaluate, system, slice(first, first + size), outputs)
            for first in range(0, system.num_frames, size)
        ]
        found.append((system.num_frames, join_errors(runs)))
    average = average_errors([each for share in world.gather(found) for each in share])
    return {
        f"{metric}:{kind}": value
        for metric, name in names.items()
        for kind, value in zip(("MAE", "RMSE"), average.get(name, (math.nan, math.nan)), strict=True)
    }


def _errors_of_run(
    evaluate: FramesEvaluator, system: System, run: slice, outputs: set[str]
) -> tuple[dict[str, int], MeanErrors]:
    """Return the errors of consecutive frames, and the numbers of frames or atoms they are means of."""
    label = labels_of(ENERGY, {name: values[run] for name, values in system.data.items()})
    label = {name: each for name, each in label.items() if name in outputs}
    if not label:
        return {}, {}
    frames = [(system, frame) for frame in range(system.num_frames)[run]]
    predicted = evaluate(frames, frozenset(label))
    for name, values in predicted.items():
        bad = run.start + np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
        if len(bad):
            raise InputError(
                f"full validation: {name} is NaN or infinite in frames {bad[0]} to {bad[-1]} of {system.path}"
            )
    real = np.array([system.types_of(frame) >= 0 for _, frame in frames])
    pairs = compare(label, predicted, real, None if system.cell is None else system.cell[run])
    sizes = {name: int(real.sum()) if each.ndim == 3 else len(frames) for name, (each, _) in pairs.items()}
    return sizes, errors_of(pairs, real)


class FullValidation:
    """Schedule, log and best checkpoints of the full validation of a training.

    Parameters
    ----------
    options : the input; the loss must have the term of the metric
    systems : validation systems
    backend : the backend that trains
    numb_steps, done : steps in all, and steps finished before; log rows after step `done` are dropped
    others : files of another training, one of which may be in the place of the log
    world : the processes that train together; the first writes
    """

    def __init__(
        self,
        options: TrainInput,
        systems: Sequence[System],
        backend: str,
        numb_steps: int,
        done: int,
        others: OtherTraining,
        world: World,
    ) -> None:
        section, loss = options.validating, options.loss
        self._metric = section.validation_metric.upper()
        if not isinstance(loss, EnerLoss):
            raise InputError(
                f"validating/full_validation: energies, forces and virials only; the loss is of type {loss.kind!r}"
            )
        if not systems:
            raise InputError("validating/full_validation: needs training/validation_data")
        _, term, self._unit = METRICS[self._metric[0]]
        if term not in loss.terms():
            raise InputError(
                f"validating/validation_metric: {self._metric} needs start_pref_{term} or limit_pref_{term} "
                "of the loss to be positive"
            )
        virial = "V" if self._metric[0] == "V" else "S"
        self._metrics = [metric for metric in ("E", "F", virial) if METRICS[metric][1] in loss.terms()]
        self._options, self._systems, self._backend, self._world = section, systems, backend, world
        self._endings = checkpoint_module(backend).ENDINGS
        self._begin = _begin(section.full_val_start, numb_steps)
        self._folder = Path(section.save_best_dir or ".")
        self._rows: Rows | None = None
        self._known = self._open(done, others) if world.leads else {}

    def due(self, step: int) -> bool:
        """Return whether to validate after this step."""
        return step >= self._begin and step % self._options.validation_freq == 0

    def __call__(self, step: int, content: ModelFile, save: Callable[[Path], str]) -> dict[str, float]:
        """Validate; `save(prefix)` writes the checkpoint `PREFIX-STEP`.

        A prediction that is not finite is an error before anything is written.
        """
        errors = full_errors(content, self._backend, self._systems, self._metrics, self._world)
        if self._rows is None:
            return errors
        self._rows.add(f"{step:7d}" + "".join(f" {1e3 * value:14.6e}" for value in errors.values()) + "\n")
        parts = (f"{name} = {1e3 * value:.4g} {METRICS[name[0]][2]}" for name, value in errors.items())
        log.info("full validation at step %d: %s", step, ", ".join(parts))
        value = errors[self._metric]
        if self._options.save_best and math.isfinite(value):
            self._keep(step, value, save)
        return errors

    def close(self) -> None:
        """Close the log."""
        if self._rows is not None:
            self._rows.close()

    def _open(self, start: int, others: OtherTraining) -> dict[int, float]:
        """Begin the log, with the rows of the continued training; return {step: metric} of the best checkpoints."""
        names = [f"{metric}:{kind}" for metric in self._metrics for kind in ("MAE", "RMSE")]
        head = "# step " + " ".join(f"{name.replace(':', '_')}({METRICS[name[0]][2]})" for name in names) + "\n"
        path = self._options.full_val_file
        rows = others.rows(path, start)[1]
        try:
            self._rows = Rows(path, head + "".join(rows), others)
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"validating/full_val_file: {path} cannot be used: {error}") from error
        column = 1 + names.index(self._metric)
        cells = [cells for cells in map(str.split, rows) if len(cells) > column]
        values = {int(each[0]): float(each[column]) / 1e3 for each in cells}
        self._before = others.continued(self._folder)
        return self._there(values, self._before)

    def _there(self, values: dict[int, float], folders: Sequence[Path]) -> dict[int, float]:
        """Return the metrics of the best checkpoints that exist in the folders."""
        best = {step for folder in folders for step in self._present(folder)}
        return {step: value for step, value in values.items() if step in best}

    def _present(self, folder: Path) -> dict[int, str]:
        """Return the names of the best checkpoints in a folder by step."""
        matches = [re.fullmatch(r"(best\.ckpt-(\d+)\.t-\d+)(\..*)", path.name) for path in folder.glob("best.ckpt-*")]
        return {int(match[2]): match[1] for match in matches if match and match[3] == self._endings[-1]}

    def _keep(self, step: int, value: float, save: Callable[[Path], str]) -> None:
        """Save the model if it is among the best, remove models that drop out, and rename by rank."""
        values = {**self._there(self._known, [*self._before, self._folder]), step: value}
        best = dict(sorted(values.items(), key=lambda item: item[1])[: self._options.max_best_ckpt])
        if step not in best:
            return
        save(self._folder / "best.ckpt")  # moves files of another training first
        known = {each: name for each, name in self._present(self._folder).items() if each in self._known}
        names = {**known, step: f"best.ckpt-{step}"}  # present names of checkpoints in this folder
        for old in [each for each in names if each not in best]:
            self._remove(names[old])
        for rank, each in enumerate(best, 1):
            if each in names:
                self._rename(names[each], f"best.ckpt-{each}.t-{rank}")
        self._known = best
        text = "Saved best model to best.ckpt-%d with %s = %.4g %s"
        log.info(text, step, self._metric, 1e3 * value, self._unit)

    def _remove(self, name: str) -> None:
        for ending in reversed(self._endings):
            (self._folder / f"{name}{ending}").unlink(missing_ok=True)

    def _rename(self, old: str, new: str) -> None:
        for ending in self._endings:
            if old != new and (self._folder / f"{old}{ending}").exists():
                (self._folder / f"{old}{ending}").replace(self._folder / f"{new}{ending}")


def _begin(start: float, numb_steps: int) -> float:
    """Return the first step of validation: `start` below 1 is a fraction of all steps, 1 means no validation."""
    if start < 1.0:
        return start * numb_steps
    return math.inf if start == 1.0 else int(start)

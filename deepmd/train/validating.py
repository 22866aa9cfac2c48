"""Full validation: now and then the errors over all validation frames, and checkpoints of the best models (section `validating`)."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deepmd.adapters.evaluation import ExactEvaluator
from deepmd.array_model.errors import InputError
from deepmd.data.batch import make_batch
from deepmd.data.systems import System
from deepmd.io.formats import framework
from deepmd.io.model_file import ModelFile, planned
from deepmd.io.sections import ValidatingSection
from deepmd.losses import EnerLoss
from deepmd.train.others import Others, Rows

log = logging.getLogger(__name__)

UNITS = {"E": "meV/atom", "F": "meV/Å", "S": "meV/Å³", "V": "meV/atom"}
TERMS = {"E": "e", "F": "f", "S": "v", "V": "v"}
"""The term of the loss that must be on for a metric."""

OUTPUTS = {"E": "energy", "F": "force", "S": "virial", "V": "virial"}
ATOMS = 1024
"""Atoms that are evaluated at once."""

Errors = dict[str, float]


def full_errors(
    content: ModelFile, backend: str, systems: Sequence[System], loss: EnerLoss, quantities: Sequence[str]
) -> Errors:
    """Return mean absolute and root mean square errors over all frames of systems, as `dp test` averages them.

    `E` and `V` are per atom, `F` counts components, `S` is virial by volume; eV and Angstrom. NaN where no system has
    labels.

    Raises
    ------
    InputError
        A prediction is not finite.
    """
    model, params, _ = planned(content)
    evaluate = ExactEvaluator(framework(f"deepmd.adapters.{backend}.evaluate", backend).evaluator, model, params)
    wanted = frozenset(OUTPUTS[quantity] for quantity in quantities)
    rows: dict[str, list[tuple[int, float, float]]] = {quantity: [] for quantity in quantities}
    for system in systems:
        sums: dict[str, list[float]] = {quantity: [0.0, 0.0, 0.0] for quantity in quantities}
        size = max(1, ATOMS // system.num_atoms)
        for first in range(0, system.num_frames, size):
            frames = [(system, frame) for frame in range(first, min(first + size, system.num_frames))]
            batch = make_batch(model, loss, frames)
            out = evaluate.at(batch.closest)(
                batch.pairs, batch.conditions, len(batch.pairs.type_N), len(frames), wanted
            )
            for quantity in quantities:
                if not batch.found.get(TERMS[quantity], False) or (quantity == "S" and system.cell is None):
                    continue
                name = OUTPUTS[quantity]
                difference = np.asarray(out[name]).reshape(batch.labels[name].shape) - batch.labels[name]
                if not np.all(np.isfinite(difference)):
                    raise InputError(
                        f"full validation: {name} is NaN or infinite in frames {first} to {first + len(frames) - 1} of {system.path}"
                    )
                if quantity in "EV":
                    difference = difference / batch.natoms_F.reshape(-1, *(1,) * (difference.ndim - 1))
                if quantity == "S" and system.cell is not None:
                    difference = (
                        difference / np.abs(np.linalg.det(system.cell[[frame for _, frame in frames]]))[:, None]
                    )
                sums[quantity] = [
                    a + float(b)
                    for a, b in zip(
                        sums[quantity], (difference.size, np.abs(difference).sum(), (difference**2).sum()), strict=True
                    )
                ]
        for quantity, (number, absolute, square) in sums.items():
            if number:
                rows[quantity].append((system.num_frames, absolute / number, square / number))
    out_: Errors = {}
    for quantity, found in rows.items():
        total = sum(frames for frames, _, _ in found)
        out_[f"{quantity}:MAE"] = sum(frames * mae for frames, mae, _ in found) / total if total else math.nan
        out_[f"{quantity}:RMSE"] = (
            math.sqrt(sum(frames * square for frames, _, square in found) / total) if total else math.nan
        )
    return out_


class FullValidation:
    """Decides when to validate, writes the log, and keeps the best checkpoints.

    Parameters
    ----------
    options : section `validating`
    loss : the loss; the metric's term must be on
    systems : validation systems
    backend : the backend that trains
    numb_steps, start : steps in all, and finished before; rows of later steps are dropped
    endings : of the files of a checkpoint
    others : files of another training, in whose place the log may be

    Raises
    ------
    InputError
        There are no validation data, or the loss lacks the term of the metric.
    """

    def __init__(
        self,
        options: ValidatingSection,
        loss: EnerLoss,
        systems: Sequence[System],
        backend: str,
        numb_steps: int,
        start: int,
        endings: Sequence[str],
        others: Others,
    ) -> None:
        self._metric = options.validation_metric.upper()
        if not systems:
            raise InputError("validating/full_validation: needs training/validation_data")
        if TERMS[self._metric[0]] not in loss.terms():
            term = TERMS[self._metric[0]]
            raise InputError(
                f"validating/validation_metric: {self._metric} needs start_pref_{term} or limit_pref_{term} of the loss to be positive"
            )
        virial = "V" if self._metric[0] == "V" else "S"
        self._quantities = [quantity for quantity in ("E", "F", virial) if TERMS[quantity] in loss.terms()]
        self._options, self._loss, self._systems, self._backend, self._endings = (
            options,
            loss,
            systems,
            backend,
            tuple(endings),
        )
        self._begin = _begin(options.full_val_start, numb_steps)
        self._folder = Path(options.save_best_dir or ".")
        self._known = self._open(start, others)

    def due(self, step: int) -> bool:
        """Return whether to validate after this step."""
        return step >= self._begin and step % self._options.validation_freq == 0

    def __call__(self, step: int, content: ModelFile, save: Callable[[Path], str]) -> Errors:
        """Validate; `save(prefix)` writes the checkpoint `PREFIX-STEP`.

        Raises
        ------
        InputError
            A prediction is not finite; nothing is written.
        """
        errors = full_errors(content, self._backend, self._systems, self._loss, self._quantities)
        self._rows.add(f"{step:7d}" + "".join(f" {1e3 * value:14.6e}" for value in errors.values()) + "\n")
        log.info(
            "full validation at step %d: %s",
            step,
            ", ".join(f"{name} = {1e3 * value:.4g} {UNITS[name[0]]}" for name, value in errors.items()),
        )
        value = errors[self._metric]
        if self._options.save_best and math.isfinite(value):
            self._keep(step, value, save)
        return errors

    def close(self) -> None:
        """Close the log."""
        self._rows.close()

    def _open(self, start: int, others: Others) -> dict[int, float]:
        """Begin the log, or go on with that of an earlier run; return the metric of the best checkpoints so far."""
        names = [f"{quantity}:{kind}" for quantity in self._quantities for kind in ("MAE", "RMSE")]
        head = "# step " + " ".join(f"{name.replace(':', '_')}({UNITS[name[0]]})" for name in names) + "\n"
        path = self._options.full_val_file
        rows = others.rows(path, start)[1]
        try:
            self._rows = Rows(path, head + "".join(rows), others)
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"validating/full_val_file: {path} cannot be used: {error}") from error
        column = 1 + names.index(self._metric)
        values = {
            int(line.split()[0]): float(line.split()[column]) / 1e3 for line in rows if len(line.split()) > column
        }
        self._before = others.continued(self._folder)
        return self._there(values, self._before)

    def _there(self, values: dict[int, float], folders: Sequence[Path]) -> dict[int, float]:
        """Return the metrics of those best checkpoints that are in the folders."""
        best = {step for folder in folders for step in self._present(folder)}
        return {step: value for step, value in values.items() if step in best}

    def _present(self, folder: Path) -> dict[int, str]:
        """Return the names of the best checkpoints in a folder by step."""
        matches = [re.fullmatch(r"(best\.ckpt-(\d+)\.t-\d+)(\..*)", path.name) for path in folder.glob("best.ckpt-*")]
        return {int(match[2]): match[1] for match in matches if match and match[3] == self._endings[-1]}

    def _keep(self, step: int, value: float, save: Callable[[Path], str]) -> None:
        """Save the model if it is among the best; ranks in the names follow."""
        ranked = sorted(
            {**self._there(self._known, [*self._before, self._folder]), step: value}.items(), key=lambda item: item[1]
        )[: self._options.max_best_ckpt]
        if step not in dict(ranked):
            return
        save(self._folder / "best.ckpt")  # moves files of another training first
        names = {
            each: name for each, name in self._present(self._folder).items() if each in self._known
        }  # others are elsewhere, or gone
        names[step] = f"best.ckpt-{step}"
        for old in [each for each in names if each not in dict(ranked)]:
            self._remove(names[old])
        for rank, (each, _) in enumerate(ranked, 1):
            if each in names:
                self._rename(names[each], f"best.ckpt-{each}.t-{rank}")
        self._known = dict(ranked)
        log.info(
            "Saved best model to best.ckpt-%d with %s = %.4g %s",
            step,
            self._metric,
            1e3 * value,
            UNITS[self._metric[0]],
        )

    def _remove(self, name: str) -> None:
        for ending in reversed(self._endings):
            (self._folder / f"{name}{ending}").unlink(missing_ok=True)

    def _rename(self, old: str, new: str) -> None:
        for ending in self._endings:
            if old != new and (self._folder / f"{old}{ending}").exists():
                (self._folder / f"{old}{ending}").replace(self._folder / f"{new}{ending}")


def _begin(start: float, numb_steps: int) -> float:
    """First step of validation: a part of all steps below 1, none at 1, a step above."""
    if start < 1.0:
        return start * numb_steps
    return math.inf if start == 1.0 else int(start)

"""One call from data or an input to a trained model: `deepmd.train(...)`, which returns a `Result`.

Command line: `dp init`, `dp train`, `dp test`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.label_keys import LabelKeys
from deepmd.infer import DeepEval, measure_errors
from deepmd.io.atomic import write_text
from deepmd.io.train_input import read_json
from deepmd.logs import show_log
from deepmd.report.curves import plot_lcurve, read_lcurve
from deepmd.train.checkpoints import locate
from deepmd.train.draft import draft_input
from deepmd.train.main import freeze
from deepmd.train.main import train as run_training
from deepmd.train.places import OUTPUT

INPUT = "input.json"
"""File of the input that is made for data, in the folder of the training."""

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """A training that has ended.

    Attributes
    ----------
    folder : folder of the training
    input : the input with all defaults
    checkpoint : the newest checkpoint
    interrupted : whether Ctrl-C ended the training before its last step
    """

    folder: Path
    input: dict[str, Any] = field(repr=False)
    checkpoint: Path
    interrupted: bool = False

    @cached_property
    def model(self) -> DeepEval:
        """The trained model: a `DeepPot`, or its relative for what the model predicts."""
        return DeepEval(self.checkpoint)

    @cached_property
    def lcurve(self) -> np.recarray[Any, Any]:
        """The learning curve: a record array with the columns of `lcurve.out` (`step`, `rmse_e_trn`, ..., `lr`)."""
        columns = read_lcurve(self.folder / self.input["training"]["disp_file"])
        return np.rec.fromarrays(list(columns.values()), dtype=[(name, np.float64) for name in columns])

    @cached_property
    def errors(self) -> dict[str, dict[str, float]]:
        """Errors of the model on all validation data, without any on the training data, as `dp test` has them.

        `errors["force"]["rmse"]`, eV/Å; `errors["energy/natoms"]["mae"]`, eV; `virial/natoms`, `stress`, ...
        """
        section = self.input["training"]
        validated = "validation_data" in section or section["training_data"].get("validation_fraction")
        with contextlib.chdir(self.folder), _quiet():
            if validated:
                found = measure_errors(self.checkpoint, valid_data=OUTPUT)
            else:
                found = measure_errors(self.checkpoint, train_data=OUTPUT)
        return {name: {"mae": mae, "rmse": rmse} for name, (mae, rmse) in found.items()}

    def freeze(self, path: PathLike) -> Path:
        """Write the model as a model file, whose suffix decides the format, and return the path."""
        return freeze(str(self.checkpoint), str(path))

    def plot(self, path: PathLike | None = None) -> Path:
        """Draw the learning curve; return the path of the picture, by default `lcurve.png` in the folder."""
        path = Path(path or self.folder / "lcurve.png")
        plot_lcurve(self.folder / self.input["training"]["disp_file"], path)
        return path


def train(
    input: PathLike | Mapping[str, Any] | None = None,
    *,
    data: PathLike | Sequence[PathLike] | None = None,
    validation: float | PathLike | Sequence[PathLike] | None = None,
    descriptor: str = "se_e2_a",
    size: str = "small",
    steps: int | None = None,
    seed: int = 1,
    keys: Mapping[str, str] | None = None,
    backend: str | None = None,
    folder: PathLike | None = None,
    restart: str | None = None,
    quiet: bool = False,
) -> Result:
    """Train a model from an input, or from data alone with the input that `dp init` would write.

    Parameters
    ----------
    input : input.json, or its content as a dict; instead of `data`
    data : folder that is searched for systems, file with systems, or a list of them
    validation : share of the frames that is held out, or data. Default: a tenth
    descriptor : "se_e2_a", "se_e2_r", "dpa1", "dpa2" or "dpa3"
    size : "small", "medium" or "large": nets and length of the training
    steps : updates; default: as the size says
    seed : of weights, batches and held-out frames
    keys : names of the labels in files that ASE reads, where several fit: {"energy": "REF_energy", "force": ...}
    backend : "torch" or "tf"; default: as for `dp train`
    folder : folder in which the training runs, as if `dp train` were started there: paths in an input are relative to
        it, and all files are written to it. Default: with `input` the current folder; with `data` a new folder
        `training`, or `training-2`, ... if there is one. The current folder of the process is changed meanwhile
    restart : checkpoint to continue, or "auto" for the newest in the folder
    quiet : leave out the log and the bar

    Returns
    -------
    The `Result`. After Ctrl-C it holds the checkpoint of the last step that was made (`interrupted`).

    Raises
    ------
    InputError
        The arguments, the input or the data are wrong.
    KeyboardInterrupt
        Ctrl-C came before the first step.

    Examples
    --------
    >>> result = deepmd.train(data="examples/water/data", steps=2000, backend="torch")
    >>> result.errors["force"]["rmse"], result.lcurve.rmse_f_val[-1], result.freeze("water.pth")
    """
    if (input is None) == (data is None):
        raise InputError("train: give an input, or data=..., one of the two")
    place = Path(folder) if folder is not None else Path.cwd() if data is None else _new_folder()
    with contextlib.ExitStack() as stack:
        if not quiet and not logging.getLogger("deepmd").hasHandlers():
            stack.enter_context(show_log())
        if data is not None:
            held_out = (
                validation if validation is None or isinstance(validation, int | float) else _absolute(validation)
            )
            choices: dict[str, Any] = {"descriptor": descriptor, "size": size, "steps": steps, "seed": seed}
            choices["keys"] = LabelKeys(**(keys or {}))
            draft = draft_input(_absolute(data), validation=held_out, **choices)
            draft.log()
            input = draft.tree
        place.mkdir(parents=True, exist_ok=True)
        if isinstance(input, Mapping):
            write_text(place / INPUT, json.dumps(input, indent=4, ensure_ascii=False) + "\n")
            path = place / INPUT
        else:
            path = Path(input)  # type: ignore[arg-type]
        path = path.absolute()
        stack.enter_context(contextlib.chdir(place))
        interrupted = False
        try:
            run_training(path, backend=backend, restart=restart, bar=not quiet)
        except KeyboardInterrupt as stop:
            if not stop.args:  # raised before the loop, which names the checkpoint
                raise
            interrupted = True
        tree = read_json(OUTPUT)
        checkpoint = locate(tree["training"]["save_ckpt"], backend).absolute()
    return Result(place.absolute(), tree, checkpoint, interrupted)


def _new_folder() -> Path:
    names = itertools.chain(["training"], (f"training-{number}" for number in itertools.count(2)))
    return next(path for path in map(Path, names) if not path.exists())


def _absolute(data: PathLike | Sequence[PathLike]) -> str | list[str]:
    """Return paths that hold in any folder; names of groups (`file.hdf5#/group`) are kept."""
    if isinstance(data, str | os.PathLike):
        return str(Path(data).absolute())
    return [str(Path(path).absolute()) for path in data]


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the lines of `dp test`."""
    logger = logging.getLogger("deepmd.infer.error_report")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before

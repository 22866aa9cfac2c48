"""`lcurve.out` and the log lines of a training (spec formats, section 3.7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from deepmd.array_model.errors import InputError
from deepmd.io.atomic import is_stream
from deepmd.losses import Loss

NOTE = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"


def columns(loss: Loss) -> list[str]:
    """Return the names of the quantities of a row, sorted: `rmse` if the loss shows it, then one per term."""
    return [*(["rmse"] if loss.shows_total else []), *sorted(loss.columns().values())]


def displayed(loss: Loss, errors: dict[str, float], found: dict[str, bool]) -> dict[str, float]:
    """Return the quantities of a row from the means of a batch; NaN where the data have no label."""
    out = {"rmse": math.sqrt(errors["loss"]) if errors["loss"] >= 0.0 else math.nan}
    for term, name in loss.columns().items():
        value = math.sqrt(errors[term]) if loss.is_square(term) and errors[term] >= 0.0 else errors[term]
        out[name] = value if found[term] else math.nan
    return {name: out[name] for name in columns(loss)}


def header(names: Sequence[str], with_validation: bool) -> str:
    """Return the two header lines."""
    text = "# {:5s}".format("step")
    for name in names:
        text += f"   {name + '_val':>11s} {name + '_trn':>11s}" if with_validation else f"   {name + '_trn':>11s}"
    return text + "   {:8s}\n".format("lr") + NOTE


def row(step: int, train: dict[str, float], validation: dict[str, float] | None, lr: float) -> str:
    """Return one row."""
    text = f"{step:7d}"
    for name, value in train.items():
        text += f"   {value:11.2e}" if validation is None else f"   {validation[name]:11.2e} {value:11.2e}"
    return text + f"   {lr:8.1e}\n"


def log_line(step: int, kind: str, values: dict[str, float], lr: float | None) -> str:
    """Return the log line of one side of a row."""
    parts = [f"{name} = {value:8.2e}" for name, value in values.items()]
    return f"Batch {step:7d}: {kind}: " + ", ".join(parts + ([] if lr is None else [f"lr = {lr:8.2e}"]))


def beginning(path: str, names: Sequence[str], with_validation: bool, after_step: int) -> str:
    """Return what the file begins with: the header, after a restart with the rows up to its step.

    Raises
    ------
    InputError
        The file is there and no text.
    """
    head, file = header(names, with_validation), Path(path)
    if after_step == 0 or not file.is_file() or is_stream(path):
        return head
    try:
        old = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise InputError(f"training/disp_file: {path} is no learning curve: it is no text") from error
    kept = "".join(line for line in old if _step(line) <= after_step and line.endswith("\n"))
    return ("".join(line for line in old if line.startswith("#")) or head) + kept


def _step(line: str) -> float:
    """Step of a row; infinity for what is not a row."""
    try:
        return int(line.split()[0])
    except (ValueError, IndexError):
        return math.inf

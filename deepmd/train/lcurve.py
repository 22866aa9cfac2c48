"""`lcurve.out` and the log lines of a training (docs/input.md#learning-curve)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deepmd.losses import Loss

NOTE = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"


def columns(loss: Loss) -> list[str]:
    """Return the names of the quantities of a row, sorted: `rmse` if the loss shows it, then one per term."""
    return [*(["rmse"] if loss.shows_total else []), *sorted(loss.curve_columns().values())]


def row_quantities(loss: Loss, errors: dict[str, float], found: dict[str, bool]) -> dict[str, float]:
    """Return the quantities of a row from the means of a batch; NaN where the data have no label."""
    out = {"rmse": math.sqrt(errors["loss"]) if errors["loss"] >= 0.0 else math.nan}
    for term, name in loss.curve_columns().items():
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

"""Learning curves: `dp plot lcurve.out` (docs/commands.md#pictures)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.report.libraries import COLOURS, check_picture, new_figure, save_figure, tidy

TITLES = {
    "e": ("energy", "meV/atom", 1e3),
    "f": ("force", "eV/Å", 1.0),
    "v": ("virial", "meV/atom", 1e3),
    "ae": ("atomic energy", "eV", 1.0),
    "pf": ("weighted force", "eV/Å", 1.0),
}
"""Name, unit and factor of the quantities of `lcurve.out`; of others the name of the column is shown."""

SIDES = {"val": "validation", "tst": "validation", "trn": "training batch"}
"""Endings of columns; `tst` is that of DeePMD-kit before 1.3."""


@dataclass(frozen=True)
class Curve:
    """Errors of a quantity.

    Attributes
    ----------
    title : of the axis, with the unit
    sides : values at the steps by "validation" and "training batch", NaN where the data have no label
    """

    title: str
    sides: dict[str, np.ndarray]


def read_lcurve(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the columns of an `lcurve.out` by name, `step` first and `lr` last.

    Raises
    ------
    InputError
        The file cannot be read, or is no learning curve, or has no rows yet.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no learning curve: not a text file") from error
    except OSError as error:
        raise InputError(f"{path}: the learning curve cannot be read: {error.strerror}") from error
    head = next((line.lstrip("#").split() for line in lines if line.startswith("#")), [])
    if len(head) < 2 or head[-1] != "lr":
        raise InputError(
            f"{path}: is no learning curve; accepted: lcurve.out, whose first line is '# step ... lr' "
            "(training/disp_file of the input)"
        )
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if not rows:
        raise InputError(f"{path}: has no rows yet; the first one comes after the first step")
    for number, row in rows:
        if len(row) != len(head):
            raise InputError(f"{path}, line {number}: has {len(row)} columns, and the header has {len(head)}")
    try:
        values = np.array([row for _, row in rows], dtype=float)
    except ValueError as error:
        raise InputError(f"{path}: holds something else than numbers: {error}") from error
    return {"step" if k == 0 else name: values[:, k] for k, name in enumerate(head)}


def curves_of(columns: dict[str, np.ndarray]) -> Iterator[Curve]:
    """Yield the errors in the order energy, force, virial, others; without those that have no label at all.

    `rmse`, the root of the loss, comes last, because its unit changes with the prefactors.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, values in columns.items():
        quantity, _, ending = name.rpartition("_")
        if ending in SIDES and np.isfinite(values).any():
            found.setdefault(quantity, {})[SIDES[ending]] = values
    for quantity in sorted(found, key=_rank):
        kind, _, short = quantity.partition("_")
        title, unit, factor = TITLES.get(short, (short, "", 1.0))
        name = f"{kind.upper()} of {title}" if short else "root of the loss"
        sides = {side: values * factor for side, values in found[quantity].items()}
        yield Curve(name + (f", {unit}" if unit else ""), sides)


def _rank(quantity: str) -> tuple[int, str]:
    short, order = quantity.partition("_")[2], list(TITLES)
    return (order.index(short) if short in order else len(order) + (not short)), quantity


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Return the running median over `width` rows, fewer at the ends; rows without a label stay NaN."""
    half = width // 2
    windows = (values[max(k - half, 0) : k + half + 1] for k in range(len(values)))
    return np.array([np.nanmedian(window) if np.isfinite(window).any() else np.nan for window in windows])


def smoothing_width(rows: int) -> int:
    """Return the rows of the running median: a twentieth of the curve, 1 (none) for curves of less than 40 rows."""
    return rows // 20 | 1 if rows >= 40 else 1


def plot_lcurve(path: str | os.PathLike[str], out: str | os.PathLike[str] = "lcurve.png") -> None:
    """Draw the errors and the learning rate of a learning curve against the steps.

    Parameters
    ----------
    path : `lcurve.out` of this package or of DeePMD-kit
    out : picture to write; the suffix says whether .png, .pdf or .svg
    """
    check_picture(out, path)
    columns = read_lcurve(path)
    curves, step = list(curves_of(columns)), columns["step"]
    panels = len(curves) + 1
    wide = min(panels, 3) if panels != 4 else 2
    high = -(-panels // wide)
    figure = new_figure(4.3 * wide, 3.1 * high)
    axes = figure.subplots(high, wide, squeeze=False).ravel()
    width = smoothing_width(len(step))
    for axis, curve in zip(axes, curves, strict=False):
        for side, values in curve.sides.items():
            colour = COLOURS[side == "training batch"]
            thin = width > 1
            axis.plot(step, values, lw=0.7 if thin else 1.4, alpha=0.3 if thin else 1, color=colour)
            axis.plot(step, smooth(values, width), lw=1.8, color=colour, label=side)
        axis.set(ylabel=curve.title, xlabel="step", yscale="log")
        _label_ticks(axis)
        tidy(axis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    rate = axes[len(curves)]
    rate.plot(step, columns["lr"], color=COLOURS[2], lw=1.8)
    rate.set(ylabel="learning rate", xlabel="step", yscale="log")
    tidy(rate)
    for axis in axes[panels:]:
        axis.set_visible(False)
    note = f"; bold: running median of {width} rows" if width > 1 else ""
    figure.suptitle(f"{path}{note}", fontsize="small", color="#555555")
    save_figure(figure, out)


def _label_ticks(axis: Any) -> None:
    """Label ticks of a logarithmic axis as plain numbers: 1, 2 and 5 of each decade, and all if it spans less than one.

    matplotlib labels powers of ten, of which an axis of errors may have none.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high > 10 * low else range(1, 10)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())

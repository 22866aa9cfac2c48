"""Predictions against labels as a picture: `dp test --plot` (docs/commands.md#pictures)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.infer.error_report import Comparison
from deepmd.report.libraries import COLOURS, new_figure, save_figure, tidy
from deepmd.report.panels import (
    Panel,
    Series,
    bins,
    limits,
    number_text,
    panels_of,
    rmse,
    short_names,
    thin,
    worst_frames,
)

MOST_POINTS = 20_000
"""Points of a colour that are drawn: more take seconds and show no more."""

NAMED = 3
"""Worst frames below the picture."""


def plot_parity(comparisons: Sequence[Comparison], out: str | os.PathLike[str], model: str = "") -> None:
    """Draw predictions against labels and histograms of the errors, and name the worst frames.

    Parameters
    ----------
    comparisons : labels and predictions of systems, as `measure_errors` hands them to `on_system`
    out : picture to write; the suffix says whether .png, .pdf or .svg
    model : what the title calls the model
    """
    panels = panels_of(comparisons)
    figure = new_figure(max(4.2 * len(panels), 6.0), 6.9)
    axes = figure.subplots(2, len(panels), squeeze=False, height_ratios=(1.6, 1))
    for (upper, lower), panel in zip(axes.T, panels, strict=True):
        _draw_parity(upper, panel)
        _draw_histogram(lower, panel)
    frames, systems = sum(len(each.frames) for each in comparisons), len(comparisons)
    figure.suptitle(f"{model}{' on ' if model else ''}{_plural(frames, 'frame')} of {_plural(systems, 'system')}")
    if lines := worst_lines(comparisons):
        figure.supxlabel("\n".join(["worst frames", *lines]), fontsize="small", color="#444444", linespacing=1.5)
    save_figure(figure, out)


def worst_lines(comparisons: Sequence[Comparison], number: int = NAMED) -> list[str]:
    """Return a line for each of the worst frames: system, frame, errors, and the atom with the largest one."""
    names = dict(
        zip([each.path for each in comparisons], short_names([each.path for each in comparisons]), strict=True)
    )
    lines = []
    for frame in worst_frames(comparisons, number):
        parts = [f"{names[frame.path]}, frame {frame.frame}:"]
        if np.isfinite(frame.energy):
            parts.append(f"energy off by {number_text(frame.energy)} meV/atom,")
        if np.isfinite(frame.force):
            parts.append(
                f"force RMSE {frame.force:.3f} eV/Å, {frame.largest:.2f} at atom {frame.atom} ({frame.element})"
            )
        lines.append(" ".join(parts).rstrip(","))
    return lines


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _draw_parity(axis: Any, panel: Panel) -> None:
    for colour, series in _coloured(panel):
        few = thin(series, MOST_POINTS)
        size = 14 if len(few.label) < 400 else 3
        axis.scatter(few.label, few.predicted, s=size, alpha=0.5, lw=0, color=colour, rasterized=True)
    low, high = limits(panel)
    axis.plot([low, high], [low, high], lw=0.8, color="black", zorder=0)
    unit = f", {panel.unit}" if panel.unit else ""
    axis.set(
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
        xlabel=f"label of {panel.title}{unit}",
        ylabel=f"prediction{unit}",
        title=f"{panel.title}: RMSE {number_text(rmse(panel.errors))} {panel.unit}",
    )
    axis.locator_params(nbins=6)
    if panel.note:
        axis.text(0.98, 0.03, panel.note, transform=axis.transAxes, ha="right", fontsize="x-small", color="#555555")
    if len(panel.series) > 1:
        for k, series in enumerate(panel.series):  # no points: legend in the order of the panel, with large dots
            axis.plot([], [], "o", ms=5, color=COLOURS[k], label=f"{series.name}: {number_text(rmse(series.errors))}")
        axis.legend(title="RMSE", loc="upper left", fontsize="small", handletextpad=0.1, frameon=False)
    tidy(axis)


def _draw_histogram(axis: Any, panel: Panel) -> None:
    edge = float(np.abs(panel.errors).max()) or 1.0
    edges = np.linspace(-edge, edge, bins(len(panel.errors)) + 1)
    for colour, series in _coloured(panel):
        axis.hist(series.errors, bins=edges, histtype="stepfilled", alpha=0.25, color=colour)
        axis.hist(series.errors, bins=edges, histtype="step", lw=1.2, color=colour)
    mean, size = float(panel.errors.mean()), float(np.abs(panel.errors).mean())
    bias = f"mean {number_text(mean)}\n" if abs(mean) > 1e-3 * size else ""  # forces of a frame sum up to zero
    axis.set(xlabel=f"error of {panel.title}, {panel.unit}".rstrip(", "), ylabel="number", yscale="log")
    axis.set_ylim(bottom=0.7)
    axis.text(0.03, 0.93, f"{bias}MAE {number_text(size)}", transform=axis.transAxes, va="top", fontsize="small")
    tidy(axis)


def _coloured(panel: Panel) -> list[tuple[str, Series]]:
    """Return colours and series, those of most points first, so that they do not hide the others."""
    pairs = [(COLOURS[k % len(COLOURS)], series) for k, series in enumerate(panel.series)]
    return sorted(pairs, key=lambda pair: -len(pair[1].label))

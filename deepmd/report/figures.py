"""Figures of the report page as plotly's JSON: learning curve, parity, histograms of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.infer.error_report import Comparison
from deepmd.report.curves import curves_of, smooth, smoothing_width
from deepmd.report.libraries import COLOURS
from deepmd.report.panels import Panel, bins, limits, number_text, rmse, short_names, thin

Figure = dict[str, Any]

MOST_POINTS = 1500
"""Points of a colour on the page: each is an element of the SVG, and browsers draw some ten thousand of them fast."""

MOST_ROWS = 1000
"""Rows of the learning curve on the page."""


def curve_figures(columns: dict[str, np.ndarray]) -> list[tuple[str, Figure]]:
    """Return titles and figures of the errors, and of the learning rate, against the steps."""
    step, width = columns["step"], smoothing_width(len(columns["step"]))
    kept = np.unique(np.linspace(0, len(step) - 1, min(len(step), MOST_ROWS)).astype(int))
    figures = []
    for curve in curves_of(columns):
        traces = []
        for side, values in curve.sides.items():
            colour = COLOURS[side == "training batch"]
            if width > 1:
                traces.append(_line(step[kept], values[kept], side, colour, 0.8, opacity=0.3, hoverinfo="skip"))
            text = f"{side}: %{{y:.3g}}<extra></extra>"
            traces.append(
                _line(step[kept], smooth(values, width)[kept], side, colour, 2, hovertemplate=text, named=True)
            )
        layout = _layout("step", curve.title, np.concatenate(list(curve.sides.values())))
        layout |= {"hovermode": "x unified", "showlegend": True}
        figures.append((curve.title.partition(",")[0], {"data": traces, "layout": layout}))
    text = "step %{x}: %{y:.2e}<extra></extra>"
    rate = [_line(step[kept], columns["lr"][kept], "learning rate", COLOURS[2], 2, hovertemplate=text)]
    figures.append(("Learning rate", {"data": rate, "layout": _layout("step", "learning rate", columns["lr"])}))
    return figures


def parity_figures(panels: Sequence[Panel], comparisons: Sequence[Comparison]) -> list[tuple[str, Figure]]:
    """Return titles and figures of predictions against labels; points tell their system, frame and atom."""
    names = short_names([each.path for each in comparisons])
    figures = []
    for panel in panels:
        low, high = limits(panel)
        line = {"color": "#222", "width": 1}
        diagonal = {"type": "line", "x0": low, "y0": low, "x1": high, "y1": high, "line": line, "layer": "below"}
        layout = _layout(_axis("label of", panel), _axis("predicted", panel)) | {"shapes": [diagonal]}
        layout["xaxis"] |= {"range": [low, high]}
        layout["yaxis"] |= {"range": [low, high], "scaleanchor": "x", "scaleratio": 1}
        layout |= {"showlegend": len(panel.series) > 1, "height": 400}
        traces = [_scatter(panel, k, names, comparisons) for k in range(len(panel.series))]
        figures.append((_title(panel), {"data": traces, "layout": layout}))
    return figures


def histogram_figures(panels: Sequence[Panel]) -> list[tuple[str, Figure]]:
    """Return titles and figures of the numbers of errors by size."""
    figures = []
    for panel in panels:
        edge = float(np.abs(panel.errors).max()) or 1.0
        edges = np.linspace(-edge, edge, bins(len(panel.errors)) + 1)
        traces, highest = [], 1
        for k, series in enumerate(panel.series):
            numbers, _ = np.histogram(series.errors, edges)
            text = f"{series.name}: %{{y}} about %{{x:.3g}}<extra></extra>"
            highest = max(highest, int(numbers.max()))
            bar = {"type": "bar", "name": series.name, "x": _short((edges[1:] + edges[:-1]) / 2), "y": numbers.tolist()}
            traces.append(bar | {"marker": {"color": COLOURS[k % len(COLOURS)], "opacity": 0.5}, "hovertemplate": text})
        layout = _layout(f"error of {panel.title}, {panel.unit}".rstrip(", "), "number", np.array([1, highest]))
        layout["xaxis"] |= {"range": [-edge, edge]}
        layout["yaxis"] |= {"range": [float(np.log10(0.7)), float(np.log10(2 * highest))]}
        layout |= {"height": 240, "showlegend": len(panel.series) > 1, "barmode": "overlay", "bargap": 0}
        figures.append((f"Errors of {panel.title}", {"data": traces, "layout": layout}))
    return figures


def _title(panel: Panel) -> str:
    return f"{panel.title[0].upper()}{panel.title[1:]}: RMSE {number_text(rmse(panel.errors))} {panel.unit}".rstrip()


def _axis(prefix: str, panel: Panel) -> str:
    unit = f", {panel.unit}" if panel.unit else ""
    note = f"<br><span style='font-size:11px'>{panel.note}</span>" if panel.note and prefix == "label of" else ""
    return f"{prefix} {panel.title}{unit}{note}"


def _scatter(panel: Panel, number: int, names: Sequence[str], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    series = panel.series[number]
    few = thin(series, MOST_POINTS)
    where = [
        f"{names[system]}, frame {comparisons[system].frames[row]}{f', atom {atom}' if atom >= 0 else ''}"
        for system, row, atom in few.places
    ]
    text = "label %{x}, predicted %{y}<br>%{text}<extra>%{fullData.name}</extra>"
    marker = {"color": COLOURS[number % len(COLOURS)], "size": 6 if len(where) < 400 else 4, "opacity": 0.55}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": series.name,
        "x": _short(few.label),
        "y": _short(few.predicted),
        "text": where,
        "marker": marker,
        "hovertemplate": text,
    }


def _line(
    x: np.ndarray, y: np.ndarray, name: str, colour: str, width: float, *, named: bool = False, **more: Any
) -> dict[str, Any]:
    line = {"color": colour, "width": width}
    both = {"x": x.astype(int).tolist(), "y": [None if np.isnan(value) else value for value in _short(y)]}
    return {"type": "scatter", "mode": "lines", "name": name, "line": line, "showlegend": named, **both, **more}


def _layout(x: str, y: str, logarithmic: np.ndarray | None = None) -> dict[str, Any]:
    """Return a white layout; with a logarithmic y axis for the values that are given."""
    axis = {"gridcolor": "#e8e8e8", "linecolor": "#999", "zeroline": False, "automargin": True}
    rising = {} if logarithmic is None else _logarithmic(logarithmic)
    return {
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, **rising, "title": {"text": y}},
        "margin": {"l": 60, "r": 15, "t": 10, "b": 50},
        "height": 300,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"bgcolor": "white", "font": {"size": 12}},
    }


def _logarithmic(values: np.ndarray) -> dict[str, Any]:
    """Return an axis with ticks at 1, 2 and 5 of each decade, at all digits below one decade, at powers above three."""
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(np.log10(value)) for value in (values.min(), values.max())) if values.size else (0.0, 1.0)
    digits = range(1, 10) if high - low < 1 else (1, 2, 5) if high - low < 3 else (1,)
    ticks = [digit * 10.0**power for power in range(int(low) - 2, int(high) + 2) for digit in digits]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _short(values: np.ndarray) -> list[float]:
    """Return numbers with five digits, which are what a picture shows and half as long in the page."""
    return [float(f"{value:.5g}") for value in values.tolist()]

"""`dp report` and `dp train --report`: one HTML page about a training (docs/commands.md#report)."""

from __future__ import annotations

import datetime
import html
import importlib.resources
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.prediction_errors import MeanErrors, average_errors
from deepmd.data.selection import Selection, select_systems
from deepmd.data.systems import System
from deepmd.infer.deep_pot import DeepEval
from deepmd.infer.error_report import Comparison, compare_system, read_labels
from deepmd.io.atomic import check_output, write_text
from deepmd.io.formats import backend_of
from deepmd.io.train_input import read_input
from deepmd.report import facts, figures
from deepmd.report.curves import read_lcurve
from deepmd.report.libraries import optional
from deepmd.report.panels import number_text, panels_of, short_names, worst_frames
from deepmd.train.checkpoints import locate
from deepmd.version import __version__

log = logging.getLogger(__name__)

MOST_FRAMES = 200
"""Frames of a system that are evaluated, evenly spread, unless a number is given."""

NAMED = 10
"""Worst frames that the page lists."""


@dataclass(frozen=True)
class Evaluated:
    """Systems, and labels beside predictions of some of their frames, by what the data are for."""

    systems: dict[str, list[System]]
    comparisons: dict[str, list[Comparison]]
    milliseconds: float
    """Time of an evaluation of a frame of `atoms` atoms, milliseconds."""
    atoms: int


def check_report(out: str | os.PathLike[str], *reads: str | os.PathLike[str]) -> None:
    """Check before the work starts that a report can be written."""
    if Path(out).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: is no name of a page; accepted: names that end with .html")
    check_output(out, "report", reads=reads)
    optional("plotly", "report")


def write_report(
    input_path: str | os.PathLike[str],
    out: str | os.PathLike[str] = "report.html",
    *,
    model: str | os.PathLike[str] | None = None,
    numb_test: int = MOST_FRAMES,
    pace: facts.Pace | None = None,
) -> None:
    """Write a page about a training: curve, errors by system and element, data, speed, input, lines to use the model.

    Parameters
    ----------
    input_path : input of the training, whose data, learning curve and newest checkpoint the page is about
    out : page to write
    model : model file or checkpoint in place of the newest checkpoint of the training
    numb_test : largest number of frames of each system that are evaluated, evenly spread; 0 for all
    pace : times of the training, if it ran in this process

    Raises
    ------
    InputError
        The training has no checkpoint yet, the data have no labels, or plotly is not installed.
    """
    check_report(out, input_path, *([] if model is None else [model]))
    if numb_test < 0:
        raise InputError(f"numb_test is {numb_test}; accepted: a number of frames, or 0 for all")
    tree, _ = read_input(input_path)
    training = tree.get("training", {})
    place = locate(training.get("save_ckpt", "model.ckpt") if model is None else model)
    curve = _curve(training.get("disp_file", "lcurve.out"))
    with DeepEval(place) as potential:
        found = evaluate(potential, _data(input_path, training), numb_test)
        page = _Page(potential, place, found, curve, tree, pace)
        write_text(out, page.text(Path(input_path)))
    log.info("Saved the report to %s", out)


def _curve(path: str) -> dict[str, np.ndarray] | None:
    """Return the columns of the learning curve; None with a warning if there is none, as without `disp_training`."""
    try:
        return read_lcurve(path)
    except InputError as error:
        log.warning("the report has no learning curve: %s", error)
        return None


def _data(input_path: str | os.PathLike[str], training: dict[str, Any]) -> dict[str, Selection]:
    """Return the systems by what they are for, those for validation first."""
    found, source = {}, str(input_path)
    if training.get("validation_data") or training.get("training_data", {}).get("validation_fraction"):
        found["validation"] = select_systems(valid_data=source)
    return found | {"training": select_systems(train_data=source)}


def evaluate(potential: DeepEval, data: dict[str, Selection], numb_test: int) -> Evaluated:
    """Compare predictions with the labels of systems, by what they are for; systems without labels are left out."""
    systems: dict[str, list[System]] = {}
    comparisons: dict[str, list[Comparison]] = {}
    spent, frames, atoms = 0.0, 0, 0
    for purpose, selection in data.items():
        systems[purpose], comparisons[purpose] = [], []
        for path in selection.paths:
            system = read_labels(potential, path, selection=selection)
            chosen = facts.some_frames(system.num_frames, numb_test or system.num_frames)
            log.info("report: %d of %d frames of %s", len(chosen), system.num_frames, path)
            if not frames:
                compare_system(potential, system, chosen[:1])  # builds what later evaluations use
            begin = time.perf_counter()
            comparison = compare_system(potential, system, chosen)
            spent += time.perf_counter() - begin
            frames, atoms = frames + len(chosen), atoms + len(chosen) * system.num_atoms
            systems[purpose].append(system)
            if comparison.errors:
                comparisons[purpose].append(comparison)
    if not any(comparisons.values()):
        raise InputError("the data of the training hold no label of what the model predicts")
    return Evaluated(systems, comparisons, 1e3 * spent / frames, round(atoms / frames))


@dataclass(frozen=True)
class _Page:
    potential: DeepEval
    place: Path
    found: Evaluated
    curve: dict[str, np.ndarray] | None
    tree: dict[str, Any]
    pace: facts.Pace | None

    def text(self, input_path: Path) -> str:
        """Return the page."""
        purpose = "validation" if self.found.comparisons.get("validation") else "training"
        judged = self.found.comparisons[purpose]
        everything = [each for group in self.found.comparisons.values() for each in group]
        panels = panels_of(judged)
        title = f"{Path(self.place).name} of {input_path.resolve().parent.name}/{input_path.name}"
        sections = {
            "Learning curve": self._curve(),
            "Predictions against labels": _warn_if(purpose == "training", _NO_VALIDATION)
            + _text(f"{_frames(judged)} of the {purpose} data. Hover over a point to see which frame and atom it is.")
            + _figures(figures.parity_figures(panels, judged))
            + _figures(figures.histogram_figures(panels)),
            "Errors": _text("RMSE, and MAE in parentheses.")
            + _table(facts.system_errors(list(self.found.comparisons.items()), self._names()))
            + _named("Forces by element", facts.element_errors(judged))
            + _named("Worst frames of all data", facts.bad_frames(worst_frames(everything, NAMED), self._names())),
            "Data": _table(
                facts.data_summary(list(self.found.systems.items()), self.potential.get_type_map(), self._names())
            )
            + _text(self._distance()),
            "Use the model": "".join(
                f"<h3>{html.escape(name)}</h3>{_code(lines)}" for name, lines in facts.usage(self.potential, self.place)
            ),
            "Model and speed": _table(self._model()),
            "Input": f"<details><summary>{html.escape(str(input_path))}</summary>"
            f"{_code(json.dumps(self.tree, indent=2, ensure_ascii=False))}</details>",
            "Versions": _table(facts.versions()),
        }
        return _document(title, self._cards(average(judged), purpose), sections)

    def _names(self) -> Callable[[str], str]:
        paths = [system.path for group in self.found.systems.values() for system in group]
        return dict(zip(paths, short_names(paths), strict=True)).__getitem__

    def _curve(self) -> str:
        if self.curve is None:
            return _warn_if(True, "The training has written no learning curve.")
        return _figures(figures.curve_figures(self.curve))

    def _distance(self) -> str:
        distance = self.potential.get_min_nbor_dist()
        return "" if distance is None else f"Shortest distance in the training data: {distance:.3f} Å."

    def _cards(self, errors: MeanErrors, purpose: str) -> list[tuple[str, str]]:
        cards = [
            (
                f"{number_text(factor * errors[name][1])} {title.partition(', ')[2]}",
                f"{title.partition(',')[0]} RMSE, {purpose}",
            )
            for name, title, factor in facts.COLUMNS
            if name in errors
        ]
        if self.curve is not None:
            cards.append((f"{int(self.curve['step'][-1]):,}", "steps"))
        if self.pace is not None and self.pace.rows:
            cards.append((facts.duration(self.pace.seconds), "training"))
        speed = f"evaluation of {self.found.atoms} atoms"
        return [*cards, (f"{self.found.milliseconds:.1f} ms", speed)]

    def _model(self) -> facts.Rows:
        potential, found = self.potential, self.found
        size = potential.get_model_size()
        definition = potential.get_model_def_script()
        descriptor = definition.get("descriptor", {}).get("type", "")
        rows: facts.Rows = [
            ("", ""),
            (
                "file",
                f"{self.place}, {self.place.stat().st_size / 1e6:.1f} MB" if self.place.is_file() else str(self.place),
            ),
            ("elements", " ".join(potential.get_type_map())),
            ("descriptor", f"{descriptor}, cutoff {potential.get_rcut():g} Å"),
            ("weights", ", ".join(f"{name} {number:,}" for name, number in size.items())),
            ("evaluated by", facts.device_text(potential)),
            (
                "evaluation of a frame",
                f"{found.milliseconds:.1f} ms for {found.atoms} atoms, energy, forces and virial",
            ),
        ]
        if self.pace is not None and self.pace.rows:
            step = f"{self.pace.ms_per_step:.1f} ms a step, {facts.duration(self.pace.seconds)} in all"
            rows.append(("training", f"{step}, by {backend_of(self.place)}"))
        return rows


_NO_VALIDATION = (
    "The input has no validation data, so these are errors of the data that the model was trained on. "
    "Errors of other structures are larger: keep some frames apart as training/validation_data."
)


def average(comparisons: Sequence[Comparison]) -> MeanErrors:
    """Return the mean errors of systems, weighted by their frames, as `dp test` averages them."""
    return average_errors([(len(each.frames), each.errors) for each in comparisons])


def _frames(comparisons: Sequence[Comparison]) -> str:
    frames, systems = sum(len(each.frames) for each in comparisons), len(comparisons)
    return f"{frames:,} frame{'s' * (frames != 1)} in {systems} system{'s' * (systems != 1)}"


# -- HTML: all texts are escaped ------------------------------------------------------------------------------------


def _document(title: str, cards: Sequence[tuple[str, str]], sections: dict[str, str]) -> str:
    from plotly.offline import get_plotlyjs

    folder = importlib.resources.files("deepmd.report")
    style, script = ((folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    now = datetime.datetime.now().astimezone()
    links = "".join(f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in sections)
    boxes = "".join(
        f'<div class="card"><b>{_value(value)}</b><span>{html.escape(name)}</span></div>' for value, name in cards
    )
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{html.escape(name)}</h2>{text}</section>' for name, text in sections.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{style}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><main><h1>Deep Potential: {html.escape(title)}</h1><p>Written {now:%Y-%m-%d %H:%M}</p>"
        f'<nav>{links}</nav><div class="cards">{boxes}</div>{body}'
        f"<footer>deepmd {__version__}. This page needs no network.</footer></main>"
        f"<script>{script}</script></body></html>"
    )


def _value(text: str) -> str:
    """Return a number in large and its unit in small letters."""
    number, _, unit = text.partition(" ")
    return (
        f"{html.escape(number)}<small>{html.escape(unit)}</small>"
        if unit.isalpha() or "/" in unit
        else html.escape(text)
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _figures(found: Sequence[tuple[str, figures.Figure]]) -> str:
    """Return figures side by side, as wide as their columns."""
    from plotly.io import to_html

    options = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
    parts = []
    for title, figure in found:
        plot = to_html(figure, config=options, include_plotlyjs=False, full_html=False, validate=False)
        parts.append(f'<div class="figure"><h3>{html.escape(title)}</h3>{plot}</div>')
    return f'<div class="figures">{"".join(parts)}</div>'


def _table(rows: facts.Rows) -> str:
    head, *body = (_row(row, "td" if number else "th") for number, row in enumerate(rows))
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(body)}</tbody></table></div>'


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _named(title: str, rows: facts.Rows) -> str:
    return f"<br><h3>{html.escape(title)}</h3>{_table(rows)}" if len(rows) > 1 else ""


def _text(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def _warn_if(condition: bool, text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>' if condition else ""


def _code(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"

"""What the pictures of a test show: labels against predictions by element or system, and the worst frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.prediction_errors import QUANTITIES
from deepmd.infer.error_report import Comparison

SHOWN = {
    "energy/natoms": ("energy", "meV/atom", 1e3),
    "force": ("force", "eV/Å", 1.0),
    "virial/natoms": ("virial", "meV/atom", 1e3),
}
"""Title, unit and factor of the quantities of energy models that are shown; of other models `OTHERS`."""

OTHERS = ("dipole", "atomic dipole", "polar", "atomic polar", "dos", "atomic dos", "property", "atomic property")

MOST_GROUPS = 8
"""Most colours of a panel; more systems than these share one."""


@dataclass(frozen=True)
class Series:
    """Points of one colour: labels and predictions, (N,), and where they come from.

    `places` are rows (comparison, row of the frame in it, atom), atom -1 for quantities of frames.
    """

    name: str
    label: np.ndarray
    predicted: np.ndarray
    places: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Predictions minus labels."""
        out: np.ndarray = self.predicted - self.label
        return out


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Attributes
    ----------
    title, unit, note : what the axes say; the note tells from where values are counted
    series : points by element, or of quantities of frames by system
    """

    title: str
    unit: str
    note: str
    series: tuple[Series, ...]

    @property
    def errors(self) -> np.ndarray:
        """Errors of all points."""
        return np.concatenate([each.errors for each in self.series])


@dataclass(frozen=True)
class BadFrame:
    """Errors of a frame: of its energy in meV/atom, of its forces in eV/Å, and its atom with the largest one.

    What the labels do not tell is NaN, and the atom -1.
    """

    path: str
    frame: int
    energy: float
    force: float
    largest: float
    atom: int
    element: str


def rmse(errors: np.ndarray) -> float:
    """Return the root mean square, NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(errors)))) if errors.size else float("nan")


def number_text(value: float) -> str:
    """Return three digits of a number, without exponent between 1e-3 and 1e6."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path, or of paths with the same one as many parts as tell them apart."""
    parts = [Path(path).parts for path in paths]
    longest = max(map(len, parts), default=1)
    for count in range(1, longest + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(set(paths)):
            return names
    return list(paths)


def panels_of(comparisons: Sequence[Comparison]) -> list[Panel]:
    """Return a panel for each quantity that is shown and has labels in any system."""
    there = {name for each in comparisons for name in each.pairs}
    wanted = [name for name in SHOWN if name in there] or [name for name in OTHERS if name in there]
    if not wanted:
        raise InputError(f"nothing to draw: of {', '.join([*SHOWN, *OTHERS])} the data have no label")
    return [_panel(name, comparisons) for name in wanted]


def _panel(name: str, comparisons: Sequence[Comparison]) -> Panel:
    title, unit, factor = SHOWN.get(name, (name, QUANTITIES[name].unit, 1.0))
    names = short_names([each.path for each in comparisons])
    if len(names) > MOST_GROUPS:
        names = [f"{len(names)} systems"] * len(names)
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    means = _mean_energies(comparisons) if name == "energy/natoms" else {}
    for number, each in enumerate(comparisons):
        if name not in each.pairs:
            continue
        label, predicted = (values * factor for values in each.pairs[name])
        if label.ndim == 3:
            for kind, element in enumerate(each.type_map):
                frames, atoms = np.nonzero(each.counted & (each.types == kind))
                if len(frames):
                    points = label[frames, atoms], predicted[frames, atoms]
                    found.setdefault(element, []).append(_points(*points, number, frames, atoms))
        else:
            if means:
                zero = factor * np.array([means[key] for key in _compositions(each)])[:, None]
                label, predicted = label - zero, predicted - zero
            frames = np.arange(len(label))
            row = _points(label, predicted, number, frames, np.full(len(frames), -1))
            found.setdefault(names[number], []).append(row)
    series = tuple(
        Series(group, *(np.concatenate(column) for column in zip(*rows, strict=True))) for group, rows in found.items()
    )
    note = "" if not means else f"relative to the mean label{' of each composition' if len(means) > 1 else ''}"
    return Panel(title, unit, note, series)


def _points(
    label: np.ndarray, predicted: np.ndarray, number: int, frames: np.ndarray, atoms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the components of rows (N, d) one after the other, with the place of each."""
    places = np.stack([np.full(len(frames), number), frames, atoms], axis=1)
    return label.ravel(), predicted.ravel(), np.repeat(places, label.shape[1], axis=0)


def _compositions(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return a key for each frame, equal for frames of the same numbers of atoms of each element."""
    kinds = [np.count_nonzero(comparison.types == kind, axis=1) for kind in range(len(comparison.type_map))]
    return [tuple(map(str, row)) for row in np.stack(kinds, axis=1)]


def _mean_energies(comparisons: Sequence[Comparison]) -> dict[tuple[str, ...], float]:
    """Return the mean label of the energy per atom, eV, of each composition."""
    found: dict[tuple[str, ...], list[float]] = {}
    for each in comparisons:
        if "energy/natoms" in each.pairs:
            for key, value in zip(_compositions(each), each.pairs["energy/natoms"][0].ravel(), strict=True):
                found.setdefault(key, []).append(float(value))
    return {key: float(np.mean(values)) for key, values in found.items()}


def limits(panel: Panel) -> tuple[float, float]:
    """Return the ends of both axes: all points and a margin."""
    values = np.concatenate([np.concatenate([each.label, each.predicted]) for each in panel.series])
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def bins(points: int) -> int:
    """Return an odd number of bins of a histogram, so that one is centred at zero."""
    return int(np.clip(2 * np.sqrt(points), 11, 81)) | 1


def thin(series: Series, most: int) -> Series:
    """Return at most `most` points: half of them those with the largest errors, the others evenly from the rest."""
    if len(series.label) <= most:
        return series
    order = np.argsort(-np.abs(series.errors), kind="stable")
    rest = np.sort(order[most // 2 :])
    spread = np.linspace(0, len(rest) - 1, most - most // 2).astype(int)
    kept = np.concatenate([rest[spread], order[: most // 2][::-1]])
    return Series(series.name, series.label[kept], series.predicted[kept], series.places[kept])


def worst_frames(comparisons: Sequence[Comparison], number: int) -> list[BadFrame]:
    """Return the frames with the largest errors of forces, or of energies where there are no forces."""
    frames = [frame for each in comparisons for frame in _frame_errors(each)]
    by_force = any(np.isfinite(frame.force) for frame in frames)
    key = (lambda frame: frame.force) if by_force else (lambda frame: abs(frame.energy))
    known = [frame for frame in frames if np.isfinite(key(frame))]
    return sorted(known, key=key, reverse=True)[:number]


def _frame_errors(comparison: Comparison) -> list[BadFrame]:
    count = len(comparison.frames)
    energy, force, largest = (np.full(count, np.nan) for _ in range(3))
    atom = np.full(count, -1)
    if "energy/natoms" in comparison.pairs:
        label, predicted = comparison.pairs["energy/natoms"]
        energy = 1e3 * (predicted - label)[:, 0]
    if "force" in comparison.pairs:
        label, predicted = comparison.pairs["force"]
        square = np.where(comparison.counted, np.sum((predicted - label) ** 2, axis=2), 0.0)
        atoms = np.maximum(np.count_nonzero(comparison.counted, axis=1), 1)
        force, largest, atom = np.sqrt(square.sum(axis=1) / (3 * atoms)), np.sqrt(square.max(axis=1)), square.argmax(1)
    return [
        BadFrame(
            comparison.path,
            int(comparison.frames[k]),
            float(energy[k]),
            float(force[k]),
            float(largest[k]),
            int(atom[k]),
            comparison.type_map[comparison.types[k, atom[k]]] if atom[k] >= 0 else "",
        )
        for k in range(count)
    ]

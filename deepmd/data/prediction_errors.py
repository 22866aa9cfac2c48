"""Errors of predictions: the table of compared quantities, and means over frames and systems. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deepmd.array_model.outputs import Output

MeanErrors = dict[str, tuple[float, float]]
"""Mean absolute and root mean square error of each quantity that has labels."""

Arrays = Mapping[str, np.ndarray]
"""Values by output: (F, d), and of atoms (F, n, d)."""

Pair = tuple[np.ndarray, np.ndarray]
"""Labels and predictions."""


@dataclass(frozen=True)
class Quantity:
    """Quantity whose errors are computed.

    Attributes
    ----------
    output : output of the model
    title : title of the error in `dp test`; {} is MAE or RMSE
    unit : unit of the error; "": the unit of the label, and only the RMSE is printed
    per : divisor of values: "natoms", "sqrt(natoms)", "volume"; "": none
    weighted : differences are weighted with `atom_pref`
    detail : name of the file with the labels and predictions of every frame; "": none
    width : width of the printed title
    """

    output: str
    title: str
    unit: str = ""
    per: str = ""
    weighted: bool = False
    detail: str = ""
    width: int = 19


QUANTITIES: dict[str, Quantity] = {
    "energy": Quantity("energy", "Energy {}", "eV", detail="e"),
    "energy/natoms": Quantity("energy", "Energy {}/Natoms", "eV", "natoms", detail="e_peratom"),
    "force": Quantity("force", "Force  {}", "eV/Å", detail="f"),
    "force weighted": Quantity("force", "Force weighted {}", "eV/Å", weighted=True),
    "virial": Quantity("virial", "Virial {}", "eV", detail="v"),
    "virial/natoms": Quantity("virial", "Virial {}/Natoms", "eV", "natoms", detail="v_peratom"),
    "stress": Quantity("virial", "Stress {}", "eV/Å³", "volume", detail="s"),
    "atomic energy": Quantity("atom_energy", "Atomic ener {}", "eV"),
    "dipole": Quantity("dipole", "Dipole  {}"),
    "dipole/sqrt(natoms)": Quantity("dipole", "Dipole  {}/sqrtN", per="sqrt(natoms)"),
    "dipole/natoms": Quantity("dipole", "Dipole  {}/N", per="natoms"),
    "atomic dipole": Quantity("atom_dipole", "Dipole  {}"),
    "polar": Quantity("polar", "Polarizability  {}", width=27),
    "polar/sqrt(natoms)": Quantity("polar", "Polarizability  {}/sqrtN", per="sqrt(natoms)", width=27),
    "polar/natoms": Quantity("polar", "Polarizability  {}/N", per="natoms", width=27),
    "atomic polar": Quantity("atom_polar", "Polarizability  {}", width=27),
    "dos": Quantity("dos", "DOS {}", "Occupation/eV"),
    "dos/natoms": Quantity("dos", "DOS {}/Natoms", "Occupation/eV", "natoms"),
    "atomic dos": Quantity("atom_dos", "Atomic DOS {}", "Occupation/eV"),
    "property": Quantity("property", "PROPERTY {}", "units", width=24),
    "atomic property": Quantity("atom_property", "Atomic PROPERTY {}", "units", width=24),
}
"""Compared quantities in the order of printing."""


def labels_of(output: Output, data: Arrays) -> dict[str, np.ndarray]:
    """Return the labels among data by output: (F, ...) of frames, (F, n, ...) of atoms."""
    names = {output.name: output.label, output.atomic: output.atomic_label, "force": "force", "virial": "virial"}
    return {name: data[label] for name, label in names.items() if label in data}


def compare(label: Arrays, predicted: Arrays, counted: np.ndarray, cell: np.ndarray | None) -> dict[str, Pair]:
    """Return labels and predictions of the frames of a system side by side, in the unit of each quantity.

    Parameters
    ----------
    label, predicted : arrays by output; predictions without a label are ignored
    counted : mask of the atoms that count, (F, n)
    cell : (F, 3, 3), Angstrom; None for an open boundary
    """
    natoms = np.maximum(np.count_nonzero(counted, axis=1), 1)[:, None]
    scales = {"": 1.0, "natoms": natoms, "sqrt(natoms)": np.sqrt(natoms)}
    if cell is not None:
        scales["volume"] = np.abs(np.linalg.det(cell))[:, None]
    pairs = {name: (np.reshape(label[name], predicted[name].shape), predicted[name]) for name in label}
    return {
        name: (pairs[each.output][0] / scales[each.per], pairs[each.output][1] / scales[each.per])
        for name, each in QUANTITIES.items()
        if each.output in pairs and each.per in scales
    }


def errors_of(pairs: Mapping[str, Pair], counted: np.ndarray, weights: np.ndarray | None = None) -> MeanErrors:
    """Return the mean errors of the pairs of `compare`; `weights` (F, n) are the data `atom_pref`, if there are any."""
    out = {}
    for name, (label, predicted) in pairs.items():
        weight = None
        if label.ndim == 3:
            label, predicted = label[counted], predicted[counted]
        if QUANTITIES[name].weighted:
            if weights is None:
                continue
            weight = weights[counted][:, None]
        out[name] = mean_errors(label, predicted, weight)
    return out


def mean_errors(label: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Return the mean absolute and root mean square difference; a mean over nothing is zero."""
    difference = predicted - label
    weight = np.broadcast_to(1.0 if weights is None else weights, difference.shape)
    total = float(weight.sum())
    if total == 0.0:
        return 0.0, 0.0
    return float(np.sum(weight * np.abs(difference))) / total, math.sqrt(float(np.sum(weight * difference**2)) / total)


def average_errors(found: Sequence[tuple[int, MeanErrors]]) -> MeanErrors:
    """Average (frames, errors) over systems, weighted by frames, each quantity over the systems with labels for it."""
    average: MeanErrors = {}
    for quantity in QUANTITIES:
        rows = [(frames, *errors[quantity]) for frames, errors in found if quantity in errors]
        if sum(frames for frames, _, _ in rows):
            average[quantity] = _average(rows)
    return average


def join_errors(runs: Sequence[tuple[Mapping[str, int], MeanErrors]]) -> MeanErrors:
    """Join the errors of runs of frames of one system; each run has the number of frames or atoms by quantity."""
    return {name: _average([(sizes[name], *errors[name]) for sizes, errors in runs]) for name in runs[0][1]}


def _average(rows: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Return the mean absolute and root mean square error of rows of weights and errors."""
    total = sum(weight for weight, _, _ in rows) or 1  # errors of nothing are zero
    mae = sum(weight * mae for weight, mae, _ in rows) / total
    return mae, math.sqrt(sum(weight * rmse**2 for weight, _, rmse in rows) / total)

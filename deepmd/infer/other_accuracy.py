"""What `dp test` compares for models of dipoles, polarizabilities, densities of states and properties."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.outputs import Output
from deepmd.data.systems import System
from deepmd.infer.deep_pot import DeepEval
from deepmd.infer.measures import Details, Errors, mean_errors

COMPONENTS = {"dipole": ("x", "y", "z"), "polar": tuple(f"p{a}{b}" for a in "xyz" for b in "xyz")}
TITLES = {"dipole": "Dipole", "polar": "Polarizability", "dos": "DOS", "property": "PROPERTY"}
UNITS = {"dos": "Occupation/eV", "property": "units"}


def _lines() -> dict[str, tuple[str, str, str]]:
    """Make the table of lines; tensors have no mean absolute error and no unit of their own."""
    out = {}
    for name in COMPONENTS:
        title = TITLES[name]
        out[name] = ("", f"{title}  RMSE       ", "")
        out[f"{name}/sqrt(natoms)"] = ("", f"{title}  RMSE/sqrtN ", "")
        out[f"{name}/natoms"] = ("", f"{title}  RMSE/N     ", "")
        out[f"atomic {name}"] = ("", f"{title}  RMSE       ", "")
    for name, unit in UNITS.items():
        title = TITLES[name]
        out[name] = (f"{title} MAE            ", f"{title} RMSE           ", unit)
        out[f"{name}/natoms"] = (f"{title} MAE/Natoms     ", f"{title} RMSE/Natoms    ", unit)
        out[f"atomic {name}"] = (f"Atomic {title} MAE     ", f"Atomic {title} RMSE    ", unit)
    return out


LINES = _lines()
"""For each quantity the labels of its mean absolute and root mean square error, and its unit."""


def compare(
    potential: DeepEval, output: Output, system: System, frames: np.ndarray, atomic: bool
) -> tuple[Errors, Details]:
    """Compare predictions with the labels of some frames; the atoms that count are those whose type has an output.

    Tensors are compared in total, or atom by atom with `atomic`; the others in total and, if asked for, atom by atom
    too.

    Raises
    ------
    InputError
        Atoms are compared, and none has a type with an output; or the system lacks parameters that the model needs.
    """
    data = {name: values[frames] for name, values in system.data.items()}
    types = system.types[frames] if system.mixed else system.types
    cell = None if system.cell is None else system.cell[frames]
    total, each = _predictions(potential, output, (system.coord[frames], cell, types), system.mixed, data)
    counted = np.broadcast_to(np.isin(types, potential.get_sel_type()), each.shape[:2])
    natoms = np.maximum(np.count_nonzero(counted, axis=1), 1)[:, None]
    errors: Errors = {}
    details: Details = {}
    tensor = output.name in COMPONENTS
    if output.label in data and not (tensor and atomic):
        label = data[output.label]
        errors[output.name] = mean_errors(label, total)
        if tensor:
            errors[f"{output.name}/sqrt(natoms)"] = mean_errors(label / np.sqrt(natoms), total / np.sqrt(natoms))
        if output.name != "property":
            errors[f"{output.name}/natoms"] = mean_errors(label / natoms, total / natoms)
        details.update(_details(output, label, total, "" if tensor else output.name))
    if output.atomic_label in data and atomic:
        if not counted.any():
            raise InputError(f"no atom has a type with a {output.name}; types with one: {potential.get_sel_type()}")
        label = data[output.atomic_label]
        errors[f"atomic {output.name}"] = mean_errors(label[counted], each[counted])
        rows = (label[frame, counted[frame]].reshape(1, -1) for frame in range(len(frames)))
        if tensor and not system.mixed:
            details.update(
                _details(output, np.concatenate(list(rows)), each[:, counted[0]].reshape(len(frames), -1), "")
            )
        elif not tensor:
            details.update(
                _details(output, label.reshape(len(frames), -1), each.reshape(len(frames), -1), f"a{output.name}")
            )
    return errors, details


def _predictions(
    potential: Any, output: Output, structures: tuple[Any, Any, Any], mixed: bool, data: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the totals (F, d) and the atomic values (F, n, d)."""
    options = {**potential.conditions_in(data), "mixed_type": mixed}
    if output.name in COMPONENTS:
        each: np.ndarray = potential.eval(*structures, atomic=True, **options)
        return each.sum(axis=1), each
    total, each = potential.eval(*structures, atomic=True, **options)
    return total, each


def _details(output: Output, label: np.ndarray, predicted: np.ndarray, name: str) -> Details:
    """Return the detail files: one row a frame for tensors, one file a frame and a row for each number for the others."""
    if not name:
        columns = [f"{source}_{component}" for source in ("data", "pred") for component in COMPONENTS[output.name]]
        if label.shape[1] != output.width:
            number = label.shape[1] // output.width
            parts = [f"{component}{k}" for k in range(number) for component in COMPONENTS[output.name]]
            columns = [f"{source}_{part}" for source in ("data", "pred") for part in parts]
        return {"out": (" ".join(columns), np.hstack([label, predicted]))}
    pairs = (np.stack([label[frame], predicted[frame]], axis=1) for frame in range(len(label)))
    return {f"{name}.out.{frame}": (f"data_{name} pred_{name}", pair) for frame, pair in enumerate(pairs)}

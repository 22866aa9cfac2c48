"""Bias and scale of the output by type, from the labels of a sample (docs/theory/fitting_nets.md#bias-and-scale)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from deepmd.array_model.components import fittings_of
from deepmd.array_model.contracts import Model
from deepmd.data.batch import Frames

log = logging.getLogger(__name__)

BiasAndScale = tuple[np.ndarray, np.ndarray]
"""Bias and scale of each type, (T, d)."""


def type_counts(frames: Frames, ntypes: int) -> np.ndarray:
    """Return the number of atoms of each type in each frame, (F, T)."""
    types = [system.types_of(frame) for system, frame in frames]
    return np.array([np.bincount(each[each >= 0], minlength=ntypes) for each in types], dtype=np.float64)


def energy_bias(model: Model, frames: Frames) -> np.ndarray:
    """Return the energy of each type (T,) by least squares on the total energies (eV).

    Types with an assigned energy (`atom_ener`, `preset_out_bias`) keep it.
    """
    labelled = [(system, frame) for system, frame in frames if "energy" in system.data]
    assigned = np.full(model.ntypes, np.nan)
    for number, value in enumerate(model.atom_ener):
        assigned[number] = np.nan if value is None else value
    for number, value in enumerate((model.preset_out_bias or {}).get("energy", ())):
        assigned[number] = assigned[number] if value is None else value
    known = ~np.isnan(assigned)
    bias = np.where(known, assigned, 0.0)
    if not labelled:
        return bias
    counts = type_counts(labelled, model.ntypes)
    energies = np.array([system.data["energy"][frame] for system, frame in labelled])
    return np.asarray(bias + fit_energies(counts, energies - counts @ bias, ~known, model.rcond))


def fit_energies(counts: np.ndarray, energies: np.ndarray, free: np.ndarray, rcond: float | None) -> np.ndarray:
    """Fit energies of types to total energies by least squares, and log the residual.

    Parameters
    ----------
    counts : atoms of each type in each frame, (F, T)
    energies : of frames, (F,), eV
    free : which types are fitted, (T,); the others get zero
    rcond : singular values below this fraction of the largest singular value count as zero
    """
    fitted, *_ = np.linalg.lstsq(np.where(free, counts, 0.0), energies, rcond=rcond)
    fitted = np.where(free, fitted, 0.0)
    per_atom = (energies - counts @ fitted) / counts.sum(axis=1)
    rmse = np.sqrt(np.mean(per_atom**2))
    log.info("RMSE of energy per atom after linear regression is: %.5e in the unit of energy.", rmse)
    return fitted


def _energy(model: Model, frames: Frames) -> BiasAndScale:
    bias = energy_bias(model, frames).reshape(-1, 1)
    return bias, np.ones_like(bias)


def _none(model: Model, frames: Frames) -> BiasAndScale:
    """Return bias 0 and scale 1: a constant vector would not rotate with the system."""
    return np.zeros((model.ntypes, model.output.width)), np.ones((model.ntypes, model.output.width))


def _mean(model: Model, frames: Frames) -> BiasAndScale:
    """Return the mean of the atomic labels of each type; without atomic labels the least-squares fit of the totals."""
    bias, std = _none(model, frames)
    counts, total = labelled_totals(model, frames)
    if len(counts):
        bias, *_ = np.linalg.lstsq(counts, total, rcond=model.rcond)
    atomic = [(system, frame) for system, frame in frames if model.output.atomic_label in system.data]
    if atomic:
        types = np.concatenate([system.types_of(frame) for system, frame in atomic])
        values = np.concatenate([system.data[model.output.atomic_label][frame] for system, frame in atomic])
        for kind in range(model.ntypes):
            if kind not in model.atom_exclude_types and np.any(types == kind):
                bias[kind] = values[types == kind].mean(axis=0)
    return bias, std


def _property(model: Model, frames: Frames) -> BiasAndScale:
    """Return bias and scale of a property.

    With `distinguish_types` the bias is the least-squares fit by type, the scale the deviation of the residual.
    Otherwise they are mean and deviation over frames, of the value per atom if the property is a sum over atoms.
    """
    counts, total = labelled_totals(model, frames)
    if not len(counts):
        return _none(model, frames)
    natoms = counts.sum(axis=1, keepdims=True)
    (fitting,) = fittings_of(model)
    if getattr(fitting, "distinguish_types", False):
        parts = counts / natoms if model.output.intensive else counts
        bias, *_ = np.linalg.lstsq(parts, total, rcond=model.rcond)
        std = np.sqrt(np.mean((total - parts @ bias) ** 2, axis=0))
    else:
        values = total if model.output.intensive else total / natoms
        bias, std = np.tile(values.mean(axis=0), (model.ntypes, 1)), values.std(axis=0)
    smallest = 1e-8 * np.abs(total).max(axis=0)
    std = np.where(std > smallest, std, 1.0)  # labels that do not vary have no scale
    return bias, np.tile(std, (model.ntypes, 1))


def labelled_totals(model: Model, frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of atoms with an output by type (F, T), and labels (F, d), of frames with a label of the total."""
    labelled = [(system, frame) for system, frame in frames if model.output.label in system.data]
    counts = type_counts(labelled, model.ntypes).reshape(-1, model.ntypes)
    counts[:, list(model.atom_exclude_types)] = 0.0
    labels = [system.data[model.output.label][frame] for system, frame in labelled]
    used = counts.sum(axis=1) > 0.0
    return counts[used], np.array(labels).reshape(-1, model.output.width)[used]


FUNCTIONS: dict[str, Callable[[Any, Frames], BiasAndScale]] = {
    "energy": _energy,
    "dipole": _none,
    "polar": _mean,
    "dos": _mean,
    "property": _property,
}
"""Function that computes bias and scale, by output."""


def output_statistics(model: Model, frames: Frames) -> BiasAndScale:
    """Return bias and scale (T, d) of each type."""
    return FUNCTIONS[model.output.name](model, frames)

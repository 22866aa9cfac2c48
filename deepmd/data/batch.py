"""From frames to the batch that a framework trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.losses import LABELS, EnerLoss
from deepmd.array_model.pairs import Conditions, Pairs
from deepmd.data.neighbours import find_neighbours
from deepmd.data.packing import pack
from deepmd.data.systems import System


@dataclass(frozen=True)
class Batch:
    """One batch on the host, ready for any framework.

    Attributes
    ----------
    pairs, conditions : the input; every real atom of the batch is a centre
    natoms_F : real atoms of each frame, float64
    labels : for each name of `EnerLoss.labels()` an array in the order of `pairs`; zeros where the data lack it
    found : which terms of the loss the data have labels for
    closest : shortest distance between two atoms, Angstrom
    """

    pairs: Pairs
    conditions: Conditions
    natoms_F: np.ndarray
    labels: dict[str, np.ndarray]
    found: dict[str, bool]
    closest: float


Frames = Sequence[tuple[System, int]]

KEPT_BYTES = 2**30
"""Memory for batches that are visited again."""

PER_FRAME = {"energy": (), "virial": (9,)}
PER_ATOM = {"force": (3,), "atom_ener": (), "atom_pref": (), "atom_ener_coeff": ()}


def conditions_of(model: Any, frames: Frames, atoms: np.ndarray) -> Conditions:
    """Return frame and atomic parameters of a batch, the model's default where a system has no fparam.

    Raises
    ------
    InputError
        The model needs parameters that a system does not have, or they have the wrong number of values.
    """

    def values(name: str, width: int, system: System, frame: int) -> np.ndarray:
        array = system.data.get(name)
        if array is None and name == "fparam" and model.default_fparam is not None:
            return np.array(model.default_fparam, dtype=np.float64)
        if array is None or array.shape[-1] != width:
            given = "none" if array is None else f"{array.shape[-1]}"
            raise InputError(
                f"{system.path}: the model needs {width} values of {name} per {'frame' if name == 'fparam' else 'atom'}, {name}.npy has {given}"
            )
        return np.asarray(array[frame])

    fparam = np.stack([values("fparam", model.numb_fparam, *item) for item in frames]) if model.numb_fparam else None
    aparam = np.concatenate([values("aparam", model.numb_aparam, *item) for item in frames])[atoms] if model.numb_aparam else None
    return Conditions(fparam, aparam)


def make_batch(model: Any, loss: EnerLoss, frames: Frames) -> Batch:
    """Find neighbours, pack, and collect the labels that the loss reads."""
    structures = [system.structure(frame) for system, frame in frames]
    neighbours = find_neighbours(structures, model.layout().rcut)
    packed = pack(neighbours, model.layout(), model.ntypes)
    labels, available = {}, {}
    for name in loss.labels():
        available[name] = all(name in system.data for system, _ in frames)
        labels[name] = _label(name, frames, packed.atoms, available[name], loss)
    found = {term: available[LABELS[term]] for term in loss.terms()}
    if "pf" in found:
        found["pf"] = found["pf"] and (available["atom_pref"] or loss.use_default_pf)
    natoms = np.array([np.count_nonzero(structure.types >= 0) for structure in structures], dtype=np.float64)
    closest = float(neighbours.dist.min(initial=np.inf))
    return Batch(packed.pairs, conditions_of(model, frames, packed.atoms), natoms, labels, found, closest)


class Preparation:
    """Makes batches, and keeps those of a single frame for the next time until they fill `KEPT_BYTES`.

    Finding and packing neighbours costs as much as a tenth of a training step, and a frame is visited many times.
    """

    def __init__(self, model: Any, loss: EnerLoss) -> None:
        self._model, self._loss = model, loss
        self._kept: dict[tuple[str, int], Batch] = {}
        self._room = KEPT_BYTES

    def __call__(self, frames: Frames) -> Batch:
        """Return the batch of some frames; nobody may write to it."""
        key = (frames[0][0].path, int(frames[0][1]))
        if len(frames) == 1 and key in self._kept:
            return self._kept[key]
        batch = make_batch(self._model, self._loss, frames)
        arrays = (*vars(batch.pairs).values(), *batch.labels.values())
        size = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        if len(frames) == 1 and size <= self._room:
            self._kept[key] = batch
            self._room -= size
        return batch


def _label(name: str, frames: Frames, atoms: np.ndarray, available: bool, loss: EnerLoss) -> np.ndarray:
    if name in PER_FRAME:
        if not available:
            return np.zeros((len(frames), *PER_FRAME[name]))
        return np.stack([np.asarray(system.data[name][frame]) for system, frame in frames])
    if available:
        out = np.concatenate([system.data[name][frame] for system, frame in frames])[atoms]
    else:
        fill = 1.0 if name in ("atom_ener_coeff", "atom_pref") else 0.0
        out = np.full((len(atoms), *PER_ATOM[name]), fill)
    return out[:, None] * np.ones(3) if name == "atom_pref" else out

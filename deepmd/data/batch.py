"""Batches: neighbours, conditions and labels of frames as NumPy arrays, ready for any trainer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepmd.array_model.conditions import CONDITIONS, Conditions, find_problem
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.outputs import Output
from deepmd.data.neighbours import find_neighbours
from deepmd.data.packing import Packed, pack
from deepmd.data.systems import WIDTHS, System, Width
from deepmd.losses import Label, Loss


@dataclass(frozen=True)
class Batch:
    """One batch on the host, ready for any framework.

    Attributes
    ----------
    neighbours, conditions : input of the model; every real atom of the batch is a centre
    natoms_F : number of real atoms of each frame, float64
    labels : array of each name of `Loss.labels()`, atoms in the order of `neighbours`; `Label.missing` without data
    found : whether the data have the label of each term of the loss
    closest : shortest distance between two atoms, Angstrom
    weight : of its sums in a loss over several processes; 0 for a process without a frame of its own
    """

    neighbours: Neighbours
    conditions: Conditions
    natoms_F: np.ndarray
    labels: dict[str, np.ndarray]
    found: dict[str, bool]
    closest: float
    weight: float = 1.0


Frames = Sequence[tuple[System, int]]

KEPT_FRAMES, KEPT_BYTES = 1000, 2**26
"""Bounds of the cache of packed single frames, so that memory does not grow with the data (benchmarks/memory.py).

64 MiB hold 110 frames of 192 atoms.
"""


def data_of(model: Model, loss: Loss | None = None) -> dict[str, Width]:
    """Return {name: widths} of the data that a model and its loss read: conditions, labels, weights.

    Other files beside them are not opened, whatever they hold.
    """
    output: Output = model.output
    labels = {output.label: Label((output.width,)), output.atomic_label: Label((output.width,), per_atom=True)}
    if loss is not None:
        labels.update(loss.labels())
    widths = {name: math.prod(label.sizes) for name, label in labels.items()}
    return {
        **{name: WIDTHS[name] for name, (dim, _) in model.conditions.items() if dim},
        **({} if loss is None else {"numb_copy": WIDTHS["numb_copy"]}),
        **{name: (0, widths[name]) if label.per_atom else (widths[name], 0) for name, label in labels.items()},
    }


def read_conditions(model: Model, frames: Frames, atoms: np.ndarray) -> Conditions:
    """Return the conditions of a batch that the model asks for, with the model's default where a system has none."""

    def values(name: str, system: System, frame: int) -> np.ndarray:
        (width, default), array = model.conditions[name], system.data.get(name)
        if array is None and default is not None:
            return np.array(default, dtype=np.float64)
        if array is None or array.shape[-1] != width:
            given = "none" if array is None else f"{array.shape[-1]}"
            wanted = f"{width} values of {name} per {'atom' if CONDITIONS[name].per_atom else 'frame'}"
            raise InputError(f"{system.path}: the model needs {wanted}, {name}.npy has {given}")
        for row in array[frame].reshape(-1, width).tolist() if CONDITIONS[name].limits else ():
            if text := find_problem(name, row):
                raise InputError(f"{system.path}: {name}.npy, frame {system.number(frame)}: {text}")
        return np.asarray(array[frame])

    found = {name: [values(name, *item) for item in frames] for name, (width, _) in model.conditions.items() if width}
    return {
        name: np.concatenate(each)[atoms] if CONDITIONS[name].per_atom else np.stack(each)
        for name, each in found.items()
    }


def pack_frames(model: Model, frames: Frames, *, ordered: bool = True) -> Packed:
    """Find the neighbours of all real atoms of some frames, and pack them (`ordered`: see `pack`)."""
    layout = model.layout()
    structures = [system.structure(frame) for system, frame in frames]
    return pack(find_neighbours(structures, layout.rcut), layout, model.ntypes, ordered=ordered)


def make_batch(model: Model, loss: Loss, frames: Frames) -> Batch:
    """Find and pack neighbours, and collect the labels that the loss reads."""
    packed = pack_frames(model, frames)
    available = frozenset(name for name in loss.labels() if all(name in system.data for system, _ in frames))
    labels = {
        name: _label(name, shape, frames, packed.atoms, name in available) for name, shape in loss.labels().items()
    }
    found = loss.find_labelled(available)
    natoms = np.array([np.count_nonzero(system.types_of(frame) >= 0) for system, frame in frames], dtype=np.float64)
    return Batch(packed.neighbours, read_conditions(model, frames, packed.atoms), natoms, labels, found, packed.closest)


class Preparation:
    """Factory of batches with a cache of single-frame batches, for data of few frames.

    Finding and packing neighbours of 192 atoms takes 2.2 ms (docs/benchmarks.md#where-the-time-goes).
    """

    def __init__(self, model: Model, loss: Loss) -> None:
        self._model, self._loss = model, loss
        self._kept: dict[tuple[str, int], Batch] = {}
        self._room = KEPT_BYTES

    def __call__(self, frames: Frames) -> Batch:
        """Return the batch of some frames; callers must not write to the batch, because it may be cached."""
        key = (frames[0][0].path, frames[0][0].number(frames[0][1]))
        if len(frames) == 1 and key in self._kept:
            return self._kept[key]
        batch = make_batch(self._model, self._loss, frames)
        arrays = (*vars(batch.neighbours).values(), *batch.labels.values())
        size = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        if len(frames) == 1 and len(self._kept) < KEPT_FRAMES and size <= self._room:
            self._kept[key] = batch
            self._room -= size
        return batch


def _label(name: str, shape: Label, frames: Frames, atoms: np.ndarray, available: bool) -> np.ndarray:
    """Return a label of a batch: (F, ...) or, in the order of `atoms`, (A, ...); `shape.missing` if not available."""
    if not available:
        return np.full((len(atoms) if shape.per_atom else len(frames), *shape.sizes), shape.missing)
    if not shape.per_atom:
        return np.stack([np.asarray(system.data[name][frame]) for system, frame in frames])
    out: np.ndarray = np.concatenate([system.data[name][frame] for system, frame in frames])[atoms]
    return out[:, None] * np.ones(shape.sizes) if out.ndim == len(shape.sizes) else out  # one value for all components

"""What is in data: ranges, distances and doubtful frames (docs/commands.md#data)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.doubts import Doubt, find_doubts
from deepmd.data.neighbours import find_neighbours
from deepmd.data.selection import Selection
from deepmd.data.systems import System, count_types, elements_of

REACH = 4.0
"""Farthest pairs of atoms that are looked at, Angstrom."""

NAMES = ("energy", "force", "virial")


@dataclass(frozen=True)
class FrameFacts:
    """Numbers of one frame; NaN where a label is missing.

    Attributes
    ----------
    number : in its file
    counts : atoms of each element
    energy : of the frame, eV
    largest_force, drift : largest |F|, and |sum of F| / atoms, eV/Angstrom
    volume : of the cell, Angstrom^3
    pressure : tr(virial) / (3 volume), eV/Angstrom^3, without the motion of the atoms
    asymmetry : largest |W - W^T| relative to the largest |W|
    shortest : distance of each pair of elements that is nearer than `REACH`, Angstrom
    squares : sum of |F|^2 of each element, (eV/Angstrom)^2
    repeats : number of an earlier frame of the same positions and cell; None: none
    """

    number: int
    counts: np.ndarray
    energy: float = np.nan
    largest_force: float = np.nan
    drift: float = np.nan
    volume: float = np.nan
    pressure: float = np.nan
    asymmetry: float = np.nan
    shortest: dict[tuple[int, int], float] = field(default_factory=dict)
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    repeats: int | None = None

    @property
    def natoms(self) -> int:
        """Number of atoms."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class SystemFacts:
    """Facts of the readable frames of one system."""

    path: str
    num_frames: int
    periodic: bool
    labels: tuple[str, ...]
    frames: tuple[FrameFacts, ...]


@dataclass(frozen=True)
class DataFacts:
    """Facts of all systems, elements in the order in which they appear, and doubts."""

    elements: tuple[str, ...]
    systems: tuple[SystemFacts, ...]
    doubts: tuple[Doubt, ...]


def collect_facts(selection: Selection) -> DataFacts:
    """Read every frame of the systems once, and return what they hold. Memory grows by a few numbers a frame."""
    paths = selection.paths
    elements = elements_of(paths) or [f"Type_{number}" for number in range(count_types(paths))]
    systems, doubts = [], []
    for path in paths:
        system = selection.load(path, elements, NAMES)
        frames = []
        seen: dict[bytes, int] = {}
        for frame in range(system.num_frames):
            try:
                frames.append(_frame_facts(system, frame, len(elements), seen))
            except InputError as error:  # NaN, infinity, positions far out, crowds of neighbours
                doubts.append(Doubt(path, system.number(frame), str(error)))
        labels = tuple(name for name in NAMES if name in system.data)
        systems.append(SystemFacts(path, system.num_frames, system.cell is not None, labels, tuple(frames)))
    return DataFacts(tuple(elements), tuple(systems), (*doubts, *find_doubts(elements, systems)))


def _frame_facts(system: System, frame: int, ntypes: int, seen: dict[bytes, int]) -> FrameFacts:
    structure, number = system.structure(frame), system.number(frame)
    real = structure.types >= 0
    counts = np.bincount(structure.types[real], minlength=ntypes)
    facts: dict[str, object] = {}
    if "energy" in system.data:
        facts["energy"] = float(system.data["energy"][frame])
    if "force" in system.data:
        force = system.data["force"][frame][real]
        squares = np.einsum("nk,nk->n", force, force)
        facts["largest_force"] = float(np.sqrt(squares.max()))
        facts["drift"] = float(np.linalg.norm(force.mean(axis=0)))
        facts["squares"] = np.bincount(structure.types[real], squares, ntypes)
    if structure.cell is not None:
        facts["volume"] = volume = abs(float(np.linalg.det(structure.cell)))
        if "virial" in system.data:
            virial = system.data["virial"][frame].reshape(3, 3)
            facts["pressure"] = float(np.trace(virial)) / (3.0 * volume)
            facts["asymmetry"] = float(np.abs(virial - virial.T).max() / max(np.abs(virial).max(), 1e-12))
    cell = b"" if structure.cell is None else np.asarray(structure.cell).tobytes()
    key = np.asarray(structure.coord).tobytes() + cell + structure.types.tobytes()
    first = seen.setdefault(key, number)
    pairs = find_neighbours([structure], REACH)
    return FrameFacts(
        number,
        counts,
        shortest=dict(_shortest(pairs.types[pairs.i], pairs.types[pairs.j], pairs.dist)),
        repeats=None if first == number else first,
        **facts,  # type: ignore[arg-type]
    )


def _shortest(one: np.ndarray, other: np.ndarray, dist: np.ndarray) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield the shortest distance of each pair of types, the smaller type first."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    for pair in np.unique(np.stack([low, high], axis=1), axis=0).tolist():
        yield (pair[0], pair[1]), float(dist[(low == pair[0]) & (high == pair[1])].min())


def shortest_distances(systems: Sequence[SystemFacts]) -> dict[tuple[int, int], float]:
    """Return the shortest distance of each pair of elements in all frames, Angstrom."""
    out: dict[tuple[int, int], float] = {}
    for system in systems:
        for frame in system.frames:
            for pair, distance in frame.shortest.items():
                out[pair] = min(distance, out.get(pair, np.inf))
    return dict(sorted(out.items()))

"""Doubtful frames and systems: what labels and positions of real matter do not look like (docs/commands.md#doubts).

Outliers are judged against the other frames, by the median absolute deviation (MAD), which outliers do not move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from deepmd.data.facts import FrameFacts, SystemFacts

CLOSE = 0.5
"""Distance of two atoms, Angstrom, below which no ordinary matter is: H2 has 0.74."""

CLOSER = 0.6
"""Part of the median shortest distance of a pair of elements, below which a frame is doubtful."""

FEWEST = 10
"""Frames from which a median tells something."""

FAR = 10.0
"""Standard deviations, as estimated by the MAD, from which a value is an outlier."""

GPA = 160.21766
"""GPa in eV/Angstrom^3."""

MOST_PRESSURE = 100.0
"""Median |pressure|, GPa, from which the unit of the virial is doubtful."""

DRIFT = 0.01
"""|Sum of forces| / atoms, eV/Angstrom, and part of the largest force, from which forces are doubtful."""


class Doubt(NamedTuple):
    """A doubt about a frame of a system, or about the whole system (frame None)."""

    path: str
    frame: int | None
    reason: str


def find_doubts(elements: Sequence[str], systems: Sequence[SystemFacts]) -> Iterator[Doubt]:
    """Yield doubts about the frames of systems."""
    every = [(system, frame) for system in systems for frame in system.frames]
    typical = _typical_distances([frame for _, frame in every])
    for system, frame in every:
        for (one, other), distance in frame.shortest.items():
            usual = typical.get((one, other), 0.0)
            if distance < max(CLOSE, CLOSER * usual):
                text = f"{elements[one]} and {elements[other]} are {distance:.3f} Å apart"
                yield Doubt(system.path, frame.number, text + (f", usually {usual:.3f}" if usual else ""))
        if frame.repeats is not None:
            yield Doubt(system.path, frame.number, f"has the positions and the cell of frame {frame.repeats}")
        if frame.drift > DRIFT and frame.drift > DRIFT * frame.largest_force:
            text = f"forces do not cancel: their sum is {frame.drift:.3g} eV/Å per atom"
            yield Doubt(system.path, frame.number, text)
        if frame.asymmetry > DRIFT:
            yield Doubt(system.path, frame.number, f"virial is not symmetric: by {100 * frame.asymmetry:.2g} %")
    yield from _outliers(every)
    for system in systems:
        yield from _virial(system)
        forces = [frame.largest_force for frame in system.frames]
        if forces and max(forces) == 0.0:
            yield Doubt(system.path, None, "all forces are zero")


def _typical_distances(frames: Sequence[FrameFacts]) -> dict[tuple[int, int], float]:
    """Return the median of the shortest distances of each pair of elements that enough frames have."""
    found: dict[tuple[int, int], list[float]] = {}
    for frame in frames:
        for pair, distance in frame.shortest.items():
            found.setdefault(pair, []).append(distance)
    return {pair: float(np.median(each)) for pair, each in found.items() if len(each) >= FEWEST}


def _outliers(every: Sequence[tuple[SystemFacts, FrameFacts]]) -> Iterator[Doubt]:
    """Yield frames whose energy, largest force or pressure is far from that of the others."""
    frames = [frame for _, frame in every]
    energies = np.array([frame.energy for frame in frames])
    natoms = np.array([frame.natoms for frame in frames])
    known = np.isfinite(energies)
    excess = np.full(len(frames), np.nan)
    if known.any():  # what the composition does not explain
        counts = np.array([frame.counts for frame in frames], dtype=np.float64)[known] / natoms[known, None]
        per_atom = energies[known] / natoms[known]
        middle = np.median(per_atom)
        excess[known] = per_atom - middle - counts @ np.linalg.lstsq(counts, per_atom - middle, rcond=None)[0]
    forces = np.array([frame.largest_force for frame in frames])
    pressures = GPA * np.array([frame.pressure for frame in frames])
    rows = (  # name, values that are compared, values that are shown, unit, from what, downwards, too
        ("energy", excess, energies / natoms, "eV/atom", "from what its composition explains", True),
        ("largest force", forces, forces, "eV/Å", "above the median", False),
        ("pressure", pressures, pressures, "GPa", "from the median", True),
    )
    for name, values, shown, unit, reference, both in rows:
        known = np.isfinite(values)
        if np.count_nonzero(known) < FEWEST:
            continue
        away = values - np.median(values[known])
        width = 1.4826 * np.median(np.abs(away[known]))
        wrong = known & ((np.abs(away) if both else away) > FAR * width) & (width > 0.0)
        for k in np.flatnonzero(wrong).tolist():
            text = f"{name} {shown[k]:.4g} {unit} is an outlier: {away[k]:+.3g} {unit} {reference}"
            yield Doubt(every[k][0].path, every[k][1].number, f"{text}, usually within ±{width:.2g}")


def _virial(system: SystemFacts) -> Iterator[Doubt]:
    """Yield doubts about unit and sign of the virials of a system: matter under pressure shrinks."""
    pressure = GPA * np.array([frame.pressure for frame in system.frames])
    volume = np.array([frame.volume / frame.natoms for frame in system.frames])
    known = np.isfinite(pressure)
    if not known.any():
        return
    pressure, volume = pressure[known], volume[known]
    if (middle := np.median(np.abs(pressure))) > MOST_PRESSURE:
        text = f"pressures of {middle:.3g} GPa (median): is the unit of the virial eV, or of the stress eV/Å³?"
        yield Doubt(system.path, None, text)
    if len(volume) >= FEWEST and volume.std() > 0.01 * volume.mean() and pressure.std() > 0.0:
        trend = np.corrcoef(pressure, volume)[0, 1]
        if trend > 0.5:
            text = f"the pressure rises with the volume (correlation {trend:.2f}): is the sign of the virial right?"
            yield Doubt(system.path, None, text)

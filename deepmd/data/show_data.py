"""`dp data`: tables of what is in data (docs/commands.md#data)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from deepmd.data.doubts import GPA
from deepmd.data.facts import REACH, DataFacts, FrameFacts, SystemFacts, collect_facts, shortest_distances
from deepmd.data.selection import Selection

MOST_SYSTEMS, MOST_DOUBTS = 30, 40
"""Rows of the tables."""

WIDTH = 140
"""Characters of a line, where the output is no terminal."""


def show_data(selection: Selection) -> DataFacts:
    """Print what is in systems: tables of systems and elements, and doubtful frames with the reason."""
    facts = collect_facts(selection)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    frames = sum(system.num_frames for system in facts.systems)
    console.print(f"{frames} frames in {len(facts.systems)} systems, elements {' '.join(facts.elements)}")
    console.print(_systems(facts.systems), _elements(facts))
    _print_doubts(console, facts)
    return facts


def _systems(systems: Sequence[SystemFacts]) -> Table:
    table = Table(title="Systems", title_justify="left")
    for title in ("system", "frames", "atoms", "Å³/atom", "labels", "energy, eV/atom", "largest |F|, eV/Å"):
        table.add_column(title, justify="left" if title in ("system", "labels") else "right", overflow="fold")
    table.add_column("pressure, GPa", justify="right")
    shown = sorted(systems, key=lambda system: -system.num_frames)[:MOST_SYSTEMS]
    for system in (each for each in systems if each in shown):
        table.add_row(
            system.path,
            str(system.num_frames),
            _range([frame.natoms for frame in system.frames], "{:.0f}"),
            _range([frame.volume / frame.natoms for frame in system.frames]) if system.periodic else "open",
            ", ".join(system.labels) or "none",
            _range([frame.energy / frame.natoms for frame in system.frames], "{:.7g}"),
            _range([frame.largest_force for frame in system.frames]),
            _range([GPA * frame.pressure for frame in system.frames]),
        )
    if len(systems) > len(shown):
        table.caption = f"and {len(systems) - len(shown)} systems of fewer frames"
    return table


def _range(values: Sequence[float], form: str = "{:.4g}") -> str:
    known = np.array(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return "-"
    low, high = form.format(known.min()), form.format(known.max())
    return low if low == high else f"{low} … {high}"


def _elements(facts: DataFacts) -> Table:
    """Return a table of elements: their atoms, forces, and shortest distances to each other."""
    table = Table(title=f"Elements, and the shortest distances to others within {REACH:g} Å", title_justify="left")
    for title in ("element", "atoms", "rms |F|, eV/Å", *facts.elements):
        table.add_column(title, justify="left" if title == "element" else "right")
    frames = [frame for system in facts.systems for frame in system.frames]
    distances = shortest_distances(facts.systems)
    for kind, element in enumerate(facts.elements):
        pairs = [distances.get((min(kind, other), max(kind, other))) for other in range(len(facts.elements))]
        count = sum(int(frame.counts[kind]) for frame in frames)
        table.add_row(element, str(count), _force(frames, kind), *("-" if d is None else f"{d:.3f}" for d in pairs))
    return table


def _force(frames: Sequence[FrameFacts], kind: int) -> str:
    labelled = [frame for frame in frames if len(frame.squares)]
    count = sum(int(frame.counts[kind]) for frame in labelled)
    return f"{np.sqrt(sum(frame.squares[kind] for frame in labelled) / count):.4g}" if count else "-"


def _print_doubts(console: Console, facts: DataFacts) -> None:
    if not facts.doubts:
        console.print("No doubtful frame: no NaN, no outlier, no atoms on top of each other, virials plausible.")
    else:
        table = Table(title="Doubts", title_justify="left")
        for title in ("system", "frame", "reason"):
            table.add_column(title, justify="right" if title == "frame" else "left", overflow="fold")
        for doubt in facts.doubts[:MOST_DOUBTS]:
            table.add_row(doubt.path, "all" if doubt.frame is None else str(doubt.frame), doubt.reason)
        if len(facts.doubts) > MOST_DOUBTS:
            table.caption = f"and {len(facts.doubts) - MOST_DOUBTS} more"
        console.print(table)
    if any("virial" in system.labels for system in facts.systems):
        alike = all(np.ptp([frame.volume for frame in system.frames] or [0.0]) < 1e-6 for system in facts.systems)
        text = "sign of the virials: cannot be seen, because the volumes of a system are all alike"
        console.print(text if alike else "sign of the virials: seen only where volumes of a system differ by percents")

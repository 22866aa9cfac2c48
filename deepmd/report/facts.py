"""What the report page says besides its figures: tables of errors, data, speed, versions, and lines to type."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepmd.backends import BACKENDS
from deepmd.data.prediction_errors import QUANTITIES
from deepmd.data.systems import System
from deepmd.infer.deep_pot import DeepEval, DeepPot
from deepmd.infer.error_report import Comparison
from deepmd.io.formats import LAMMPS, WRITABLE
from deepmd.process import CPU
from deepmd.report.panels import BadFrame, number_text, rmse
from deepmd.version import __version__

Rows = list[tuple[str, ...]]
"""Rows of a table; the first one is its head."""

PACKAGES = ("numpy", "torch", "tensorflow", "tensorflow-cpu", "scipy", "vesin", "ase")

COLUMNS = (
    ("energy/natoms", "energy, meV/atom", 1e3),
    ("force", "force, eV/Å", 1.0),
    ("virial/natoms", "virial, meV/atom", 1e3),
)
"""Quantity, head and factor of the columns of errors of energy models."""


@dataclass
class Pace:
    """Steps and times of a running training, in the rows of its learning curve."""

    begin: float = field(default_factory=time.perf_counter)
    rows: list[tuple[int, float]] = field(default_factory=list)

    def on_row(self, step: int, *_: object) -> None:
        """Note the time of a row."""
        self.rows.append((step, time.perf_counter()))

    @property
    def ms_per_step(self) -> float:
        """Median of the time of a step between two rows, milliseconds; NaN of less than two rows."""
        pairs = zip(self.rows, self.rows[1:], strict=False)
        return float(
            np.median([1e3 * (end - start) / (last - first) for (first, start), (last, end) in pairs] or np.nan)
        )

    @property
    def seconds(self) -> float:
        """Time from the start of the training, its preparation included, to the last row."""
        return (self.rows[-1][1] if self.rows else time.perf_counter()) - self.begin


def duration(seconds: float) -> str:
    """Return a time as a reader says it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def system_errors(groups: Sequence[tuple[str, Sequence[Comparison]]], names: Callable[[str], str]) -> Rows:
    """Return RMSE and MAE of each system; `groups` are comparisons by what their data are for."""
    there = {name for _, found in groups for each in found for name in each.errors}
    columns = [row for row in COLUMNS if row[0] in there] or [
        (name, f"{name}, {QUANTITIES[name].unit}".rstrip(", "), 1.0) for name in QUANTITIES if name in there
    ]
    rows: Rows = [("system", "data", "frames", *(f"{title}" for _, title, _ in columns))]
    for purpose, found in groups:
        for each in found:
            cells = []
            for name, _, factor in columns:
                mae, square = each.errors.get(name, (np.nan, np.nan))
                cells.append(
                    f"{number_text(factor * square)} ({number_text(factor * mae)})" if square == square else "–"
                )
            rows.append((names(each.path), purpose, f"{len(each.frames):,}", *cells))
    return rows


def element_errors(comparisons: Sequence[Comparison]) -> Rows:
    """Return the errors of forces by element, and how large the forces are; [] without forces."""
    found: dict[str, list[np.ndarray]] = {}
    for each in comparisons:
        if "force" in each.pairs:
            for kind, element in enumerate(each.type_map):
                chosen = each.counted & (each.types == kind)
                if chosen.any():
                    found.setdefault(element, []).append(np.stack([values[chosen] for values in each.pairs["force"]]))
    if not found:
        return []
    rows: Rows = [("element", "forces", "RMSE, eV/Å", "MAE, eV/Å", "RMS of the labels, eV/Å", "RMSE / RMS")]
    for element, parts in found.items():
        label, predicted = np.concatenate(parts, axis=1)
        error, size = predicted - label, rmse(label)
        texts = [number_text(value) for value in (rmse(error), float(np.abs(error).mean()), size)]
        rows.append((element, f"{len(label):,}", *texts, f"{100 * rmse(error) / size:.1f} %" if size else "–"))
    return rows


def bad_frames(frames: Sequence[BadFrame], names: Callable[[str], str]) -> Rows:
    """Return a row for each frame."""
    head = ("system", "frame", "energy error, meV/atom", "force RMSE, eV/Å", "largest force error, eV/Å")
    rows: Rows = [head]
    for each in frames:
        known = each.force == each.force
        atom = f"{each.largest:.3g} (atom {each.atom}, {each.element})" if known else "–"
        energy = f"{each.energy:+.3g}" if each.energy == each.energy else "–"
        rows.append((names(each.path), str(each.frame), energy, f"{each.force:.3g}" if known else "–", atom))
    return rows


def data_summary(
    groups: Sequence[tuple[str, Sequence[System]]], elements: Sequence[str], name: Callable[[str], str]
) -> Rows:
    """Return what the systems hold; of large ones as far as 500 frames tell."""
    head = ("system", "data", "frames", "atoms", "composition", "energy, eV/atom", "largest force, eV/Å", "labels")
    rows: Rows = [head]
    for purpose, systems in groups:
        for system in systems:
            frames = some_frames(system.num_frames, 500)
            types = system.types_of(0)
            counts = {element: int(np.count_nonzero(types == kind)) for kind, element in enumerate(elements)}
            formula = "differs" if system.mixed else " ".join(f"{each}{n}" for each, n in counts.items() if n)
            atoms = np.array([np.count_nonzero(system.types_of(int(k)) >= 0) for k in frames])
            data = {each: np.asarray(values[frames]) for each, values in system.data.items() if each in LABELS}
            energy = "–"
            if "energy" in data:
                values = data["energy"].ravel() / np.maximum(atoms, 1)
                energy = f"{values.min():.4f} to {values.max():.4f}"
            force = "–"
            if "force" in data:
                force = f"{np.sqrt(np.sum(np.reshape(data['force'], (-1, 3)) ** 2, axis=1)).max():.2f}"
            labels = ", ".join([*data, *([] if system.cell is not None else ["no cell"])])
            count, size = f"{system.num_frames:,}", str(system.num_atoms)
            rows.append((name(system.path), purpose, count, size, formula, energy, force, labels))
    return rows


LABELS = ("energy", "force", "virial", "atom_ener", "dipole", "atom_dipole", "polarizability", "dos", "property")


def some_frames(count: int, most: int) -> np.ndarray:
    """Return at most `most` numbers of frames, evenly spread, because neighbours in a trajectory are alike."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).astype(int))


def device_text(potential: DeepEval) -> str:
    """Return where a model is evaluated."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS") or str(cores)
    where = potential.device if potential.device != CPU else f"{_processor()}, {threads} thread{'s' * (threads != '1')}"
    return f"{potential.backend} on {where}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> Rows:
    """Return names and versions of what has computed the page."""
    found = {"deepmd": __version__, "Python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return [("package", "version"), *found.items()]


def usage(potential: DeepEval, model: Path) -> list[tuple[str, str]]:
    """Return titles and lines to use the model: freezing, ASE, LAMMPS, Python."""
    elements = " ".join(potential.get_type_map())
    steps, file = [], model.name
    if model.suffix not in WRITABLE:
        messages = potential.model.layout().needs_neighbour_features  # which LAMMPS runs from a .pth only
        file = f"model{'.pth' if messages else BACKENDS[potential.backend].frozen}"
        prefix = str(model).removesuffix(".index")
        steps.append(("Make a model file of the checkpoint", f"dp freeze -c {shlex.quote(prefix)} -o {file}"))
    if not isinstance(potential, DeepPot):
        return [*steps, ("Compare with labels", f"dp test -m {shlex.quote(file)} -s DATA --plot")]
    steps.append(("ASE", _ASE.format(file=file, elements=elements.replace(" ", ", "))))
    if Path(file).suffix in LAMMPS:
        steps.append(("LAMMPS", _LAMMPS.format(file=file, elements=elements)))
    steps.append(("Compare with other labels", f"dp test -m {shlex.quote(file)} -s DATA --plot"))
    return steps


_ASE = """from ase import units
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from deepmd.calculator import DP

atoms = read("structure.xyz")  # your structure of {elements}
atoms.calc = DP("{file}")
print(atoms.get_potential_energy(), atoms.get_forces())  # eV, eV/Å

MaxwellBoltzmannDistribution(atoms, temperature_K=300)
VelocityVerlet(atoms, timestep=0.5 * units.fs, logfile="-", loginterval=20).run(1000)"""

_LAMMPS = """# LAMMPS with pair_style deepmd: pip install 'deepmd-kit[lmp]' in another environment
units       metal
atom_style  atomic
read_data   structure.data        # types in this order: {elements}
pair_style  deepmd {file}
pair_coeff  * * {elements}
timestep    0.0005                # ps"""

"""Train a model of water, test it on another trajectory, run it in ASE, and write a report.

python examples/water/demo.py [--steps N] [--md-steps N] [--output demo]
"""

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
QUANTITIES = ("energy", "force", "virial")
TEMPERATURE = 330.0
"""Temperature of the molecular dynamics, that of the training data, in K."""

STEPS = (
    (
        "train",
        "{steps:,} steps, 4 to 6 minutes on two cores; writes the report",
        "water_330b is held out: another trajectory",
    ),
    ("test", "on the held-out frames", "5 s"),
    ("convert", "to files of TensorFlow and NumPy, which give the same numbers", "30 s"),
    ("simulate", "{femtoseconds:g} fs at constant energy in ASE", "30 s"),
)
"""What the demo does: name, description, time on two cores."""

console = Console(soft_wrap=True, highlight=False)


def read_options(steps: int | None) -> dict[str, Any]:
    """Return the input of the training, with the paths of the data, and the number of steps if one is given."""
    options: dict[str, Any] = json.loads((HERE / "fast.json").read_text())
    training = options["training"]
    for section in ("training_data", "validation_data"):
        training[section]["systems"] = [str(HERE / name) for name in training[section]["systems"]]
    if steps is not None:
        training.update(numb_steps=steps, disp_freq=max(steps // 100, 1), save_freq=max(steps // 2, 1))
        options["learning_rate"].update(decay_steps=max(steps // 100, 1))
    return options


@contextlib.contextmanager
def step(number: int, **values: float) -> Iterator[None]:
    """Say which step begins, and how long it took."""
    name, text, note = STEPS[number]
    console.print(f"\n[{number + 1}/{len(STEPS)}] {name}: {text.format(**values)} ({note})", markup=False)
    begin = time.perf_counter()
    yield
    console.print(f"      {name} took {time.perf_counter() - begin:.0f} s")


def compare(files: list[Path], system: Path, type_map: list[str]) -> None:
    """Evaluate one system with every file; print the table."""
    from deepmd import DeepPot
    from deepmd.data.systems import load_system

    data = load_system(str(system), type_map)
    frames = slice(0, 10)
    assert data.cell is not None
    results, backends = {}, {}
    for file in files:
        potential = DeepPot(file)
        values = potential.eval(data.coord[frames], data.cell[frames], data.types)
        results[file.name] = dict(zip(QUANTITIES, values, strict=True))
        backends[file.name] = potential.backend
    first = results[files[0].name]
    table = Table(title=f"one model, three files, three backends: 10 frames of {system.name}")
    for heading in ("file", "backend", "energy of frame 0, eV", "largest force, eV/Å", "largest deviation, relative"):
        table.add_column(heading)
    for name, result in results.items():
        deviation = max(np.abs(result[q] - first[q]).max() / np.abs(first[q]).max() for q in QUANTITIES)
        numbers = result["energy"][0, 0], np.abs(result["force"]).max()
        table.add_row(name, backends[name], *(f"{number:.6f}" for number in numbers), f"{deviation:.1e}")
    Console(width=130).print(table)


def simulate(model: Path, system: Path, steps: int) -> np.ndarray:
    """Run steps of 0.5 fs at constant energy from the last frame of a system.

    Returns
    -------
    rows of time (fs), total energy per atom relative to the start (meV) and temperature (K)
    """
    from ase import Atoms, units
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
    from ase.md.verlet import VelocityVerlet

    from deepmd.calculator import DP

    coord, cell = (np.load(system / f"set.000/{name}.npy")[-1].reshape(-1, 3) for name in ("coord", "box"))
    types = np.loadtxt(system / "type.raw", dtype=int)
    atoms = Atoms(np.array(["O", "H"])[types], coord, cell=cell, pbc=True, calculator=DP(str(model)))
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(1))
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
    rows = []

    def note() -> None:
        rows.append((0.5 * dynamics.nsteps, 1e3 * atoms.get_total_energy() / len(atoms), atoms.get_temperature()))

    dynamics.attach(note, interval=max(steps // 400, 1))
    dynamics.run(steps)
    out = np.array(rows)
    out[:, 1] -= out[0, 1]
    return out


def draw_dynamics(rows: np.ndarray, target: Path) -> None:
    """Draw the total energy and the temperature against time."""
    from deepmd.report.libraries import COLOURS, new_figure, save_figure, tidy

    figure = new_figure(9, 3.2)
    energy, temperature = figure.subplots(1, 2)
    energy.plot(rows[:, 0], rows[:, 1], color=COLOURS[0], lw=1)
    energy.axhspan(-0.2, 0.2, color=COLOURS[0], alpha=0.08, lw=0)
    largest = np.abs(rows[:, 1]).max()
    energy.set(ylabel="total energy − start, meV/atom", title=f"largest deviation {largest:.2g} meV/atom")
    energy.set_ylim(-max(0.5, 1.2 * largest), max(0.5, 1.2 * largest))
    temperature.plot(rows[:, 0], rows[:, 2], color=COLOURS[1], lw=1)
    temperature.set(ylabel="temperature, K", title=f"mean {rows[:, 2].mean():.0f} K")
    for axis in (energy, temperature):
        axis.set_xlabel("time, fs")
        tidy(axis)
    save_figure(figure, target)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="steps of the training (default: those of fast.json)")
    parser.add_argument("--md-steps", type=int, default=2000, help="steps of 0.5 fs (default: 2000)")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    args = parser.parse_args()
    options = read_options(args.steps)
    values = {"steps": options["training"]["numb_steps"], "femtoseconds": 0.5 * args.md_steps}
    held_out = Path(options["training"]["validation_data"]["systems"][0])
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    (output / "input.json").write_text(json.dumps(options, indent=4))
    console.print(
        f"A Deep Potential of water from GFN1-xTB, in {len(STEPS)} steps, five to seven minutes on two cores:"
    )
    for name, text, note in STEPS:
        console.print(f"  {name}: {text.format(**values)} ({note})")

    from deepmd.cli import main as dp
    from deepmd.io import convert

    def run(*words: str) -> None:
        if dp(list(words)):
            raise SystemExit(f"dp {' '.join(words)} failed")

    with contextlib.chdir(output):
        with step(0, **values):
            run("--pt", "train", "input.json", "--report")
            run("plot", "lcurve.out", "-o", "learning_curve.png")
        with step(1):
            run("freeze", "-o", "water.pth")
            run("test", "-m", "water.pth", "-s", str(held_out), "--plot", "parity.png")
        with step(2):
            files = [Path("water.pth"), Path("water.pb"), Path("water.dp")]
            for file in files[1:]:
                convert(files[0], file)
            compare(files, held_out, options["model"]["type_map"])
        with step(3, **values):
            rows = simulate(files[0], held_out, args.md_steps)
            draw_dynamics(rows, Path("dynamics.png"))
            console.print(
                f"      total energy within {np.abs(rows[:, 1]).max():.2g} meV/atom, mean temperature "
                f"{rows[:, 2].mean():.0f} K over {rows[-1, 0]:g} fs"
            )
    relative = os.path.relpath(output)
    console.print(f"\nModel: {relative}/water.pth, .pb, .dp. Pictures: learning_curve.png, parity.png, dynamics.png")
    console.print(f"Report, to open in a browser:\n{relative}/report.html")


if __name__ == "__main__":
    main()

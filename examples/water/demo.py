"""Train on the shipped water data, freeze, test, convert, and compare the three files; writes a table and two plots.

python examples/water/demo.py [--steps 400] [--output demo]
"""

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.table import Table

from deepmd.data.systems import System

HERE = Path(__file__).resolve().parent
QUANTITIES = ("energy", "force", "virial")


def learning_curve(source: Path, target: Path) -> None:
    """Plot energy, force and virial errors of an lcurve.out."""
    from matplotlib import pyplot as plt

    rows = np.genfromtxt(source, names=True, skip_footer=0)
    panels = {"rmse_e": "energy, eV/atom", "rmse_f": "force, eV/Å", "rmse_v": "virial, eV/atom"}
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        axis.loglog(rows["step"], rows[f"{name}_trn"], lw=1, label="training batch")
        axis.loglog(rows["step"], rows[f"{name}_val"], lw=1, label="validation")
        axis.set(xlabel="step", ylabel=f"RMSE of {label}")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(target, dpi=130)


def parity(labels: dict[str, Any], predictions: dict[str, Any], natoms: int, target: Path) -> None:
    """Plot predictions against labels."""
    from matplotlib import pyplot as plt

    units = {"energy": "energy, eV/atom", "force": "force, eV/Å", "virial": "virial, eV/atom"}
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for axis, name in zip(axes, QUANTITIES, strict=True):
        scale = 1 if name == "force" else natoms
        x, y = labels[name].ravel() / scale, predictions[name].ravel() / scale
        axis.plot(x, y, ".", ms=2, alpha=0.4, rasterized=True)
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axis.plot(ends, ends, lw=0.8, color="black")
        axis.set(
            xlabel=f"reference {units[name]}", ylabel="prediction", title=f"RMSE {np.sqrt(np.mean((x - y) ** 2)):.4f}"
        )
    figure.savefig(target, dpi=130)


def compare(files: list[Path], system: System) -> dict[str, Any]:
    """Evaluate one system with every file; print the table and return the predictions of the first file."""
    from deepmd import DeepPot

    results, backends = {}, {}
    for file in files:
        potential = DeepPot(file)
        values = potential.eval(system.coord, system.cell, system.types)
        results[file.name] = dict(zip(QUANTITIES, values, strict=True))
        backends[file.name] = potential.backend
    first = results[files[0].name]
    table = Table(
        title=f"{len(system.coord)} frames of {Path(system.path).name}: one model, three files, three backends"
    )
    headings = (
        "file",
        "backend",
        "energy of frame 0, eV",
        "largest force, eV/Å",
        "virial xx of frame 0, eV",
        "largest deviation, relative",
    )
    for heading in headings:
        table.add_column(heading)
    for name, result in results.items():
        deviation = max(np.abs(result[q] - first[q]).max() / np.abs(first[q]).max() for q in QUANTITIES)
        numbers = result["energy"][0, 0], np.abs(result["force"]).max(), result["virial"][0, 0]
        table.add_row(name, backends[name], *(f"{number:.10f}" for number in numbers), f"{deviation:.1e}")
    Console(width=150).print(table)
    return first


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("demo"))
    args = parser.parse_args()
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")

    options = json.loads((HERE / "input.json").read_text())
    training = options["training"]
    training.update(numb_steps=args.steps, disp_freq=max(args.steps // 20, 1), save_freq=max(args.steps // 2, 1))
    training["training_data"]["systems"] = [str(HERE / name) for name in training["training_data"]["systems"]]
    training["validation_data"]["systems"] = [str(HERE / name) for name in training["validation_data"]["systems"]]
    options["learning_rate"].update(start_lr=3e-3, stop_lr=3e-5, decay_steps=max(args.steps // 40, 1))
    (output / "input.json").write_text(json.dumps(options, indent=4))

    from deepmd.cli import main as dp
    from deepmd.data.systems import load_system
    from deepmd.io import convert

    def run(*words: str) -> None:
        if dp(list(words)):
            raise SystemExit(f"dp {' '.join(words)} failed")

    with contextlib.chdir(output):
        run("--pt", "train", "input.json")
        run("freeze", "-o", "water.pth")
        run("test", "-m", "water.pth", "-s", training["validation_data"]["systems"][0], "-n", "20")
        files = [Path("water.pth"), Path("water.pb"), Path("water.dp")]
        for file in files[1:]:
            convert(files[0], file)
        system = load_system(training["validation_data"]["systems"][0], options["model"]["type_map"])
        predictions = compare(files, system)
        learning_curve(Path("lcurve.out"), Path("learning_curve.png"))
        parity(
            {name: np.asarray(each) for name, each in system.data.items()},
            predictions,
            system.num_atoms,
            Path("parity.png"),
        )
    relative = os.path.relpath(output)
    Console().print(
        f"Written: {relative}/learning_curve.png, {relative}/parity.png, {relative}/water.pth, .pb, .dp", soft_wrap=True
    )


if __name__ == "__main__":
    main()

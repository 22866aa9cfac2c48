"""Compare uncertainties with true errors on water: the spread of models, and the prediction rigidity of one.

    python compare.py [--models 3] [--steps 3000] [--output .]

Trains models that differ in their seeds on 80 frames at 330 K, calibrates on 40 frames of another trajectory, and
compares on its other 40 frames and on 80 frames of hot, denser water (600 K) that no model has seen. Models that are
already in the folder are taken as they are. Writes uncertainty.png and prints the table of docs/theory/uncertainty.md.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.data.systems import System, load_system
from deepmd.infer import DeepPot
from deepmd.infer.fit_uncertainty import Agreement, fit

DATA = Path(__file__).resolve().parent.parent / "water" / "data"


def train(folder: Path, seed: int, steps: int) -> Path:
    """Train and freeze one model unless it is there."""
    target = folder / f"m{seed}.pth"
    if target.exists():
        return target
    net: dict[str, Any] = {"precision": "float32", "seed": seed}
    tree = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {
                "type": "se_e2_a", "sel": [46, 92], "rcut_smth": 0.5, "rcut": 6.0, "neuron": [16, 32, 64],
                "axis_neuron": 8, "type_one_side": True, **net,
            },
            "fitting_net": {"neuron": [64, 64, 64], "resnet_dt": True, **net},
        },
        "learning_rate": {"type": "exp", "start_lr": 4e-3, "stop_lr": 1e-6, "decay_steps": 50},
        "loss": {
            "type": "ener", "start_pref_e": 0.02, "limit_pref_e": 50, "start_pref_f": 1000, "limit_pref_f": 5,
            "start_pref_v": 0.02, "limit_pref_v": 5,
        },
        "training": {
            "training_data": {"systems": [str(DATA / "water_330a")], "batch_size": 1},
            "numb_steps": steps, "seed": seed, "disp_freq": 500, "save_freq": steps, "save_ckpt": f"m{seed}",
            "disp_file": f"lcurve{seed}.out",
        },
    }  # fmt: skip
    (folder / f"in{seed}.json").write_text(json.dumps(tree, indent=1))
    dp = [sys.executable, "-m", "deepmd", "--pt"]
    subprocess.run([*dp, "train", f"in{seed}.json"], cwd=folder, check=True)
    subprocess.run([*dp, "freeze", "-c", f"m{seed}-{steps}.pt", "-o", target.name], cwd=folder, check=True)
    return target


def part(system: System, rows: slice) -> System:
    """Return some frames of a system."""
    data = {name: values[rows] for name, values in system.data.items()}
    cell = None if system.cell is None else system.cell[rows]
    return replace(system, coord=system.coord[rows], cell=cell, data=data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--output", type=Path, default=Path())
    args = parser.parse_args()
    files = [train(args.output.resolve(), seed, args.steps) for seed in range(1, args.models + 1)]
    potentials = [DeepPot(file) for file in files]

    trained, other, hot = (
        load_system(str(DATA / name), ["O", "H"], ("energy", "force"))
        for name in ("water_330a", "water_330b", "water_600")
    )
    held, tests = part(other, slice(0, None, 2)), {"330 K": part(other, slice(1, None, 2)), "600 K": hot}
    rigidity = fit(potentials[0], [trained], [held])
    rigidity.save(args.output / "m1.uncertainty.npz")

    def ensemble(system: System) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return error and spread of energies (F,), and norms of them for forces (F, n)."""
        out = [each.eval(system.coord, system.cell, system.types) for each in potentials]
        energy, force = np.array([each[0][:, 0] for each in out]), np.array([each[1] for each in out])
        label = np.asarray(system.data["force"]).reshape(force.shape[1:])
        return (
            energy.mean(axis=0) - np.asarray(system.data["energy"]).reshape(-1),
            energy.std(axis=0),
            np.linalg.norm(force.mean(axis=0) - label, axis=2),
            np.linalg.norm(force.std(axis=0), axis=2),
        )

    error, std, force_error, force_std = ensemble(held)
    scale, force_scale = np.sqrt(np.mean((error / std) ** 2)), np.sqrt(np.mean(force_error**2) / np.mean(force_std**2))
    print(
        f"scale from held-out frames: rigidity {rigidity.scale:.2f}, ensemble {scale:.2f}, its forces {force_scale:.2f}"
    )
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, system in tests.items():
        own = potentials[0].eval(system.coord, system.cell, system.types)[0][:, 0]
        width = potentials[0].system_std(system, args.output / "m1.uncertainty.npz")[0][:, 0]
        error, std, force_error, force_std = ensemble(system)
        found[name] = {
            "rigidity, energy": (own - np.asarray(system.data["energy"]).reshape(-1), width),
            f"{args.models} models, energy": (error, std),
            f"{args.models} models, energy, scaled": (error, scale * std),
            f"{args.models} models, force": (force_error.ravel(), force_std.ravel()),
            f"{args.models} models, force, scaled": (force_error.ravel(), force_scale * force_std.ravel()),
        }
    print("| | frames | RMSE | predicted | rank correlation | within σ | within 2 σ |\n|---|---|---|---|---|---|---|")
    for measure in found["330 K"]:
        both = tuple(np.concatenate([found[name][measure][k] for name in found]) for k in (0, 1))
        for name, (errors, widths) in [*((name, each[measure]) for name, each in found.items()), ("both", both)]:
            _, rmse, predicted, rank, one, two = Agreement.of(errors, widths)
            print(f"| {measure} | {name} | {rmse:.3f} | {predicted:.3f} | {rank:.2f} | {one:.0%} | {two:.0%} |")
    draw(found, args.models, args.output / "uncertainty.png")


def draw(found: dict[str, Any], models: int, target: Path) -> None:
    """Draw true errors against predicted standard deviations."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    panels = ["rigidity, energy", f"{models} models, energy, scaled", f"{models} models, force, scaled"]
    for axis, measure in zip(axes, panels, strict=True):
        unit, ends = "eV/Å" if "force" in measure else "eV", []
        for name, each in reversed(found.items()):
            errors, widths = np.abs(each[measure][0]), each[measure][1]
            chosen = np.random.default_rng(0).permutation(len(errors))[:1500]
            axis.loglog(widths[chosen], errors[chosen], ".", ms=3 if "force" in measure else 6, alpha=0.5, label=name)
            ends += [widths.min(), widths.max()]
        line = np.array([min(ends), max(ends)])
        axis.loglog(line, line, color="black", lw=1, label="error = σ")
        axis.loglog(line, 2 * line, color="black", lw=1, ls=":", label="error = 2 σ")
        axis.set(title=measure, xlabel=f"predicted σ, {unit}", ylabel=f"true error, {unit}")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    main()

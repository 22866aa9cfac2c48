"""Train each descriptor on the same data for the same number of steps: errors on held-out frames, and times.

python benchmarks/accuracy.py [--steps 2000] [--only se_e2_a dpa1]

Nets are those of `dp init --size small`. The table goes to docs/which_descriptor.md. Rows are measured one after the
other on one machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from sides import ROOT

import deepmd
from deepmd.data.systems import System, find_systems, load_system
from deepmd.io.atomic import write_text

DESCRIPTORS = ("se_e2_a", "se_e2_r", "dpa1", "dpa2", "dpa3")
PAGE = ROOT / "docs/which_descriptor.md"
BEGIN, END = "<!-- written by benchmarks/accuracy.py -->\n", "<!-- end -->\n"


def time_of_evaluation(model: Any, system: System) -> float:
    """Return seconds of an evaluation of one frame: the median of 20, after two to warm up."""
    frame = system.coord[:1], None if system.cell is None else system.cell[:1], np.asarray(system.types)
    samples = []
    for _ in range(22):
        start = time.perf_counter()
        model.eval(*frame)
        samples.append(time.perf_counter() - start)
    return statistics.median(samples[2:])


def measure(descriptor: str, args: argparse.Namespace) -> dict[str, float]:
    """Train a descriptor; return what the table says of it."""
    folder = args.work / f"accuracy-{descriptor}-{args.steps}"
    start = time.perf_counter()
    result = deepmd.train(
        data=args.data,
        validation=args.validation,
        descriptor=descriptor,
        steps=args.steps,
        backend="torch",
        folder=folder,
        quiet=True,
    )
    seconds = time.perf_counter() - start
    system = load_system(find_systems(str(args.validation))[0], result.input["model"]["type_map"])
    model = deepmd.DeepPot(result.freeze(folder / "model.pth"))
    return {
        "energy": 1e3 * result.errors["energy/natoms"]["rmse"],
        "force": result.errors["force"]["rmse"],
        "training": 1e3 * seconds / args.steps,
        "evaluation": 1e6 * time_of_evaluation(model, system) / len(system.types),
    }


def write_table(rows: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    """Write the table into its page."""
    lines = [
        "| descriptor | energy, meV/atom | force, eV/Å | training, ms/step | evaluation, µs/atom |",
        "|---|---|---|---|---|",
        *(
            f"| `{name}` | {row['energy']:.2f} | {row['force']:.3f} | {row['training']:.0f} | {row['evaluation']:.0f} |"
            for name, row in rows.items()
        ),
        "",
        f"RMSE on held-out water after {args.steps} steps; torch, `dp init --size small`. Training includes its start.",
        "",
    ]
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    write_text(PAGE, before + BEGIN + "\n".join(lines) + END + after)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="updates of each training")
    parser.add_argument("--only", nargs="+", default=list(DESCRIPTORS), choices=DESCRIPTORS, metavar="NAME")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/water/data", help="training data")
    parser.add_argument(
        "--validation", type=Path, default=ROOT / "examples/water/data/water_330b", help="held-out data"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build/benchmarks", help="folder of the trainings")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/accuracy.json")
    args = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for name in args.only:
        rows[name] = measure(name, args)
        print(name, rows[name], flush=True)
        args.output.write_text(json.dumps({"steps": args.steps, "rows": rows}, indent=1) + "\n")
    write_table(rows, args)


if __name__ == "__main__":
    main()

"""Measure molecular dynamics in LAMMPS with our files and with those of DeePMD-kit, in turn: milliseconds per step.

python benchmarks/lammps.py [--rounds 5] [--steps 200] [--sizes 192 1536]
(DEEPMD_KIT_ENV names the environment with bin/lmp)

Every file holds the same weights and runs in the same LAMMPS. The first steps, in which graphs are compiled, are timed
apart. The results are a JSON file: of each row the samples of every contestant (ms/step, first steps in seconds, peak
memory, load of the machine).
"""

import argparse
import json
import os
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from prepare import Workplace
from sides import ROOT, Side, machine, ours, run, theirs

LIMIT = 3600.0
FIRST = 10
TRAINING = 3000
"""Steps of the training. A hardly trained model leaves the domain of its expansions after some 60 steps of dynamics."""
RUNS = {"2 threads": (1, 2), "2 ranks, 1 thread each": (2, 1)}
"""Ranks and threads."""

CONTESTANTS = {
    "ours .pth": ("ours", "model.pth"),
    "ours compressed .pth": ("ours", "compressed.pth"),
    "ours .pb": ("ours", "model.pb"),
    "ours compressed .pb": ("ours", "compressed.pb"),
    "ours .savedmodel": ("ours", "model.savedmodel"),
    "DeePMD-kit .pth": ("theirs", "model.pth"),
    "DeePMD-kit .pb": ("theirs", "model.pb"),
    "DeePMD-kit compressed .pb": ("theirs", "compressed.pb"),
}

INPUT = """
units metal
boundary p p p
atom_style atomic
neighbor 2.0 bin
neigh_modify every 10 delay 0 check no
read_data {data}
mass 1 15.999
mass 2 1.008
pair_style deepmd {model}
pair_coeff * * O H
velocity all create 330.0 12345
fix 1 all nve
timestep 0.0005
thermo_style custom step pe etotal
run {first}
run {steps}
"""


def write_structure(source: Path, target: Path) -> None:
    """Write a structure for LAMMPS."""
    arrays = np.load(source)
    cell = arrays["cell"].reshape(3, 3)
    if np.abs(cell - np.diag(np.diag(cell))).max() > 0.0:
        raise SystemExit(f"{source}: LAMMPS is measured with rectangular cells only")
    coord = arrays["coord"].reshape(-1, 3) % np.diag(cell)
    lines = ["water", "", f"{len(coord)} atoms", "2 atom types", ""]
    lines += [f"0.0 {float(cell[k, k])!r} {axis}lo {axis}hi" for k, axis in enumerate("xyz")] + [
        "",
        "Atoms # atomic",
        "",
    ]
    rows = zip(arrays["types"].tolist(), coord.tolist(), strict=True)
    lines += [f"{k + 1} {t + 1} {x!r} {y!r} {z!r}" for k, (t, (x, y, z)) in enumerate(rows)]
    target.write_text("\n".join(lines) + "\n")


def measure(
    place: Workplace, kit: Side, model: Path, natoms: int, ranks: int, threads: int, steps: int
) -> dict[str, Any]:
    """Return milliseconds of a step and seconds of the first ones, or why there are none."""
    before = {"load_average": round(os.getloadavg()[0], 2)}
    if not model.exists():
        return {**before, "error": f"{model.name} was not made"}
    folder = place.folder / "lammps"
    folder.mkdir(exist_ok=True)
    data = folder / f"{natoms}.data"
    if not data.exists():
        write_structure(place.structure(natoms), data)
    (folder / "in.lammps").write_text(INPUT.format(data=data, model=model, first=FIRST, steps=steps))
    bin_folder = Path(kit.python).parent
    if not (bin_folder / "lmp").exists():
        return {**before, "error": f"no {bin_folder}/lmp: LAMMPS comes with 'deepmd-kit[lmp]'"}
    environment = kit.environment(threads)
    environment["PATH"] = f"{bin_folder}:{environment['PATH']}"
    start = [] if ranks == 1 else [str(bin_folder / "mpiexec"), "-n", str(ranks)]
    try:
        _, memory = run([*start, str(bin_folder / "lmp"), "-in", "in.lammps"], environment, folder, LIMIT)
    except RuntimeError as error:
        return {**before, "error": str(error)}
    seconds = [float(word) for word in re.findall(r"Loop time of (\S+)", (folder / "log.lammps").read_text())]
    return {**before, "value": 1e3 * seconds[1] / steps, "first": seconds[0], "peak_memory": memory}


def report(rows: dict[str, Any]) -> None:
    """Print the medians, and how many times faster our `.pth` is, round by round."""
    for name, contestants in rows.items():
        values = {
            who: [sample["value"] for sample in samples if "value" in sample] for who, samples in contestants.items()
        }
        print(f"\n{name}")
        for who, each in values.items():
            text = (
                f"{statistics.median(each):8.1f} ms/step"
                if each
                else contestants[who][0]["error"]
                if contestants[who]
                else "-"
            )
            ratios = [theirs / own for own, theirs in zip(values["ours .pth"], each, strict=False)]
            if who.startswith("DeePMD-kit") and ratios:
                middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
                text += f"   ours .pth is {middle:.2f} times faster ({least:.2f} to {most:.2f})"
            print(f"  {who:26s} {text}")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="steps that count, after the first ones")
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 1536], help="numbers of atoms: 192 times a cube")
    parser.add_argument(
        "--only", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS), metavar="NAME", help="contestants"
    )
    parser.add_argument(
        "--runs", nargs="+", default=list(RUNS), choices=list(RUNS), metavar="RUN", help=" or ".join(map(repr, RUNS))
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/lammps.json")
    parser.add_argument("--work", type=Path, default=ROOT / "build/benchmarks", help="folder for data and models")
    parser.add_argument("--quick", action="store_true", help="train the model for a few steps only")
    args = parser.parse_args()
    own, kit = ours(), theirs()
    if kit is None or not (Path(kit.python).parent / "lmp").exists():
        raise SystemExit(
            "LAMMPS comes with DeePMD-kit: DEEPMD_KIT_ENV must name an environment with 'deepmd-kit[cpu,torch,lmp]'"
        )
    place = Workplace(args.work, None, args.quick, steps=TRAINING)
    place.prepare_ours(own, 2)
    run([*own.dp, "convert-backend", "model.dp", "model.savedmodel"], own.environment(2), place.folder / "ours", LIMIT)
    place.prepare_theirs(kit)
    rows: dict[str, Any] = {
        f"{natoms} atoms, {name}": {who: [] for who in args.only} for natoms in args.sizes for name in args.runs
    }
    content = {"machine": machine(own, kit), "settings": {"steps": args.steps, "first": FIRST}, "rows": rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for number in range(args.rounds):
        for natoms in args.sizes:
            for name in args.runs:
                print(f"-- round {number + 1} of {args.rounds}: {natoms} atoms, {name}", flush=True)
                for who in args.only:
                    side, target = CONTESTANTS[who]
                    sample = measure(place, kit, place.folder / side / target, natoms, *RUNS[name], args.steps)
                    print(f"{who:26s} {sample.get('value', sample.get('error'))}", flush=True)
                    rows[f"{natoms} atoms, {name}"][who].append(sample)
                    args.output.write_text(json.dumps(content, indent=1) + "\n")
    report(rows)


if __name__ == "__main__":
    main()

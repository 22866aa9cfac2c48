"""Memory and time to the first step of a training by number of frames, and the cost of neighbour statistics.

python benchmarks/memory.py [--frames 1000] [--times 1 100] [--atoms 192] ...

Sets of `--frames` frames are hard links to one set, so that `--times 2200` is 20 GB of frames on 10 MB of disk.
Anonymous memory (RssAnon) is that of the process alone; pages of mapped files belong to the system.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.data.statistics import neighbour_statistics
from deepmd.data.systems import load_system

SPACING = 2.2
"""Distance of atoms on the grid, Angstrom."""

CUTOFF = 6.0
NAMES = ("coord", "box", "energy", "force", "virial")
POLL_SECONDS = 0.01


def write_set(folder: Path, frames: int, natoms: int) -> None:
    """Write a system with one set: O and H atoms near the points of a cubic grid."""
    side = int(np.ceil(natoms ** (1.0 / 3.0)))
    grid = SPACING * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:natoms]
    rng = np.random.default_rng(0)
    arrays = {
        "coord": grid + rng.normal(0.0, 0.1, (frames, natoms, 3)),
        "box": np.tile(SPACING * side * np.eye(3), (frames, 1, 1)),
        "energy": rng.normal(-natoms, 1.0, frames),
        "force": rng.normal(size=(frames, natoms, 3)),
        "virial": rng.normal(size=(frames, 3, 3)),
    }
    (folder / "set.0000").mkdir(parents=True)
    for name in NAMES:
        np.save(folder / f"set.0000/{name}.npy", arrays[name].reshape(frames, -1))
    np.savetxt(folder / "type.raw", np.arange(natoms) % 3 > 0, fmt="%d")
    (folder / "type_map.raw").write_text("O H\n")


def repeat_set(source: Path, folder: Path, times: int) -> float:
    """Write a system whose sets are hard links to the set of another system; return the GB of its frames."""
    size = 0
    for number in range(times):
        part = folder / f"set.{number:04d}"
        part.mkdir(parents=True)
        for name in NAMES:
            os.link(source / f"set.0000/{name}.npy", part / f"{name}.npy")
            size += (part / f"{name}.npy").stat().st_size
    for name in ("type.raw", "type_map.raw"):
        shutil.copy(source / name, folder)
    return size / 1e9


def train(folder: Path, data: Path, steps: int, backend: str) -> tuple[float, float, float]:
    """Train; return the peak of RssAnon in MB, and seconds and processor time to the row of the first step."""
    tree: dict[str, Any] = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {"type": "se_e2_a", "sel": [46, 92], "rcut": CUTOFF, "rcut_smth": 0.5, "neuron": [5, 10]},
            "fitting_net": {"neuron": [24, 24], "seed": 1},
        },
        "learning_rate": {"start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {},
        "training": {
            "training_data": {"systems": [str(data)], "batch_size": 1},
            "numb_steps": steps,
            "seed": 1,
            "disp_freq": steps,
            "save_freq": steps,
        },
    }
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "input.json").write_text(json.dumps(tree))
    curve, peak, first, work = folder / "lcurve.out", 0.0, 0.0, 0.0
    command = [sys.executable, "-m", "deepmd", f"--{backend}", "train", "--skip-neighbor-stat", "input.json"]
    begin = time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            if not first and curve.exists() and len(curve.read_text().splitlines()) > 1:
                first, work = time.perf_counter() - begin, _processor_time(process.pid)
            time.sleep(POLL_SECONDS)
    if process.returncode or not first:
        raise SystemExit(f"the training failed:\n{(folder / 'log').read_text()[-2000:]}")
    return peak, first, work


def _processor_time(pid: int) -> float:
    """Return the processor time of a process and its threads, s."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _anonymous(pid: int) -> float:
    """Return the anonymous resident memory of a process, MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return sum(float(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000, help="frames of a set")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 100], help="numbers of sets to compare")
    parser.add_argument("--atoms", type=int, default=192)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each; the least time counts")
    parser.add_argument("--backend", default="torch", choices=("torch", "tf"))
    parser.add_argument("--work", type=Path, help="folder for the data; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        place = Path(name)
        write_set(place / "data-0", options.frames, options.atoms)
        sizes = {times: repeat_set(place / "data-0", place / f"data-{times}", times) for times in options.times}
        rows: dict[int, list[tuple[float, float, float]]] = {times: [] for times in options.times}
        for _ in range(options.rounds):
            for times, found in rows.items():
                found.append(train(place / "run", place / f"data-{times}", options.steps, options.backend))
        print(f"| frames of {options.atoms} atoms | GB | memory, MB | to the first step, s | processor time, s |")
        print("|---:|---:|---:|---:|---:|")
        for times, found in rows.items():
            peaks, firsts, works = zip(*found, strict=True)
            row = (f"{times * options.frames:,}", f"{sizes[times]:.2f}", f"{max(peaks):.0f}")
            print("|", " | ".join((*row, f"{min(firsts):.2f}", f"{min(works):.2f}")), "|")
        system = load_system(place / "data-0", ["O", "H"], ())
        begin = time.perf_counter()
        neighbour_statistics([system], [CUTOFF], 2)
        cost = 1e3 * (time.perf_counter() - begin) / system.num_frames
        print(f"neighbour statistics within {CUTOFF} Angstrom: {cost:.2f} ms a frame")


if __name__ == "__main__":
    main()

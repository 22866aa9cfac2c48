"""One measurement: one process, and what it took."""

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from prepare import Workplace
from rows import Contestant, Row
from sides import Side, run

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

    The load of the machine before it in any case.
    """
    before = {"load_average": round(os.getloadavg()[0], 2)}
    model = place.folder / side.name / contestant.target
    if row.kind != "train" and not model.exists():
        return {**before, "error": place.missing.get((side.name, contestant.target), f"{model} was not made")}
    environment = side.environment(row.threads or threads, contestant.allocator)
    try:
        if row.kind == "train":
            return before | _train(row, contestant, side, environment, place, quick)
        structure = place.structure(row.natoms)
        if row.kind == "cold":
            return before | _cold(
                [side.python, "-c", COLD, str(model), str(structure)], environment, place.folder / "cold"
            )
        return before | _evaluate(
            [side.python, str(WORKER), str(model), str(structure)], environment, place.folder / "evaluate", quick
        )
    except RuntimeError as error:
        return {**before, "error": str(error)}


def _train(
    row: Row, contestant: Contestant, side: Side, environment: dict[str, str], place: Workplace, quick: bool
) -> dict[str, Any]:
    """Time per step between two rows of the learning curve, as they appear in the file: one clock for every program."""
    rows, every = (3, row.curve[1] // 4) if quick else row.curve
    folder = place.folder / "train"
    place.write_input(folder / "input.json", rows * every, every, row.batch)
    return time_training([*side.dp, contestant.target], environment, folder, rows, every)


def time_training(
    dp: list[str], environment: dict[str, str], folder: Path, rows: int, every: int, limit: float = LIMIT
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

    _, memory = run([*dp, "train", "input.json"], environment, folder, limit, look)
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

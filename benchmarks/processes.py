"""Several processes that train one model: bytes and time of what they add up in a step, and time of the step.

python benchmarks/processes.py [--processes 1 2 4] [--steps 20]      (the table of docs/scaling.md)

One thread each, the model of examples/water, one frame for each process. The sums are timed by themselves, all
processes at once, because in a training a process also waits for slower ones. On fewer cores than processes both times
contain the sharing of cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.train.main import train

ROOT = Path(__file__).resolve().parents[1]
REPEAT = 50


def small_input(steps: int) -> dict[str, Any]:
    """Return the input of the example, one frame for each process."""
    tree: dict[str, Any] = json.loads((ROOT / "examples/water/input.json").read_text())
    data = ROOT / "examples/water/data"
    training = {"systems": [str(data / name) for name in ("water_330a", "water_600")], "batch_size": 1}
    tree["training"].update(training_data=training, validation_data=None, numb_steps=steps, disp_freq=10**6)
    return tree


def median_ms(work: Callable[[], Any]) -> float:
    """Return the median time of a function, ms."""
    times = []
    for _ in range(REPEAT):
        begin = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def run(steps: int) -> dict[str, float]:
    """Train in this process, one of those that torchrun has started; return the row of the table."""
    import torch

    from deepmd.adapters.torch.trainer import TorchTrainer

    row: dict[str, float] = {}
    ends: list[float] = []
    step = TorchTrainer.step

    def timed(trainer: TorchTrainer, *given: Any) -> None:
        step(trainer, *given)
        ends.append(time.perf_counter())
        if len(ends) == steps:
            world = trainer._task.world
            gradients = [leaf.grad for leaf in trainer._trained.values() if leaf.grad is not None]
            ten = torch.zeros(10, dtype=torch.float64)
            row["bytes"] = sum(gradient.nbytes for gradient in gradients)
            row["gradients"] = median_ms(lambda: world.sums(gradients))
            row["sums of the loss"] = median_ms(lambda: world.sums([ten]))

    TorchTrainer.step = timed  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("input.json").write_text(json.dumps(small_input(steps)))
        train("input.json", backend="torch")
    return {**row, "step": 1e3 * float(np.median(np.diff(ends)))}


def main() -> None:
    """Print a row for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        row = run(args.steps)
        if os.environ["RANK"] == "0":
            args.worker.write_text(json.dumps(row))
        return
    print("| processes | bytes of a gradient | sum of gradients, ms | sums of the loss, ms | step, ms |")
    print("|---|---|---|---|---|")
    for number in args.processes:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "row.json"
            launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={number}"]
            command = [*launcher, __file__, "--worker", str(output), "--steps", str(args.steps)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
            row = json.loads(output.read_text())
        times = " | ".join(f"{row[name]:.2f}" for name in ("gradients", "sums of the loss", "step"))
        print(f"| {number} | {row['bytes']:,.0f} | {times} |")


if __name__ == "__main__":
    main()

"""Evaluate a model again and again in a process of its own, and write how long each call took.

python worker.py MODEL STRUCTURE.npz RESULT.json MIN_SECONDS

Runs in the environment of either program: it knows nothing but `deepmd.infer.DeepPot`, which both have.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP, MIN_CALLS, MAX_SECONDS = 2, 5, 60.0


def peak_memory() -> int:
    """Bytes that this program has held at most; `ru_maxrss` also counts the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure."""
    model, structure, result, min_seconds = sys.argv[1:]
    data = np.load(structure)
    coord, cell, types = data["coord"], data["cell"], data["types"]
    begin = time.perf_counter()
    from deepmd.infer import DeepPot

    potential = DeepPot(model)
    load = time.perf_counter() - begin

    torch = sys.modules.get("torch")
    wait = torch.cuda.synchronize if torch is not None and torch.cuda.is_initialized() else lambda: None
    results: tuple[Any, ...] = ()

    def call() -> float:
        nonlocal results
        start = time.perf_counter()
        results = potential.eval(coord, cell, types)
        wait()
        return time.perf_counter() - start

    warm_up = [call() for _ in range(WARM_UP)]
    seconds: list[float] = []
    while (len(seconds) < MIN_CALLS or sum(seconds) < float(min_seconds)) and sum(seconds) < MAX_SECONDS:
        seconds.append(call())
    force = np.abs(results[1]).max()
    out = {
        "value": float(np.median(seconds)) / len(types) * 1e6,
        "peak_memory": peak_memory(),
        "load": load,
        "warm_up": warm_up,
        "seconds": seconds,
        "largest_force": float(force) if np.isfinite(force) else None,
    }
    Path(result).write_text(json.dumps(out))


if __name__ == "__main__":
    main()

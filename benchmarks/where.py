"""Where the time of ours goes: operations of a training step and of an evaluation, by kind, on one thread.

python benchmarks/where.py FOLDER        (the folder of a run of run.py: build/benchmarks/NAME, with data/ and ours/)

One thread, because the times of operations that share threads do not add up. Prints a table for docs/benchmarks.md.
"""

import argparse
import collections
import importlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", DP_INTRA_OP_PARALLELISM_THREADS="1", DP_INTER_OP_PARALLELISM_THREADS="1")

import numpy as np

from deepmd.adapters.training import Adam, Task
from deepmd.array_model.components import trainable_flags
from deepmd.data.batch import make_batch
from deepmd.data.sampling import Sampler, make_rule
from deepmd.data.systems import find_systems, load_system
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.io.train_input import parse_input
from deepmd.train.planning import Planner
from deepmd.train.trainable import trainable_paths

Work = Callable[[], Any]
"""A training step or an evaluation."""

REPEAT = 20
KINDS = {
    "products of nets and contractions": ("aten::mm", "aten::addmm", "MatMul"),
    "products per atom (moments, D)": ("aten::bmm", "BatchMatMulV2"),
    "Adam": ("aten::_fused_adam_", "ResourceApplyAdam"),
    "moving data (stack, split, copy)": (
        "aten::cat",
        "aten::copy_",
        "ConcatV2",
        "Pack",
        "Unpack",
        "Slice",
        "SplitV",
        "Pad",
        "Transpose",
    ),
    "tanh": ("aten::tanh", "aten::tanh_backward", "Tanh", "TanhGrad"),
}


def training(backend: str, folder: Path) -> Work:
    """Return a function that makes a training step on one of some prepared batches."""
    options = parse_input(json.loads((folder / "ours/input.json").read_text()))
    content = load_model(folder / "ours/model.dp")
    systems = [load_system(path, options.model.type_map) for path in find_systems(str(folder / "data/192"))]
    sampler = Sampler(make_rule(systems, 1, "prob_sys_size", None, "data"), 1)
    task = Task(
        options.model, tuple(trainable_paths(content.params, trainable_flags(options.model))), options.loss, Adam()
    )
    maker = importlib.import_module(f"deepmd.adapters.{backend}.trainer").trainer
    planner = Planner(options.model, content.params, content.min_nbor_dist)
    trainer = maker(task, content.params, planner.plan)
    batches = [make_batch(options.model, options.loss, sampler.frames(k)) for k in range(REPEAT)]
    prefactors = options.loss.prefactors(1.0)
    number = iter(range(1, 10**6))

    def step() -> None:
        k = next(number)
        trainer.step(batches[k % REPEAT], 1e-6, prefactors, 1 + k % 40)

    return step


def evaluation(file: str, folder: Path) -> Work:
    """Return a function that evaluates 192 atoms."""
    potential, frame = DeepPot(folder / "ours" / file), np.load(folder / "data/192.npz")
    return lambda: potential.eval(frame["coord"], frame["cell"], frame["types"])


def torch_operations(work: Work) -> collections.Counter[str]:
    """Time of each kind of operation, any unit."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(REPEAT):
            work()
    return collections.Counter(
        {event.key: event.self_cpu_time_total for event in profiler.key_averages() if event.key.startswith("aten::")}
    )


def tf_operations(work: Work) -> collections.Counter[str]:
    """Time of each kind of operation, any unit."""
    import tensorflow as tf

    found: collections.Counter[str] = collections.Counter()
    run = tf.compat.v1.Session.run

    def traced(self: Any, fetches: Any, feed_dict: Any = None) -> Any:
        metadata = tf.compat.v1.RunMetadata()
        out = run(
            self, fetches, feed_dict, tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE), metadata
        )
        for node in (node for device in metadata.step_stats.dev_stats for node in device.node_stats):
            found[node.timeline_label.split(" = ")[-1].split("(")[0]] += (
                node.op_end_rel_micros - node.op_start_rel_micros
            )
        return out

    tf.compat.v1.Session.run = traced
    try:
        for _ in range(REPEAT):
            work()
    finally:
        tf.compat.v1.Session.run = run
    return found


def processor_seconds(work: Work) -> float:
    """Processor time, the least of many: a loaded machine only adds to it."""
    seconds = []
    for _ in range(3 * REPEAT):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def shares(work: Work, operations: Callable[[Work], collections.Counter[str]]) -> dict[str, float]:
    """Milliseconds by kind.

    Those of the profile, which measures by the clock, are scaled to the processor time without it.
    """
    for _ in range(3):
        work()
    watch: list[float] = []

    def timed() -> None:
        begin = time.perf_counter()
        work()
        watch.append(time.perf_counter() - begin)

    found = operations(timed)
    profiled = sum(watch) / REPEAT
    total = processor_seconds(work)
    scale = 1e3 * total / profiled * 1e-6 / REPEAT
    out = {kind: scale * sum(found[name] for name in names) for kind, names in KINDS.items()}
    out["other operations (environment, recurrence, sums)"] = scale * sum(found.values()) - sum(out.values())
    out["between operations, host"] = 1e3 * total - sum(out.values())
    return {**out, "all": 1e3 * total}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder.absolute()
    columns = {
        "training torch": (lambda: training("torch", folder), torch_operations),
        "training tf": (lambda: training("tf", folder), tf_operations),
        "evaluation `.pth`": (lambda: evaluation("model.pth", folder), torch_operations),
        "evaluation `.pb`": (lambda: evaluation("model.pb", folder), tf_operations),
        "compressed `.pth`": (lambda: evaluation("compressed.pth", folder), torch_operations),
        "compressed `.pb`": (lambda: evaluation("compressed.pb", folder), tf_operations),
    }
    table = {name: shares(make(), operations) for name, (make, operations) in columns.items()}
    print("| ms |", " | ".join(table), "|\n|---|", "---|" * len(table), sep="")
    for kind in next(iter(table.values())):
        print(f"| {kind} |", " | ".join(f"{column[kind]:.1f}" for column in table.values()), "|")


if __name__ == "__main__":
    main()

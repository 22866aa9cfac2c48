"""Trains in processes of its own that are told where to die: python driver.py JSON writes the signals."""

import importlib
import json
import logging
import os
import signal
import sys
from pathlib import Path


def die_at(event: str, count: int) -> None:
    """Kill this process the moment before the `count`-th `event` ("rename", "link", "row" or "write")."""
    remaining = [count]

    def counted(original):
        def call(*args, **kwargs):
            remaining[0] -= 1
            if remaining[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    if event == "rename":
        Path.replace = counted(Path.replace)
    elif event == "link":
        Path.symlink_to = counted(Path.symlink_to)
    elif event == "row":
        from deepmd.train.other_training import Rows

        Rows.add = counted(Rows.add)
    elif event == "write":  # in the middle of the content of a checkpoint
        import io

        import torch

        def half(tree, path):
            buffer = io.BytesIO()
            save(tree, buffer)
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
                file.flush()
                remaining[0] -= 1
                if remaining[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            save(tree, path)

        save, torch.save = torch.save, half


def main() -> None:
    task = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.WARNING)
    from deepmd.adapters.contracts import trainer_module
    from deepmd.train.main import train

    trainer_module(task["backend"])  # imported once, which takes longer than the trainings
    if task["backend"] == "torch":
        importlib.import_module("torch._dynamo")  # which its optimizers import
    signals = []
    for folder, die in task["folders"].items():
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            die_at(*die)
            train("input.json", backend=task["backend"])
            os._exit(0)
        signals.append(os.WTERMSIG(os.waitpid(child, 0)[1]))
    sys.stdout.write(json.dumps(signals))


if __name__ == "__main__":
    main()

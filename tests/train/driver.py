"""Trains in a process of its own and can be told where to die: python driver.py JSON."""

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
    os.chdir(task["folder"])
    from deepmd.train.main import train

    if task.get("die"):
        die_at(*task["die"])
    train("input.json", backend=task["backend"], restart=task.get("restart"))


if __name__ == "__main__":
    main()

"""One process of a training, started by torchrun: python process.py JSON writes its rows to rows.json.

JSON: `die`, rank and step at which the process sends itself a `signal` (SIGKILL) in its first life; `arguments` of the
command line; `saving`, seconds that a checkpoint takes longer, or "full" for a full disk; `times`, trainings one after
another (1).
"""

import errno
import functools
import json
import os
import signal
import sys
import time
from pathlib import Path

from deepmd import cli
from deepmd.adapters.torch.trainer import TorchTrainer
from deepmd.train import main


def run(task: dict) -> int:
    """Run the command; return its exit code."""
    rank, again = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
    rows, save = [], TorchTrainer.save

    def save_slowly(*args):
        if task.get("saving") == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "model.ckpt")
        time.sleep(task.get("saving", 0))
        return save(*args)

    def note(step, *row):
        rows.append([step, *row])
        if [rank, step] == task.get("die") and not again:
            os.kill(os.getpid(), signal.Signals[task.get("signal", "SIGKILL")])

    TorchTrainer.save = save_slowly
    main.train = functools.partial(main.train, on_row=note)
    command = ["--pt", "train", "input.json", "--skip-neighbor-stat", *task.get("arguments", [])]
    code = max(cli.main(command) for _ in range(task.get("times", 1)))
    if rank == 0:
        Path("rows.json").write_text(json.dumps(rows))
    return code


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))

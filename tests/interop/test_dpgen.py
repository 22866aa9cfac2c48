"""DP-GEN, unmodified, runs two iterations with our `dp`: training, a kill, restart, freezing, compressing, exploration.

`make interop` installs DP-GEN in an environment of its own; without it the tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from interop.dpgen import ITERATIONS, MODELS, SAVED, STEPS, find_dpgen, prepare
from interop.kit import NOT_INHERITED, Kit

FILES = {None: (".index", ".pb"), "pytorch": (".pt", ".pth")}
"""Suffixes of checkpoints and model files by `train_backend` of DP-GEN."""


def _kill_once(folder: Path, killed: list[Path], done: threading.Event) -> None:
    """Kill the first training that has saved a checkpoint, as a queue does that runs out of time.

    Not before the log says so: killed earlier, a training has no `model.ckpt.pt` yet, and DP-GEN starts a new one.
    """
    while not killed and not done.is_set():
        for saved in folder.glob("work/*/000/train.log"):
            if f"Saved model to model.ckpt-{SAVED}" not in saved.read_text():
                continue
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    command = (process / "cmdline").read_bytes().split(b"\0")
                    if b"train" in command and b"deepmd" in command and (process / "cwd").resolve() == saved.parent:
                        os.kill(int(process.name), signal.SIGKILL)
                        killed.append(saved)
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", FILES, ids=str)
def test_two_iterations(lammps: Kit, tmp_path: Path, backend: str | None):
    home = find_dpgen()
    if home is None:
        pytest.skip("DP-GEN is not there: `make interop` installs it, or DPGEN_ENV names an environment that has it")
    prepare(tmp_path, home, lammps, backend)
    checkpoint, suffix = FILES[backend]
    killed: list[Path] = []
    done = threading.Event()
    threading.Thread(target=_kill_once, args=(tmp_path, killed, done), daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    with (tmp_path / "dpgen.out").open("w") as log:
        finished = subprocess.run(
            [home / "bin/dpgen", "run", "param.json", "machine.json"],
            cwd=tmp_path,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
    done.set()
    assert finished.returncode == 0, (tmp_path / "dpgen.out").read_text()[-3000:]
    steps = [f"{iteration} {step}" for iteration in range(ITERATIONS) for step in range(9)]
    assert (tmp_path / "record.dpgen").read_text().splitlines()[: len(steps)] == steps
    assert killed, "no training was killed, so none was restarted"
    for iteration in range(ITERATIONS):
        folder = tmp_path / f"iter.{iteration:06d}"
        for model in range(MODELS):
            training = folder / f"00.train/{model:03d}"
            assert (training / f"model.ckpt{checkpoint}").exists()
            assert (folder / f"00.train/graph.{model:03d}{suffix}").resolve().name == f"frozen_model_compressed{suffix}"
        rows = (folder / "01.model_devi/task.000.000000/model_devi.out").read_text().splitlines()
        assert len(rows) == 1 + 40 // 5 + 1
        assert all(float(row.split()[4]) > 0.0 for row in rows[1:])
        assert list(folder.glob("02.fp/data.000/*/set.*/force.npy"))
    logs = [path.read_text() for path in tmp_path.glob("iter.000000/00.train/*/train.log")]
    assert sum(f"{SAVED} of {STEPS} steps were done before" in log for log in logs) == 1

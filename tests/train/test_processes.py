"""Several processes train one model (docs/scaling.md): the path of one process, restarts, deaths, refusals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from support import require
from tolerances import TOLERANCES
from train.small_training import few_frames, largest_difference, largest_parameter_difference, run, small_input

from deepmd.array_model.errors import InputError
from deepmd.io.sections import CosineDecay, ExpDecay
from deepmd.io.train_input import parse_input
from deepmd.train.places import lock_places
from deepmd.train.schedule import learning_rate, scaled
from deepmd.train.stopping import stop_requests

ROOT = Path(__file__).parents[2]
STEPS = 20
DESCRIPTORS = {
    "se_e2_a": {"evaluation": "spectral"},
    "dpa1": {
        "type": "dpa1",
        "sel": 40,
        "attn_layer": 1,
        "attn": 8,
        "rcut": 4.0,
        "rcut_smth": 1.0,
        "neuron": [3, 6],
        "axis_neuron": 2,
        "seed": 1,
    },
}


def tree_of(kind, folder, batch, **training):
    """An input with systems of 5 and 3 frames, so that batches are also smaller than their size, and than 4 parts."""
    if not (folder / "data").exists():
        for number, count in enumerate((5, 3)):
            few_frames(folder / "data" / f"s{number}", "water_600", count)
    tree = small_input(numb_steps=STEPS, disp_freq=1, save_freq=10, **training)
    base = tree["model"]["descriptor"] if kind == "se_e2_a" else {}
    tree["model"]["descriptor"] = {**base, **DESCRIPTORS[kind]}
    tree["learning_rate"]["scale_by_worker"] = "none"
    systems = [str(folder / "data" / f"s{number}") for number in range(2)]
    tree["training"]["training_data"] = {"systems": systems, "batch_size": batch}
    tree["training"]["validation_data"] = {"systems": systems, "batch_size": 3}
    return tree


def start(folder, tree, processes, *options, **task):
    """Start torchrun in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "input.json").write_text(json.dumps(tree))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, str(Path(__file__).parent / "process.py"), json.dumps(task)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def launch(folder, tree, processes, *options, code=0, **task):
    """Train with torchrun; return its rows and what it wrote to the terminal."""
    with start(folder, tree, processes, "--standalone", *options, **task) as launched:
        out, _ = launched.communicate(timeout=300)
    assert (launched.returncode == 0) == (code == 0), out
    return json.loads((folder / "rows.json").read_text()) if code == 0 else [], out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Train with one process, batch size 4, once for each descriptor; return folder and rows."""
    require("torch")
    made = {}

    def train_alone(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            rows = run(folder / "alone", tree_of(kind, folder, 4), "torch")
            made[kind] = folder, [list(row) for row in rows]
        return made[kind]

    return train_alone


def check_same(folder, other, rows, expected):
    assert len(rows) == len(expected)
    assert largest_difference(rows, expected) < TOLERANCES["float64"]["processes"]
    newest = f"model.ckpt-{STEPS}.pt"
    assert largest_parameter_difference(folder / newest, other / newest) < TOLERANCES["float64"]["processes"]
    assert (folder / "lcurve.out").read_text() == (other / "lcurve.out").read_text()


@pytest.mark.parametrize(
    ("kind", "processes"),
    [
        ("se_e2_a", 2),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in (("se_e2_a", 4), ("dpa1", 2), ("dpa1", 4))),
    ],
)
def test_processes_walk_the_path_of_one(alone, kind, processes):
    folder, expected = alone(kind)
    together = folder / f"{processes}"
    rows, out = launch(together, tree_of(kind, folder, 4 // processes), processes)
    check_same(together, folder / "alone", rows, expected)
    assert out.count("finished training") == 1  # one process logs
    assert f"{processes} processes" in out


@pytest.mark.parametrize("order", [("float32", "float64"), ("float64", "float32")])
def test_every_process_sends_the_sums_of_two_precisions_in_the_same_order(monkeypatch, order):
    """That of the arrays. A set of two precisions has another order in each process, which then wait or abort."""
    torch = require("torch")
    from deepmd.adapters.torch.world import TorchWorld

    sent = []
    monkeypatch.setattr("torch.distributed.all_reduce", sent.append)
    arrays = [torch.arange(number, dtype=getattr(torch, name)) for name in (*order, order[0]) for number in (2, 3)]
    out = TorchWorld.sums(object.__new__(TorchWorld), arrays)
    assert [each.dtype for each in sent] == [getattr(torch, name) for name in order]
    assert all(map(torch.equal, out, arrays))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["se_e2_a", "dpa1"])
def test_a_restart_may_have_another_number_of_processes(alone, kind):
    folder, expected = alone(kind)
    together = folder / "restarted"
    launch(together, tree_of(kind, folder, 1), 4, arguments=["-o", "first.json"], code=1, die=[3, 25])
    assert (together / "model.ckpt-20.pt").exists()
    tree = tree_of(kind, folder, 2)
    rows, _ = launch(together, tree, 2, arguments=["--restart", "model.ckpt-20.pt"])
    check_same(together, folder / "alone", rows, expected[20:])


@pytest.mark.slow
def test_the_same_processes_train_twice(tmp_path):
    """They do not wait for the addresses of the first training."""
    require("torch")
    tree = tree_of("se_e2_a", tmp_path, 1)
    tree["training"]["numb_steps"] = 2
    rows, _ = launch(tmp_path / "run", tree, 2, times=2)
    assert len(rows) == 4
    assert rows[:2] == rows[2:]


@pytest.mark.slow
def test_two_nodes(alone):
    folder, expected = alone("se_e2_a")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={place}", "--rdzv-id=nodes"]
    tree = tree_of("se_e2_a", folder, 2)
    nodes = [start(folder / "nodes", tree, 1, *options) for _ in range(2)]
    outs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outs
    check_same(folder / "nodes", folder / "alone", json.loads((folder / "nodes" / "rows.json").read_text()), expected)


@pytest.mark.slow  # 12 s: three processes import torch
def test_the_death_of_a_process_ends_the_training_with_one_message(tmp_path):
    require("torch")
    _, out = launch(tmp_path / "run", tree_of("se_e2_a", tmp_path, 1), 2, code=1, die=[1, 12])
    assert len(re.findall("dp: error: .*another process of this training has ended", out)) == 1
    assert not re.search(r'File ".*/deepmd/', out)  # torchrun adds a traceback of its own
    assert (tmp_path / "run" / "model.ckpt-10.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_all_stop_when_one_is_asked_to(tmp_path, asked):
    """The request of one process reaches the others beside the next step, and all stop after the step after that.

    They wait for the checkpoint: as soon as one has ended, torchrun sends SIGTERM to the others, and a second signal
    ends the process that was asked.
    """
    require("torch")
    tree = tree_of("se_e2_a", tmp_path, 1)
    tree["training"]["save_freq"] = STEPS
    _, out = launch(tmp_path / "run", tree, 2, code=1, die=[asked, 12], signal="SIGTERM", saving=5)
    assert "stopped by SIGTERM after step 13; to go on: dp --pt train input.json --restart model.ckpt" in out
    assert (tmp_path / "run" / "model.ckpt-13.pt").exists()


def test_a_second_sigterm_of_torchrun_is_ignored(monkeypatch):
    """A batch system sends SIGTERM to torchrun and to its processes, and torchrun passes its own on."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("second"))
    try:
        with stop_requests() as asked:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert (asked(), came) == (signal.SIGTERM, [])
        signal.raise_signal(signal.SIGTERM)
        assert came == ["second"]  # after the training it works again
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_torchrun_goes_on_after_a_death(alone):
    """The curve is that of an unbroken training; checkpoints of another training there are not taken for its own."""
    folder, expected = alone("se_e2_a")
    tree = tree_of("se_e2_a", folder, 2)
    for name, death in (("early", [1, 5]), ("late", [0, 25])):
        place = folder / name
        place.mkdir()
        other = (folder / "alone" / f"model.ckpt-{STEPS}.pt").read_bytes()
        (place / f"model.ckpt-{STEPS}.pt").write_bytes(other)
        (place / "model.ckpt.pt").symlink_to(f"model.ckpt-{STEPS}.pt")
        rows, _ = launch(place, tree, 2, "--max-restarts=1", die=death)
        check_same(place, folder / "alone", rows, expected[0 if death[1] < 10 else 20 :])
        assert (place / "model.ckpt.bak-0" / f"model.ckpt-{STEPS}.pt").read_bytes() == other


@pytest.mark.slow
def test_a_full_disk_is_reported_once(tmp_path):
    require("torch")
    _, out = launch(tmp_path / "run", tree_of("se_e2_a", tmp_path, 1), 2, code=1, saving="full")
    assert re.findall("dp: error: .*", out) == ["dp: error: model.ckpt: No space left on device"]


@pytest.mark.slow  # quick: the message of one process, test_train.py
def test_an_error_of_one_process_is_reported_once(tmp_path):
    """NaN in the part of the second process: the message names the step and the batch, as with one process."""
    require("torch")
    tree = tree_of("se_e2_a", tmp_path, 1)
    file = tmp_path / "data" / "s0" / "set.000" / "force.npy"
    force = np.load(file)
    force[3] = 1e300
    np.save(file, force)
    _, out = launch(tmp_path / "run", tree, 2, code=1)
    (message,) = re.findall("dp: error: .*", out)
    assert re.search(r"step \d+: the loss is (inf|nan)\. Batch: frames? .*\b3\b.* of .*s0", message)


def test_a_restart_may_be_automatic(tmp_path):
    require("torch")
    tree = small_input(numb_steps=4, disp_freq=1, save_freq=2)
    (tmp_path / "again").mkdir()
    whole = run(tmp_path / "once", tree, "torch", restart="auto")
    for steps in (2, 4):
        rows = run(tmp_path / "again", small_input(numb_steps=steps, disp_freq=1, save_freq=2), "torch", restart="auto")
    assert [row[0] for row in whole] == [1, 2, 3, 4]
    assert [row[0] for row in rows] == [3, 4]


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_tasks_without_torchrun_are_refused(monkeypatch, tmp_path, name):
    require("torch")
    monkeypatch.setenv(name, "4")
    with pytest.raises(InputError, match=f"{name} is 4: 4 processes were started.*torchrun"):
        run(tmp_path / "run", small_input(), "torch")
    assert not (tmp_path / "run" / "lcurve.out").exists()


def test_a_batch_script_may_set_slurm_ntasks(monkeypatch, tmp_path):
    require("torch")
    for name, value in (("SLURM_NTASKS", "4"), ("OMPI_COMM_WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    assert run(tmp_path / "run", small_input(numb_steps=1), "torch")


def test_tensorflow_trains_in_one_process(monkeypatch, tmp_path):
    """It is the backend where none is named."""
    require("tensorflow")
    monkeypatch.delenv("DP_BACKEND", raising=False)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"one process, and torchrun has started 2.*dp --pt train.*freeze to \.pb"):
        run(tmp_path / "run", small_input(), None)


@pytest.mark.parametrize("option", ["save_ckpt", "disp_file"])
def test_a_second_training_of_the_same_files_is_refused(tmp_path, option):
    """The lock dies with its process."""
    require("torch")
    tree = small_input(numb_steps=1)
    other = {"save_ckpt": "model.ckpt", "disp_file": "lcurve.out"} | {
        name: f"other-{name}" for name in ("save_ckpt", "disp_file") if name != option
    }
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(tmp_path)
        locks = ExitStack()
        lock_places(parse_input(small_input(**other)), locks)
        os.write(told, b"locked")
        signal.pause()
    try:
        assert os.read(ready, 6) == b"locked"
        with pytest.raises(InputError, match=f"training/{option}: {other[option]} is written by another training"):
            run(tmp_path, tree, "torch")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert run(tmp_path, tree, "torch")


def test_a_curve_with_the_name_of_the_checkpoints_is_locked_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ExitStack() as locks:
        lock_places(parse_input(small_input(save_ckpt="run", disp_file="./run")), locks)
        assert [path.name for path in tmp_path.iterdir()] == [".run.lock"]


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_the_learning_rate_of_four_processes(rule, factor):
    """The rule scales start_lr; the last rate stays, unless it is given as a part of start_lr."""
    fixed = scaled(ExpDecay(1e-3, stop_lr=1e-5, decay_steps=10, scale_by_worker=rule), 4)
    part = scaled(CosineDecay(1e-3, stop_lr_ratio=0.1, scale_by_worker=rule), 4)
    assert learning_rate(fixed, 1000)(0) == pytest.approx(1e-3 * factor, rel=1e-14)
    assert learning_rate(fixed, 1000)(1000) == pytest.approx(1e-5, rel=1e-12)
    assert learning_rate(part, 1000)(0) == pytest.approx(1e-3 * factor, rel=1e-14)
    assert learning_rate(part, 1000)(1000) == pytest.approx(1e-4 * factor, rel=1e-12)

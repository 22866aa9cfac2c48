"""Signals, numbers that stop being numbers, and files of another training: no work is lost."""

import json
import os
import shutil
import signal
import tempfile
import threading
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from train.small_training import (
    WATER,
    few_frames,
    largest_difference,
    largest_parameter_difference,
    run,
    small_input,
)

from deepmd.array_model.errors import InputError
from deepmd.cli import main
from deepmd.infer import DeepPot
from deepmd.train import checkpoints
from deepmd.train.other_training import Rows
from deepmd.train.validating import FullValidation

UNBROKEN = 1e-10


def quick(**training):
    """A training of four steps that saves every second one."""
    tree = small_input(**{"numb_steps": 4, "disp_freq": 1, "save_freq": 2, **training})
    del tree["training"]["validation_data"]
    return tree


def snapshot(folder):
    """Content of every file by its path; of links, where they lead."""
    paths = [path for path in Path(folder).rglob("*") if path.is_symlink() or path.is_file()]
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in paths
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Folder and rows of an unbroken training."""
    folder = tmp_path_factory.mktemp("first")
    return folder, run(folder, quick(), "torch")


@pytest.fixture
def folder(first, tmp_path):
    """A copy of that folder."""
    return Path(shutil.copytree(first[0], tmp_path / "copy", symlinks=True))


# -- files of another training -----------------------------------------------------------------------------------------


OLD = ("lcurve.out", "checkpoint", "model.ckpt.pt", "model.ckpt-2.pt", "model.ckpt-4.pt")


@pytest.mark.parametrize("source", [None, "model.ckpt"])
def test_a_fresh_training_moves_what_it_would_replace(folder, caplog, source):
    before = snapshot(folder)
    run(folder, quick(numb_steps=2, seed=9), "torch", init_model=source)
    after = snapshot(folder)
    assert {name: before[name] for name in OLD} == {name: after[f"model.ckpt.bak-0/{name}"] for name in OLD}
    assert [name for name in after if "ckpt-" in name and "bak" not in name] == ["model.ckpt-2.pt"]
    assert after["lcurve.out"] != before["lcurve.out"]
    assert not any(name.endswith(".new") for name in after)
    assert "moved the checkpoints" in caplog.text
    assert "model.ckpt.bak-0" in caplog.text
    assert checkpoints.newest(folder / "model.ckpt.bak-0").name == "model.ckpt-4.pt"
    run(folder, quick(numb_steps=1), "torch")
    assert {name: after[name] for name in after if "bak" in name}.items() <= snapshot(folder).items()
    assert (folder / "model.ckpt.bak-1" / "model.ckpt-2.pt").read_bytes() == after["model.ckpt-2.pt"]


def test_until_its_first_checkpoint_everything_is_in_place(folder):
    """A training that dies before, here of its learning rate, leaves the other one as if it had never been."""
    before = snapshot(folder)
    tree = quick(disp_freq=1, save_freq=4)
    tree["learning_rate"] = {"start_lr": 1e200, "stop_lr": 1e199}
    with pytest.raises(InputError, match="step"):
        run(folder, tree, "torch")
    kept = {name: content for name, content in before.items() if name not in ("input.json", "out.json")}
    assert kept.items() <= snapshot(folder).items()
    longer = quick(numb_steps=6)
    run(folder, longer, "torch", restart="model.ckpt")
    assert [line.split()[0] for line in (folder / "lcurve.out").read_text().splitlines()[2:]] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
    ]


def test_a_restart_from_before_moves_later_checkpoints(first, folder):
    before = snapshot(folder)
    rows = run(folder, quick(), "torch", restart="model.ckpt-2.pt")
    after = snapshot(folder)
    assert largest_difference(rows, first[1][2:]) < UNBROKEN
    assert after["lcurve.out"] == before["lcurve.out"] == after["model.ckpt.bak-0/lcurve.out"]
    assert after["model.ckpt.bak-0/model.ckpt-4.pt"] == before["model.ckpt-4.pt"]
    assert after["model.ckpt-2.pt"] == before["model.ckpt-2.pt"]
    assert after["model.ckpt.pt"] == "model.ckpt-4.pt"


def test_a_restart_of_a_checkpoint_from_elsewhere_moves_those_that_are_here(first, folder):
    before = snapshot(folder)
    run(folder, quick(numb_steps=6), "torch", restart=str(first[0] / "model.ckpt"))
    assert {name: before[name] for name in OLD} == {name: snapshot(folder)[f"model.ckpt.bak-0/{name}"] for name in OLD}


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """Return the input of a training that keeps its three best models; few frames decide which."""
    few = few_frames(tmp_path_factory.mktemp("data") / "few", "water_330b", 3)

    def tree(numb_steps, seed=1, **training):
        tree = small_input(**{"numb_steps": numb_steps, "disp_freq": 1, "save_freq": 2, "seed": seed, **training})
        tree["training"]["validation_data"]["systems"] = [few]
        tree["validating"] = {"full_validation": True, "validation_freq": 1, "full_val_start": 0.0, "max_best_ckpt": 3}
        return tree

    return tree


def test_files_of_every_kind(tmp_path, validated):
    """Checkpoints in a folder of their own, of TensorFlow, the best ones, and a file where a link would be."""
    save = {"save_dir": "kept", "save_ckpt": "m"}
    (tmp_path / "kept").mkdir()
    names = ["kept/m-5.index", "kept/m-5.meta", "kept/m-5.data-00000-of-00001", "best.ckpt-5.t-1.pt", "m.pt", "val.log"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "kept/m-5"\n')
    (tmp_path / "m.index").symlink_to("kept/m-5.index")
    (tmp_path / "kept" / "m-5.pth").write_text("a model file")
    run(tmp_path, validated(2, **save), "torch")
    found = snapshot(tmp_path / "kept" / "m.bak-0")
    assert {Path(name).name: name.encode() for name in names}.items() <= found.items()
    assert found["checkpoint"] == b'model_checkpoint_path: "m-5"\n'
    assert found["m.index"] == "m-5.index"
    assert (tmp_path / "kept" / "m-5.pth").is_file()
    assert len((tmp_path / "val.log").read_text().splitlines()) == 3


def test_a_restart_goes_on_with_the_files_beside_its_checkpoint(tmp_path, validated):
    """Another training with its curves and best models is where the restart writes."""
    run(tmp_path, validated(4), "torch")
    curves = {name: (tmp_path / name).read_text() for name in ("lcurve.out", "val.log")}
    run(tmp_path, validated(4, seed=9), "torch")
    before = snapshot(tmp_path)
    run(tmp_path, validated(6), "torch", restart="model.ckpt.bak-0/model.ckpt")
    after = snapshot(tmp_path)
    for name, text in curves.items():
        assert (tmp_path / name).read_text().startswith(text)
        assert len((tmp_path / name).read_text().splitlines()) == len(text.splitlines()) + 2
    assert all(
        before[name] == after[name if "bak" in name else f"model.ckpt.bak-1/{name}"]
        for name in before
        if "ckpt-" in name
    )
    rows = np.loadtxt(tmp_path / "val.log")
    best = [name for name in after if name.startswith("best")]
    kept = {int(step) for step in rows[np.argsort(rows[:, 1])[:3], 0]}
    assert {int(name.partition("-")[2].partition(".")[0]) for name in best} == kept & {5, 6}


def test_a_best_model_that_has_gone_does_not_count(tmp_path, validated, monkeypatch):
    saved = FullValidation._keep

    def keep(self, step, value, save):
        saved(self, step, -step, save)
        if step == 2:
            (tmp_path / "best.ckpt-1.t-2.pt").unlink()

    monkeypatch.setattr(FullValidation, "_keep", keep)
    run(tmp_path, validated(3), "torch")
    assert {path.name for path in tmp_path.glob("best*")} == {"best.ckpt-3.t-1.pt", "best.ckpt-2.t-2.pt"}


def test_two_prefixes_in_a_folder_are_two_trainings(folder):
    run(folder, quick(numb_steps=4, seed=9, save_ckpt="b.ckpt", disp_file="b.out"), "torch")
    before = snapshot(folder)
    run(
        folder,
        quick(numb_steps=6, save_ckpt="b.ckpt", disp_file="b.out", max_ckpt_keep=1),
        "torch",
        restart="model.ckpt-4.pt",
    )
    after = snapshot(folder)
    for name in ("b.ckpt-2.pt", "b.ckpt-4.pt", "b.out", "checkpoint"):
        assert after[f"b.ckpt.bak-1/{name}"] == before[name]  # bak-0 has the curve and `checkpoint` of the first
    assert [line.split()[0] for line in (folder / "b.out").read_text().splitlines()[2:]] == ["5", "6"]
    assert after["model.ckpt-4.pt"] == before["model.ckpt-4.pt"]


@pytest.mark.parametrize(
    "place", [{"save_ckpt": "b.ckpt"}, {"save_dir": "kept"}, {"save_dir": "kept", "save_ckpt": "b.ckpt"}]
)
def test_a_training_goes_on_with_its_curve_under_another_name(folder, place):
    before = snapshot(folder)
    run(folder, quick(numb_steps=6, **place), "torch", restart="model.ckpt-2.pt")
    assert [line.split()[0] for line in (folder / "lcurve.out").read_text().splitlines()[2:]] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
    ]
    assert before["lcurve.out"] in [content for name, content in snapshot(folder).items() if "bak-0" in name]


def test_a_file_is_moved_once_whatever_its_names(tmp_path):
    tree = quick(numb_steps=2, save_ckpt="best.ckpt")
    for _ in range(2):
        run(tmp_path, tree, "torch")
    assert (tmp_path / "best.ckpt.bak-0" / "best.ckpt-2.pt").is_file()
    tree["validating"] = {"full_validation": True}
    tree["training"]["validation_data"] = tree["training"]["training_data"]
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"training/save_ckpt: best\.ckpt"):
        run(tmp_path, tree, "torch")
    del before["input.json"]
    assert before.items() <= snapshot(tmp_path).items()


def test_a_curve_on_another_file_system(folder, validated):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        for name in ("lcurve.out", "val.log"):
            (Path(memory) / name).write_text("of another training\n")
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(Path(memory) / name)
        run(folder, validated(2), "torch")
        assert {path.name for path in Path(memory).iterdir()} == {"lcurve.out", "val.log"}
        for name in ("lcurve.out", "val.log"):
            assert (folder / name).is_symlink()
            assert np.loadtxt(folder / name)[:, 0].tolist() == [1.0, 2.0]
            assert (folder / "model.ckpt.bak-0" / name).read_text() == "of another training\n"


@pytest.mark.parametrize("moment", range(1, 5))
def test_a_kill_while_files_are_moved_loses_nothing(folder, monkeypatch, moment):
    before = snapshot(folder)
    left, move = [moment], shutil.move

    def dying(old, new):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return move(old, new)

    monkeypatch.setattr(shutil, "move", dying)
    if moment < 4:
        with pytest.raises(KeyboardInterrupt):
            run(folder, quick(numb_steps=2), "torch")
    else:
        run(folder, quick(numb_steps=2), "torch")
    contents = snapshot(folder).values()
    assert all(before[name] in contents for name in OLD)


# -- signals -----------------------------------------------------------------------------------------------------------


def signalled(monkeypatch, *numbers, row=3):
    """Send signals to this process after a row of the learning curve."""
    left = [row]

    def add(self, text):
        original(self, text)
        left[0] -= 1
        if left[0] == 0:
            for number in numbers:
                os.kill(os.getpid(), number)

    original = Rows.add
    monkeypatch.setattr(Rows, "add", add)


def started(folder, tree, *words):
    folder.mkdir(exist_ok=True)
    (folder / "input.json").write_text(json.dumps(tree))
    with chdir(folder):
        return main([*words, "train", "input.json", "--skip-neighbor-stat"])


@pytest.mark.parametrize(
    ("backend", "flag", "number", "code"),
    [
        ("torch", "--pt", signal.SIGINT, 130),
        ("torch", "--pt", signal.SIGTERM, 143),
        pytest.param("tf", "--tf", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_signal_keeps_everything(tmp_path, monkeypatch, capsys, backend, flag, number, code):
    tree = quick(numb_steps=8, save_freq=1000)
    rows = run(tmp_path / "unbroken", tree, backend)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        signalled(patch, number)
        assert started(tmp_path / "broken", tree, flag) == code
    err = capsys.readouterr().err
    assert err.count("to go on") == 1
    step = int(err.partition("after step ")[2].partition(";")[0])
    assert step == 3
    assert f"to go on: dp {flag} train input.json --restart model.ckpt\n" in err
    assert "Traceback" not in err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    again = run(tmp_path / "broken", tree, backend, restart="model.ckpt")
    assert largest_difference(again, rows[step:]) < UNBROKEN
    assert (tmp_path / "broken" / "lcurve.out").read_text() == (tmp_path / "unbroken" / "lcurve.out").read_text()
    newest = [checkpoints.newest(tmp_path / name) for name in ("broken", "unbroken")]
    assert largest_parameter_difference(*newest) < UNBROKEN


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once(tmp_path, monkeypatch, capsys, number, code):
    signalled(monkeypatch, number, number)
    assert started(tmp_path, quick(save_freq=1000), "--pt") == code
    assert not list(tmp_path.glob("model.ckpt*"))
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_step_stops_at_once(tmp_path, monkeypatch, capsys, number, code):
    monkeypatch.setattr("deepmd.train.data.make_rule", lambda *_: os.kill(os.getpid(), number))
    assert started(tmp_path, quick(), "--pt") == code
    assert {path.name for path in tmp_path.iterdir()} == {"input.json"}
    assert "Traceback" not in capsys.readouterr().err


def test_in_python_a_signal_means_what_it_means_elsewhere(tmp_path, monkeypatch):
    signalled(monkeypatch, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT after step 3;"):
        run(tmp_path, quick(save_freq=1000), "torch")
    assert checkpoints.newest(tmp_path).name == "model.ckpt-3.pt"


def test_what_is_ignored_stays_ignored(tmp_path, monkeypatch):
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signalled(monkeypatch, signal.SIGINT)
        assert len(run(tmp_path, quick(), "torch")) == 4
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_outside_of_the_main_thread(tmp_path):
    found = []
    (tmp_path / "input.json").write_text(json.dumps(quick()))
    with chdir(tmp_path):
        words = ["--pt", "train", "input.json", "--skip-neighbor-stat"]
        thread = threading.Thread(target=lambda: found.append(main(words)))
        thread.start()
        thread.join()
    assert found == [0]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_an_outlier_ends_a_training_and_is_named(tmp_path):
    system = tmp_path / "outlier"
    shutil.copytree(WATER / "water_600", system)
    for path in (system / "set.000").glob("*.npy"):
        array = np.load(path)[:2]
        if path.stem == "force":
            array[1, 5] = 1e200
        np.save(path, array)
    tree = quick(numb_steps=100, save_freq=1, max_ckpt_keep=1)
    tree["training"]["training_data"]["systems"] = [str(WATER / "water_330a"), str(system)]
    with pytest.raises(InputError, match=rf"step (\d+): the loss is inf\. Batch: frame 1 of {system}\.") as failure:
        run(tmp_path, tree, "torch")
    step = int(str(failure.value).split()[1].rstrip(":"))
    assert [path.name for path in tmp_path.glob("model.ckpt-*")] == [f"model.ckpt-{step - 1}.pt"]
    assert np.all(np.isfinite(np.loadtxt(tmp_path / "lcurve.out")[:, [1, 2, 3]]))


@pytest.mark.parametrize("start_lr", [1e15, 1e100, 1e150, 1e200])
def test_every_checkpoint_of_a_diverging_training_evaluates(tmp_path, start_lr):
    """Parameters may be finite and overflow when they are used; such a checkpoint is not written."""
    tree = quick(numb_steps=10, save_freq=1, disp_freq=1000)
    tree["learning_rate"] = {"start_lr": start_lr, "stop_lr": start_lr, "warmup_steps": 1}  # the first row comes before
    tree["optimizer"] = {"type": "AdamW", "weight_decay": start_lr}
    with pytest.raises(InputError, match=r"step \d+: .*Batch: frame"):
        run(tmp_path, tree, "torch")
    for path in tmp_path.glob("model.ckpt-*.pt"):
        potential = DeepPot(path)
        coord, box = (np.load(WATER / "water_600" / "set.000" / f"{name}.npy")[:1] for name in ("coord", "box"))
        potential.eval(coord, box, np.loadtxt(WATER / "water_600" / "type.raw", dtype=int).reshape(-1))

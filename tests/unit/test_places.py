"""Where results go: nothing that is read, and nothing but a regular file, is replaced.

Text is written through to devices.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from contextlib import chdir
from pathlib import Path

import pytest
from support import require

from deepmd.array_model.errors import InputError
from deepmd.cli import main
from deepmd.io.atomic import check_output, replacing, write_text

ROOT = Path(__file__).parents[2]
WATER = ROOT / "examples" / "water" / "data" / "water_330a"
MODEL = ROOT / "tests" / "golden" / "se_e2_a" / "model.dp"


@pytest.fixture
def place(place):
    """A folder with an input, a system of three frames, a model in two formats, and what no output may replace."""
    shutil.copy(MODEL.with_suffix(".yaml"), place / "model.yaml")
    (place / "link.out").symlink_to("water/type.raw")
    (place / "list.e.out").write_text("water\n")
    (place / "folder.pth").mkdir()
    os.mkfifo(place / "fifo.pth")
    return place


def snapshot(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
    }


TRAINING = [
    ({"disp_file": "input.json"}, ["training/disp_file", "same file as input.json"]),
    ({"disp_file": "water/type.raw"}, ["training/disp_file", "type.raw, which is read"]),
    ({"disp_file": "link.out"}, ["training/disp_file", "type.raw, which is read"]),
    ({"disp_file": "water/set.000/force.npy"}, ["training/disp_file", "force.npy, which is read"]),
    ({"disp_file": "out.json"}, ["--output: out.json", "same file as that of training/disp_file"]),
    ({"disp_file": "folder.pth"}, ["training/disp_file", "it is a folder"]),
    (
        {"save_ckpt": "folder", "disp_file": "folder/checkpoint"},
        ["training/disp_file: folder/checkpoint", "does not exist"],
    ),
    ({"stat_file": "water"}, ["training/stat_file", "same file as water"]),
    ({"stat_file": "water/set.000"}, ["training/stat_file", "water/set.000, which is read"]),
    ({"stat_file": "device.h5"}, ["training/stat_file", "a device or FIFO"]),
]


@pytest.mark.parametrize(("change", "parts"), TRAINING, ids=[str(change) for change, _ in TRAINING])
def test_a_training_replaces_nothing_that_it_reads(place, capsys, change, parts):
    os.mkfifo(place / "device.h5")
    tree = json.loads((place / "input.json").read_text())
    tree["training"].update(change)
    (place / "input.json").write_text(json.dumps(tree))
    refused(place, capsys, ["--pt", "train", "input.json"], parts)


COMMANDS = [
    (["--pt", "train", "input.json", "-o", "input.json"], ["--output", "same file as input.json"]),
    (["--pt", "train", "input.json", "-o", "water/set.000/../type.raw"], ["--output", "type.raw, which is read"]),
    (["--pt", "train", "input.json", "-l", "input.json"], ["--log-path", "input.json", "no log"]),
    (["convert-backend", "model.dp", "model.dp"], ["same file"]),
    (["convert-backend", "model.dp", "folder.pth"], ["folder.pth", "it is a folder"]),
    (["convert-backend", "model.dp", "fifo.pth"], ["fifo.pth", "a device or FIFO"]),
    (["compress", "-i", "model.yaml", "-o", "model.yaml", "-t", "input.json"], ["same file as model.yaml"]),
    (["change-bias", "model.dp", "-b", "1", "2", "-o", "model.dp"], ["same file as model.dp"]),
    (["model-devi", "-m", "model.dp", "model.yaml", "-s", "water", "-o", "model.yaml"], ["same file as model.yaml"]),
    (["model-devi", "-m", "model.dp", "model.yaml", "-s", "water", "-o", "link.out"], ["type.raw, which is read"]),
    (["test", "-m", "model.dp", "-f", "list.e.out", "-d", "list"], ["list.e.out", "which is read"]),
    (["eval-desc", "-m", "model.dp", "-f", "sets.txt", "-o", "water/set.000"], ["coord.npy", "which is read"]),
]


@pytest.mark.parametrize(("words", "parts"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_a_command_replaces_nothing_that_it_reads(place, capsys, words, parts):
    shutil.copytree(place / "water", place / "coord")
    (place / "sets.txt").write_text("water\ncoord\n")
    refused(place, capsys, words, parts)


def refused(place, capsys, words, parts):
    before = snapshot(place)
    with chdir(place):
        assert main(words) == 2
    message = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dp: error:")]
    assert len(message) == 1
    assert all(part in message[0] for part in parts), message
    assert snapshot(place) == before


def test_all_files_of_a_model_are_read(tmp_path):
    saved = tmp_path / "m.savedmodel"
    files = [tmp_path / f"m.ckpt-3.{name}" for name in ("index", "meta", "data-00000-of-00001")]
    (saved / "assets.extra").mkdir(parents=True)
    for path in (*files, saved / "saved_model.pb", saved / "assets.extra" / "model.dp"):
        path.write_text("")
    (tmp_path / "m.ckpt.data-00000-of-00001").symlink_to(files[-1])
    for read in (tmp_path / "m.ckpt-3", tmp_path / "m.ckpt-3.index"):
        for path in (*files, tmp_path / "m.ckpt.data-00000-of-00001"):
            with pytest.raises(InputError, match="which is read"):
                check_output(path, reads=[read])
    with pytest.raises(InputError, match="which is read"):
        check_output(files[-1], reads=[tmp_path / "m.ckpt"])
    with pytest.raises(InputError, match="which is read"):
        check_output(saved / "assets.extra" / "model.dp", reads=[saved])
    check_output(files[-1], reads=[tmp_path / "m.ckpt-3.pt", saved, "no\0/name", "long" * 99])


def test_hard_links_are_the_same_file(tmp_path):
    (tmp_path / "a").write_text("")
    os.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="same file"):
        check_output(tmp_path / "b", reads=[tmp_path / "a"])
    check_output(tmp_path / "c", reads=[tmp_path / "a", tmp_path / "nothing"])


def test_links_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/new")
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "new").read_text() == text
    assert {path.name for path in tmp_path.rglob("*")} == {"there", "link", "new"}


def test_text_is_written_through_and_arrays_are_not(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    write_text(fifo, "through")
    reader.join()
    assert read == ["through"]
    assert fifo.is_fifo()
    for path in (fifo, "/dev/null"):
        with pytest.raises(InputError, match="a device or FIFO"), replacing(path):
            raise AssertionError("nothing is computed")
    write_text("/dev/null", "away")
    assert Path("/dev/null").is_char_device()


@pytest.mark.slow
def test_standard_output_is_neither_replaced_nor_truncated(place):
    """With both streams in one file, as a shell does with `> all 2>&1`."""
    require("torch")
    (place / "curve").symlink_to("/dev/stdout")
    tree = json.loads((place / "input.json").read_text())
    tree["training"]["disp_file"] = "curve"
    (place / "input.json").write_text(json.dumps(tree))
    words = [sys.executable, "-m", "deepmd", "--pt", "train", "input.json", "-o", "/dev/stdout", "--skip-neighbor-stat"]
    with (place / "all").open("w") as file:
        file.write("before\n")
        file.flush()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=place, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    text = (place / "all").read_text()
    assert done.returncode == 0, text
    assert text.startswith("before\n")
    assert '"start_lr": 0.001' in text
    assert "\n# step " in text
    assert "finished training" in text
    assert (place / "curve").is_symlink()


def test_a_log_is_appended_to_a_log_only(place):
    with chdir(place):
        for _ in range(2):
            assert main(["show", "model.dp", "size", "-l", "log"]) == 0
        lines = (place / "log").read_text().splitlines()
        assert lines[0].split()[2:] == lines[len(lines) // 2].split()[2:]
        assert main(["show", "model.dp", "size", "-l", "/dev/null"]) == 0
    assert not logging.getLogger("deepmd").handlers

"""Whatever a user gets wrong: one clear message, exit code 2, no traceback, nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.cli import main

ROOT = Path(__file__).parents[2]
WATER = ROOT / "examples" / "water" / "data" / "water_330a"
MODEL = ROOT / "tests" / "golden" / "se_e2_a" / "model.dp"


def contents(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


def fails(place, capsys, words, *parts):
    """Run `dp WORDS` in `place`; check the way it fails and that the message has all `parts`."""
    before = contents(place)
    with chdir(place):
        code = main(words)
    err = capsys.readouterr().err
    message = [line for line in err.splitlines() if line.startswith("dp: error:")]
    assert code == 2
    assert len(message) == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert part in message[0]
    assert contents(place) == before


def edit(place, path, value):
    """Set (or with ... delete) a key of the input; path like 'model/descriptor/rcut'."""
    tree = json.loads((place / "input.json").read_text())
    *parents, key = path.split("/")
    section = tree
    for parent in parents:
        section = section.setdefault(parent, {})
    if value is ...:
        del section[key]
    else:
        section[key] = value
    (place / "input.json").write_text(json.dumps(tree))


def test_the_good_input_trains(place):
    """Folders of checkpoints that do not exist yet are made."""
    edit(place, "training/save_ckpt", "new/folder/model.ckpt")
    with chdir(place):
        assert main(["--pt", "train", "input.json"]) == 0
    assert {"model.ckpt.pt", "checkpoint"} < {path.name for path in (place / "new/folder").iterdir()}


INPUTS = [
    ("model", ..., ["section 'model' is missing"]),
    ("training", ..., ["section 'training' is missing"]),
    ("trainning", {}, ["unknown section 'trainning'", "Did you mean 'training'?"]),
    ("nvnmd", {"enable": True}, ["nvnmd", "not supported yet"]),
    ("model", [1], ["model: must be an object", "[1]"]),
    ("loss/start_pref_e", "nan", ["loss/start_pref_e", "valid number", "'nan'"]),
    ("model/descriptor/rcut", "4.0", ["model/descriptor/rcut", "valid number", "'4.0' (a text"]),
    ("model/descriptor/rcut", True, ["model/descriptor/rcut", "valid number", "True"]),
    ("model/descriptor/neuron", [3, True], ["model/descriptor/neuron/1", "valid integer", "True"]),
    ("model/descriptor/resnet_dt", "false", ["model/descriptor/resnet_dt", "valid boolean", "'false'"]),
    ("model/data_stat_nbatch", True, ["model/data_stat_nbatch", "valid integer", "True"]),
    ("training/numb_steps", "2", ["training/numb_steps", "valid integer", "'2'"]),
    ("learning_rate/warmup_steps", 2000, ["learning_rate/warmup_steps: 2000", "less than training/numb_steps"]),
    ("model/type", "zbl", ["model/type", "'zbl'", "Accepted: standard, pairtab"]),
    ("model/type_map", ["O", "O"], ["type_map", "each once"]),
    ("model/type_map", ["O"], ["model/descriptor/sel", "2 entries", "1"]),
    ("model/type_map", ["O", "C"], ["type_map.raw", "'H'", "['O', 'C']"]),
    ("model/descriptor", ..., ["model/descriptor", "missing"]),
    ("model/descriptor/type", "se_e2_b", ["unknown type 'se_e2_b'", "Did you mean 'se_e2_"]),
    ("model/descriptor/type", "dpa4", ["'dpa4'", "not supported yet"]),
    ("model/descriptor/type", ..., ["model/descriptor/type", "required"]),
    ("model/descriptor/rcutt", 6.0, ["unknown key 'rcutt'", "Did you mean 'rcut'?"]),
    ("model/descriptor/rcut", "six", ["model/descriptor/rcut", "'six'"]),
    ("model/descriptor/rcut_smth", 5.0, ["rcut_smth (5.0)", "rcut is 4.0"]),
    ("model/descriptor/sel", [24, 40, 3], ["sel", "3 entries", "2"]),
    ("model/descriptor/sel", "atuo", ["model/descriptor/sel", "'atuo'", "auto:RATIO"]),
    ("model/descriptor/sel", "Auto", ["model/descriptor/sel", "'Auto'", "Did you mean 'auto'?"]),
    ("model/descriptor/axis_neuron", 9, ["axis_neuron", "9"]),
    ("model/descriptor/activation_function", "tan", ["unknown activation 'tan'", "Did you mean 'tanh'?"]),
    ("model/descriptor/precision", "float65", ["float65", "float64"]),
    ("model/descriptor/exclude_types", [[0, 2]], ["exclude_types", "type 2"]),
    ("model/fitting_net/type", "population", ["'population'", "not supported yet", "populations of spins"]),
    ("model/fitting_net/numb_fparam", 2, ["water", "2 values of fparam", "none"]),
    ("model/fitting_net/trainable", [True], ["trainable", "1 flags", "2 layers"]),
    ("model/type_embedding", {"neuron": [0]}, ["model/type_embedding", "positive widths"]),
    ("model/type_embedding", {"width": 8}, ["model/type_embedding", "unknown key 'width'"]),
    ("model/type_embedding", {"precision": "float32"}, ["model/type_embedding", "that of the descriptor"]),
    ("learning_rate/start_lr", ..., ["learning_rate/start_lr", "required"]),
    ("learning_rate/start_lr", -1, ["start_lr is -1.0"]),
    ("learning_rate/start_lr", float("inf"), ["learning_rate/start_lr", "NaN or infinite"]),
    ("model/fitting_net/atom_ener", [0.0, float("nan")], ["model/fitting_net/atom_ener/1", "NaN or infinite"]),
    ("learning_rate/stop_lr", 0.1, ["learning_rate", "is 0.1", "[0, start_lr]"]),
    ("learning_rate/stop_lr", -1e-5, ["learning_rate", "is -1e-05", "[0, start_lr]"]),
    ("learning_rate/stop_lr_ratio", 1e20, ["learning_rate", "is 1e+17", "[0, start_lr]"]),
    ("learning_rate/start_lr", 1e-10, ["learning_rate", "is 5e-08", "[0, start_lr]"]),
    ("learning_rate/warmup_start_factor", -0.1, ["warmup_start_factor is -0.1"]),
    ("learning_rate/decay_rate", 95, ["decay_rate is 95.0", "(0, 1]"]),
    ("model/descriptor/seed", -1, ["model/descriptor", "seed is -1"]),
    ("model/fitting_net/seed", -1, ["model/fitting_net", "seed is -1"]),
    ("model/data_stat_protect", -0.01, ["data_stat_protect is -0.01"]),
    ("training", {"numb_epoch": -1, "training_data": {"systems": "water"}}, ["numb_epoch is -1.0"]),
    ("training/training_data", {}, ["training/training_data/systems", "required, but missing"]),
    ("training/training_data/systems", [], ["training/training_data", "systems is empty"]),
    ("training/stat_file_mode", "read", ["training", "there is no stat_file to read"]),
    (
        "learning_rate",
        {"type": "wsd", "start_lr": 1e-3, "decay_type": "quadratic"},
        ["learning_rate", "'quadratic'", "inverse_linear"],
    ),
    (
        "learning_rate",
        {"type": "cosine", "start_lr": 1e-3, "decay_steps": 5},
        ["learning_rate", "unknown key 'decay_steps'"],
    ),
    ("learning_rate/type", "expo", ["unknown type 'expo'", "Did you mean 'exp'?"]),
    ("loss/start_perf_e", 1, ["unknown key 'start_perf_e'", "Did you mean 'start_pref_e'?"]),
    ("loss/start_pref_h", 1.0, ["start_pref_h", "not supported yet", "Hessians"]),
    ("optimizer/type", "LKF", ["'LKF'", "not supported yet", "Kalman filter"]),
    ("optimizer/type", ["Adam"], ["optimizer/type: unknown type", "Known: Adam"]),
    ("training/numb_steps", ..., ["numb_steps or numb_epoch"]),
    ("training/stop_batch", 5, ["'numb_steps' is given twice"]),
    ("training/disp_freq", 0, ["disp_freq is 0"]),
    ("training/save_ckpt", "input.json/model.ckpt", ["training/save_ckpt", "input.json cannot be made"]),
    ("training/disp_file", "nowhere/lcurve.out", ["training/disp_file", "nowhere"]),
    ("training/tensorboard_freq", 0, ["tensorboard_freq is 0"]),
    ("training/training_data/systems", ["watr"], ["watr", "no such folder"]),
    ("training/training_data/systems", "nowhere", ["nowhere", "no such folder"]),
    ("training/training_data/batch_size", "atuo", ["batch_size", "'atuo'", "Did you mean 'auto'?"]),
    ("training/training_data/numb_bach", 2, ["training/training_data", "unknown key 'numb_bach'"]),
    ("model/data_bias_nsample", 0, ["data_bias_nsample is 0"]),
    ("optimizer", {"type": "AdamW", "weight_decay": -1}, ["optimizer", "weight_decay is -1.0"]),
    ("optimizer", {"adam_beta1": 1}, ["optimizer", "adam_beta1 is 1.0"]),
    ("training/gradient_max_norm", -1, ["gradient_max_norm is -1.0"]),
    ("training/ckpt_keep_ratio", 2, ["ckpt_keep_ratio is 2.0"]),
    ("training/stat_file_mode", "write", ["stat_file_mode is 'write'"]),
    ("training/stat_file", "water/type.raw/stat", ["training/stat_file", "water/type.raw/stat"]),
    ("training/stat_file", "nowhere/stat.h5", ["nowhere/stat.h5", "cannot be written"]),
    ("training/disp_avg", True, ["training/disp_avg", "not supported yet"]),
    ("training/profiling", True, ["training/profiling", "not supported yet"]),
    ("validating", {"full_validation": True, "validation_freq": 0}, ["validating", "validation_freq is 0"]),
    ("validating", {"full_validation": True}, ["needs training/validation_data"]),
    ("validating", {"full_validaton": True}, ["unknown key 'full_validaton'", "Did you mean 'full_validation'?"]),
    ("training/save_ckpt", "", ["training/save_ckpt: ''", "is no path"]),
    ("training/save_ckpt", ".", ["training/save_ckpt: '.' is a folder"]),
    ("training/save_ckpt", "model\0", ["training/save_ckpt", r"\x00", "is no path"]),
    ("training/save_ckpt", "model" * 50, ["training/save_ckpt", "at most 200 bytes"]),
    ("training/disp_file", "curve\ud800", ["training/disp_file"]),
    ("training/stat_file", "a\0b", ["training/stat_file", "is no path"]),
    ("training/training_data/systems", ["water\0"], ["training/training_data/systems/0", "is no path"]),
    ("validating", {"full_val_file": ".."}, ["validating/full_val_file: '..' is a folder"]),
    (
        "model",
        {"type": "pairtab", "type_map": ["O", "H"], "tab_file": "", "rcut": 4.0, "sel": 9},
        ["model/tab_file: ''", "is no path"],
    ),
    ("model/descriptor/sel", "auto:nan", ["model/descriptor/sel", "'auto:nan'", "auto:RATIO"]),
    ("model/descriptor/sel", "auto:1e300", ["model/descriptor/sel", "'auto:1e300'", "auto:RATIO"]),
    ("training/training_data/auto_prob", "prob_sys_size;0:1:nan", ["training/training_data/auto_prob", "'0:1:nan'"]),
    ("training/training_data/auto_prob", "prob_size", ["auto_prob", "'prob_size'"]),
    ("training/validation_data", {"systems": ["watr"]}, ["watr"]),
]


@pytest.mark.parametrize(("path", "value", "parts"), INPUTS, ids=[f"{path}={value}" for path, value, _ in INPUTS])
def test_input(place, capsys, path, value, parts):
    edit(place, path, value)
    fails(place, capsys, ["--pt", "train", "input.json"], *parts)


def spoil(name, change):
    def apply(place):
        file = place / "water" / name
        change(file)

    return apply


def resave(change):
    def apply(file):
        np.save(file, change(np.load(file)))

    return apply


def with_nan(array):
    array[1, 0] = np.nan
    return array


def with_far_atom(array):
    array[1, 5] = 3e9
    return array


def energy_nan(array):
    array[2] = np.nan
    return array


DATA = [
    (spoil("type.raw", Path.unlink), ["type.raw"]),
    (spoil("type.raw", lambda f: f.write_text("0 1 x")), ["type.raw", "integer"]),
    (spoil("type.raw", lambda f: f.write_text("")), ["type.raw", "no atom"]),
    (spoil("type.raw", lambda f: f.write_text("7\n" * 96)), ["type 7", "type_map.raw"]),
    (spoil("set.000/coord.npy", Path.unlink), ["coord.npy", "missing"]),
    (spoil("set.000/box.npy", Path.unlink), ["box.npy", "nopbc"]),
    (spoil("set.000/box.npy", resave(np.zeros_like)), ["box of frame 0", "no volume"]),
    (spoil("set.000/coord.npy", resave(lambda a: a[:, :30])), ["coord.npy", "(3, 30)", "(frames, 288)"]),
    (spoil("set.000/coord.npy", resave(with_nan)), ["coord.npy", "frame 1", "NaN"]),
    (spoil("set.000/coord.npy", resave(with_far_atom)), ["water: frame 1: atom 1 is at", "3000000000.0", "1e-8"]),
    (spoil("set.000/box.npy", resave(lambda a: 0.01 * a)), ["water: frame", "neighbours within", "at most 1000"]),
    (spoil("set.000/energy.npy", resave(energy_nan)), ["energy.npy", "frame 2", "NaN"]),
    (spoil("set.000/force.npy", resave(lambda a: a[:2])), ["force.npy", "(2, 288)", "(3, 288)"]),
    (spoil("set.000/force.npy", lambda f: f.write_bytes(b"nothing")), ["force.npy", "not a readable .npy"]),
    (spoil("set.000/force.npy", lambda f: f.write_bytes(f.read_bytes()[:500])), ["force.npy", "not a readable .npy"]),
    (spoil("set.000/energy.npy", resave(lambda a: a.astype(str))), ["energy.npy", "expected numbers"]),
    (spoil("set.000", shutil.rmtree), ["no set.* folder"]),
]


@pytest.mark.parametrize(("change", "parts"), DATA)
def test_data(place, capsys, change, parts):
    change(place)
    fails(place, capsys, ["--pt", "train", "input.json"], *parts)


def test_two_atoms_at_the_same_place(place, capsys):
    file = place / "water" / "set.000" / "coord.npy"
    coord = np.load(file)
    coord[0, 3:6] = coord[0, 0:3]
    np.save(file, coord)
    fails(place, capsys, ["--pt", "train", "input.json"], "two atoms of frame 0", "same place")


def test_labels_that_the_loss_does_not_read(place, capsys):
    for name in ("energy", "force"):
        (place / "water" / "set.000" / f"{name}.npy").unlink()
    fails(place, capsys, ["--pt", "train", "input.json"], "no system has any of the labels", "energy, force")


def test_batches_of_systems_with_and_without_a_label(place, capsys):
    """One frame without forces would take the forces of its whole batch from the loss."""
    shutil.copytree(place / "water", place / "bare")
    (place / "bare" / "set.000" / "force.npy").unlink()
    edit(place, "training/training_data", {"systems": ["water", "bare"], "batch_size": "mixed:2"})
    fails(place, capsys, ["--pt", "train", "input.json"], "training/training_data/batch_size", "bare lacks force.npy")


COMMANDS = [
    ([], ["which command?"]),
    (["trian", "input.json"], ["unknown command 'trian'", "Did you mean 'train'?"]),
    (["embed"], ["model.ckpt.pt", "no such model file"]),
    (["model-devi"], ["graph.000.pb", "no such model file"]),
    (["model-devi", "-m", "model.dp", "nowhere.dp", "-s", "water"], ["nowhere.dp", "no such model file"]),
    (
        ["model-devi", "-m", "model.dp", "model.dp", "-s", "water", "-o", "nowhere/a.out"],
        ["nowhere/a.out", "cannot be written"],
    ),
    (["change-bias", "nowhere.dp"], ["nowhere.dp", "no such checkpoint"]),
    (["change-bias", "model.dp", "-s", "nowhere"], ["nowhere", "no such folder"]),
    (["change-bias", "model.dp", "-b", "1"], ["[1.0]", "['O', 'H']"]),
    (["eval-desc", "-m", "model.dp", "-s", "water", "-o", "water/type.raw"], ["water/type.raw", "cannot be made"]),
    (["compress", "--pt"], ["frozen_model.pth", "no such model file"]),
    (["compress", "--tf"], ["frozen_model.pb", "no such model file"]),
    (["compress", "-i", "input.json"], ["input.json", "unknown model format '.json'"]),
    (["compress", "-i", "model.dp"], ["model.dp", "shortest distance", "--training-script"]),
    (["compress", "-i", "model.dp", "-t", "nowhere.json"], ["nowhere.json", "No such file"]),
    (["compress", "-i", "model.dp", "-t", "water/type.raw"], ["type.raw", "not valid JSON"]),
    (["compress", "-i", "model.dp", "-t", "input.json", "-o", "c.xyz"], ["c.xyz", "'.xyz'", "Formats to write"]),
    (["compress", "-i", "model.dp", "-t", "input.json", "-o", "c.pt"], ["c.pt", "Formats to write"]),
    (["compress", "-i", "model.dp", "-t", "input.json", "-o", "nowhere/c"], ["nowhere", "does not exist"]),
    (["compress", "-i", "model.dp", "-t", "input.json", "-e", "0.5"], ["extrapolate is 0.5", "at least 1"]),
    (
        ["compress", "-i", "model.dp", "-t", "input.json", "-e", "1e4"],
        ["model.dp", "cannot be compressed", "more than 512 terms"],
    ),
    (["compress", "-i", "model.dp", "-s", "fine"], ["--step", "'fine'"]),
    (["compress", "-i", "model.dp", "--extrapolat", "2"], ["--extrapolat", "Did you mean '--extrapolate'?"]),
    (["train"], ["INPUT"]),
    (["--pt", "train", "nowhere.json"], ["nowhere.json", "No such file"]),
    (["train", "input.json", "--skip-neigbor-stat"], ["--skip-neigbor-stat", "Did you mean '--skip-neighbor-stat'?"]),
    (["train", "input.json", "--backend", "jaxx"], ["unknown backend 'jaxx'"]),
    (["train", "input.json", "--backend", "numpy"], ["numpy backend does not train", "torch"]),
    (["--pt", "train", "input.json", "--finetune", "model.dp"], ["another model"]),
    (["--pt", "train", "input.json", "--use-pretrain-script"], ["--use-pretrain-script", "needs a model file"]),
    (["--pt", "train", "input.json", "--restart", "nowhere"], ["nowhere", "no such checkpoint"]),
    (
        ["--pt", "train", "input.json", "--restart", "model.dp"],
        ["not a checkpoint of the torch backend", "--init-model"],
    ),
    (["--pt", "train", "input.json", "--init-model", "model.dp"], ["another model"]),
    (["--pt", "train", "input.json", "-o", "nowhere/out.json"], ["--output", "nowhere"]),
    (["freeze"], ["no checkpoint here"]),
    (["test", "-m", "nowhere.pth", "-s", "water"], ["nowhere.pth", "no such model file"]),
    (["test", "-m", "model.dp", "-s", "nowhere"], ["nowhere"]),
    (["test", "-m", "input.json", "-s", "water"], ["input.json", "unknown model format '.json'"]),
    (["convert-backend", "model.dp", "model.xyz"], ["model.xyz", "'.xyz'", ".pth"]),
    (["convert-backend", "model.dp", "model.pt"], ["model.pt", "Formats to write"]),
    (["convert-backend", "model.dp", "nowhere/model.yaml"], ["nowhere", "does not exist"]),
    (["convert-backend", "model.dp", "model.dp"], ["same file"]),
    (["show", "model.dp", "descriptr"], ["descriptr"]),
]


@pytest.mark.parametrize(("words", "parts"), COMMANDS, ids=[" ".join(words) or "nothing" for words, _ in COMMANDS])
def test_command_line(place, capsys, words, parts):
    fails(place, capsys, words, *parts)


COMPRESS = ["compress", "-i", "model.dp", "-t", "input.json"]


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("training", ..., ["input.json", "training/training_data/systems is missing"]),
        ("training/training_data/systems", ..., ["input.json", "training/training_data/systems is missing"]),
        ("training/training_data/systems", ["watr"], ["watr", "no such folder"]),
    ],
)
def test_compressing_with_an_input_without_data(place, capsys, path, value, parts):
    edit(place, path, value)
    fails(place, capsys, COMPRESS, *parts)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (spoil("type_map.raw", lambda f: f.write_text("O C")), ["type_map.raw", "'C'"]),
        (spoil("set.000/coord.npy", resave(np.zeros_like)), ["same place"]),
        (spoil("type.raw", lambda f: f.write_text("0 " + "-1 " * 95)), ["input.json", "no two atoms", "4.0 Angstrom"]),
    ],
)
def test_compressing_with_data_that_do_not_fit(place, capsys, change, parts):
    change(place)
    fails(place, capsys, COMPRESS, *parts)


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".pth", ".pb", ".pt"])
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04\x95garbage", b"{}"])
def test_foreign_model_files(place, capsys, suffix, content):
    (place / f"foreign{suffix}").write_bytes(content)
    fails(place, capsys, ["test", "-m", f"foreign{suffix}", "-s", "water"], f"foreign{suffix}")


WRITTEN = ROOT / "tests" / "files_of_older_versions" / "se_e2_a"
WHOLE = [MODEL, MODEL.with_suffix(".yaml"), WRITTEN / "model.pth", WRITTEN / "model.pb"]


@pytest.mark.parametrize("file", WHOLE, ids=lambda file: file.suffix)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_model_files(place, capsys, file, part):
    whole, suffix = file.read_bytes(), file.suffix
    (place / f"cut{suffix}").write_bytes(whole[: int(part * len(whole))])
    fails(place, capsys, ["test", "-m", f"cut{suffix}", "-s", "water"], f"cut{suffix}")


class Planted:
    """Unpickling this runs a command."""

    def __reduce__(self):
        return (os.system, ("touch planted",))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_pickle_is_not_run(place, capsys, suffix):
    import torch

    torch.save({"deepmd_format": 1, "definition": Planted()}, place / f"hostile{suffix}")
    fails(place, capsys, ["test", "-m", f"hostile{suffix}", "-s", "water"], f"hostile{suffix}")
    assert not (place / "planted").exists()


def test_a_file_of_a_later_version(place, capsys):
    shutil.copy(MODEL, place / "later.dp")
    with h5py.File(place / "later.dp", "a") as file:
        tree = json.loads(file.attrs["json"])
        tree["model"]["@version"] = 9
        file.attrs["json"] = json.dumps(tree)
    fails(place, capsys, ["test", "-m", "later.dp", "-s", "water"], "later.dp", "version 9", "up to 2")


@pytest.mark.parametrize(("backend", "package"), [("torch", "torch"), ("tf", "tensorflow")])
def test_a_missing_framework(place, backend, package):
    """In a process where the framework cannot be imported."""
    before = contents(place)
    block = f"import sys; sys.modules[{package!r}] = None; from deepmd.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", block, "train", "input.json", "--backend", backend]
    done = subprocess.run(
        words, cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"needs the package {package!r}" in done.stderr
    assert f"pip install 'deepmd[{backend}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(place) == before


def test_an_unwritable_folder(place, capsys, monkeypatch):
    """Root may write anywhere, so the answer of the system is replaced."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    fails(place, capsys, ["--pt", "train", "input.json"], "training/save_ckpt", "not writable")

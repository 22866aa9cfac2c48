"""Training from end to end: the same path on both backends, restarts, what is left on the disk."""

import json
import math
import re
import signal
from contextlib import chdir

import numpy as np
import pytest
from support import TF_LATER, mark_slow, options
from train.small_training import WATER, largest_difference, largest_parameter_difference, run, run_killed, small_input

from deepmd.array_model.errors import InputError
from deepmd.data.systems import load_system
from deepmd.io import load_model
from deepmd.train import checkpoints
from deepmd.train.main import freeze, train

BACKENDS = ["torch", "tf"]
ENDING = {"torch": ".pt", "tf": ".index"}
SAME_PATH = 1e-8  # two backends after many steps
UNBROKEN = 1e-10  # a restart


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder and rows of one unbroken training on each backend."""
    out = {}
    for backend in BACKENDS:
        folder = tmp_path_factory.mktemp(backend)
        out[backend] = folder, run(folder, small_input(), backend)
    return out


def test_an_empty_file_to_start_from_is_none(tmp_path):
    """As scripts pass it on; it is not the newest checkpoint of the folder."""
    tree = small_input(numb_steps=2)
    rows = run(tmp_path, tree, "torch")
    assert run(tmp_path, tree, "torch", init_model="", restart="") == rows


def test_both_backends_walk_the_same_path(trained):
    (torch, torch_rows), (tf, tf_rows) = trained["torch"], trained["tf"]
    assert largest_difference(torch_rows, tf_rows) < SAME_PATH
    assert largest_parameter_difference(torch / "model.ckpt.pt", tf / "model.ckpt.index") < SAME_PATH


def test_a_fresh_run_learns(trained):
    rows = trained["torch"][1]
    assert rows[-1][1]["rmse"] < 0.6 * rows[0][1]["rmse"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_lcurve_has_the_exact_format(trained, backend):
    lines = (trained[backend][0] / "lcurve.out").read_text().splitlines()
    names = ("rmse", "rmse_e", "rmse_f", "rmse_v")
    assert (
        lines[0] == "# step " + "".join(f"   {name + '_val':>11} {name + '_trn':>11}" for name in names) + "   lr      "
    )
    assert lines[1] == "# If there is no available reference data, rmse_*_{val,trn} will print nan"
    assert [int(line.split()[0]) for line in lines[2:]] == [1, 2, 4, 6, 8, 10, 12, 14]
    number = r" {3}\d\.\d\de[+-]\d\d"
    for line in lines[2:]:
        assert re.fullmatch(r"[ \d]{7}( {3}" + number + " " + number + r"){4} {3} \d\.\de[+-]\d\d", line), line
    rows = np.loadtxt(trained[backend][0] / "lcurve.out")
    step, row, validation, lr = trained[backend][1][-1]
    np.testing.assert_allclose(
        rows[-1], [step, *(v for name in row for v in (validation[name], row[name])), lr], rtol=6e-2
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_files_of_a_training(trained, backend):
    folder = trained[backend][0]
    kept = {path.name for path in folder.iterdir()}
    ending = ENDING[backend]
    assert {f"model.ckpt-{n}{ending}" for n in (5, 10, 14)} <= kept
    assert (folder / f"model.ckpt{ending}").resolve().name == f"model.ckpt-14{ending}"
    assert checkpoints.newest(folder).name.startswith("model.ckpt-14")
    assert not [name for name in kept if name.startswith(".")]
    options = json.loads((folder / "out.json").read_text())
    assert options["model"]["descriptor"]["activation_function"] == "tanh"
    assert options["loss"]["limit_pref_f"] == 1.0


def test_tensorflow_checkpoint_is_one_of_tensorflow(trained):
    tf = pytest.importorskip("tensorflow")
    folder = trained["tf"][0]
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "model.ckpt-14")
    with tf.Graph().as_default():
        tf.compat.v1.train.import_meta_graph(str(folder / "model.ckpt-14.meta"))


@pytest.mark.parametrize("backend", TF_LATER)
def test_retention_keeps_the_newest(tmp_path, backend):
    run(tmp_path, small_input(numb_steps=5, save_freq=1, max_ckpt_keep=2), backend)
    steps = sorted(
        int(path.name.split("-")[1].split(".")[0]) for path in tmp_path.glob(f"model.ckpt-*{ENDING[backend]}")
    )
    assert steps == [4, 5]


@pytest.mark.parametrize(
    ("backend", "deaths"),
    [
        # half of the second checkpoint is written; it is complete, but nothing points to it
        pytest.param("torch", [("write", 2), ("link", 2)], marks=pytest.mark.slow),
        ("tf", [("rename", 11)]),  # between the files of the second checkpoint
        pytest.param("torch", [("row", 6)], marks=pytest.mark.slow),  # after the second checkpoint
        pytest.param("tf", [("row", 6), ("link", 5)], marks=pytest.mark.slow),  # and between its links
    ],
)
def test_a_killed_training_continues_as_if_unbroken(trained, tmp_path, backend, deaths):
    unbroken, rows = trained[backend]
    folders = {tmp_path / f"{event} {count}": (event, count) for event, count in deaths}
    assert run_killed(folders, small_input(), backend) == [signal.SIGKILL] * len(deaths)
    for folder in folders:
        for path in folder.glob(f"model.ckpt-*{ENDING[backend]}"):
            load_model(path)  # what has the name of a checkpoint is whole
        step = int(re.search(r"-(\d+)", checkpoints.newest(folder).name)[1])
        assert step in (5, 10)
        again = run(folder, small_input(), backend, restart=str(folder))
        assert largest_difference(again, [row for row in rows if row[0] > step]) < UNBROKEN
        assert (
            largest_parameter_difference(
                folder / f"model.ckpt{ENDING[backend]}", unbroken / f"model.ckpt{ENDING[backend]}"
            )
            < UNBROKEN
        )
        assert (folder / "lcurve.out").read_text() == (unbroken / "lcurve.out").read_text()


def test_restart_at_the_end_leaves_everything_alone(trained, tmp_path):
    tree = small_input(numb_steps=4, save_freq=2)
    run(tmp_path, tree, "torch")
    before = (tmp_path / "lcurve.out").read_text()
    assert run(tmp_path, tree, "torch", restart=str(tmp_path / "model.ckpt")) == []
    assert (tmp_path / "lcurve.out").read_text() == before


@pytest.mark.parametrize(("backend", "other"), mark_slow([("torch", "tf"), ("tf", "torch")], [("torch", "tf")]))
def test_init_model_takes_the_parameters_of_the_other_backend(trained, tmp_path, backend, other):
    source = trained[other][0] / f"model.ckpt-14{ENDING[other]}"
    run(tmp_path, small_input(numb_steps=0), backend, init_model=str(source))
    assert largest_parameter_difference(tmp_path / f"model.ckpt-0{ENDING[backend]}", source) == 0.0


def test_init_model_of_another_model_says_what_differs(trained, tmp_path):
    tree = small_input()
    tree["model"]["descriptor"]["rcut"] = 3.5
    with pytest.raises(InputError, match=r"model/descriptor/rcut is 3\.5 in the input and 4\.0 in the file"):
        run(tmp_path, tree, "torch", init_model=str(trained["torch"][0]))


def test_restart_needs_a_checkpoint_of_the_same_backend(trained, tmp_path):
    with pytest.raises(InputError, match="not a checkpoint of the tf backend"):
        run(tmp_path, small_input(), "tf", restart=str(trained["torch"][0] / "model.ckpt.pt"))


@pytest.mark.parametrize("backend", TF_LATER)
def test_a_diverging_training_stops_before_anything_is_written(tmp_path, backend):
    tree = small_input(save_freq=1, disp_freq=1)
    tree["learning_rate"] = {"start_lr": 1e200, "stop_lr": 1e199}
    with pytest.raises(
        InputError, match=r"step \d+: the loss is (nan|inf)\. Batch: frame \d+ of .*/water_(330a|600)\."
    ):
        run(tmp_path, tree, backend)
    for path in tmp_path.glob(f"model.ckpt-*{ENDING[backend]}"):
        load_model(path)  # whatever is there is whole and finite
    rows = [line for line in (tmp_path / "lcurve.out").read_text().splitlines() if not line.startswith("#")]
    assert not any("nan" in line or "inf" in line for line in rows)


def shortest_in(name):
    """Shortest distance of two atoms in the frames of a system, by all pairs and the nearest images; Angstrom."""
    system = load_system(WATER / name, ["O", "H"])
    shortest = math.inf
    for coord, cell in zip(system.coord, system.cell, strict=True):
        difference = (coord[:, None] - coord[None]) @ np.linalg.inv(cell)
        vectors = (difference - np.round(difference)) @ cell
        distances = np.linalg.norm(vectors[np.triu_indices(len(coord), 1)], axis=1)
        shortest = min(shortest, float(distances.min()))
    return shortest


def test_automatic_sel_and_the_shortest_distance(tmp_path):
    tree = small_input(numb_steps=1)
    tree["model"]["descriptor"]["sel"] = "auto"
    (tmp_path / "input.json").write_text(json.dumps(tree))
    with chdir(tmp_path):
        train("input.json", backend="torch")
    content = load_model(tmp_path / "model.ckpt.pt")
    assert all(sel % 4 == 0 for sel in options(content.model).descriptor.sel)
    assert content.min_nbor_dist == pytest.approx(min(map(shortest_in, ("water_330a", "water_600"))), rel=1e-9)
    assert json.loads((tmp_path / "out.json").read_text())["model"]["descriptor"]["sel"] == list(
        options(content.model).descriptor.sel
    )


def test_systems_below_a_folder_and_epochs(tmp_path):
    tree = small_input(numb_epoch=0.05)
    del tree["training"]["numb_steps"], tree["training"]["validation_data"]
    tree["training"]["training_data"] = {"systems": str(WATER), "batch_size": 2, "auto_prob": "prob_uniform"}
    run(tmp_path, tree, "torch")
    assert checkpoints.newest(tmp_path).name == "model.ckpt-6.pt"  # 40 batches of each of 3 systems
    assert (tmp_path / "lcurve.out").read_text().startswith("# step       rmse_trn    rmse_e_trn")


@pytest.mark.parametrize(("backend", "suffix"), [("torch", ".pth"), ("tf", ".pb")])
def test_freeze_takes_the_newest_checkpoint_of_a_folder(trained, tmp_path, backend, suffix):
    target = freeze(str(trained[backend][0]), str(tmp_path / "frozen"))
    assert target.suffix == suffix
    assert largest_parameter_difference(target, trained[backend][0] / f"model.ckpt-14{ENDING[backend]}") == 0.0


@pytest.mark.parametrize("backend", TF_LATER)
@pytest.mark.parametrize(
    "change",
    [
        {"model": {"descriptor": {"trainable": False}}},
        {"model": {"fitting_net": {"trainable": [True, False, True]}}},
        {"model": {"descriptor": {"precision": "float32"}, "fitting_net": {"precision": "float32"}}},
        {"loss": {"use_huber": True}, "optimizer": {"type": "Adam", "adam_beta1": 0.8, "weight_decay": 0.01}},
    ],
)
def test_options_of_a_training(tmp_path, backend, change):
    tree, start = small_input(numb_steps=3, disp_freq=1), small_input(numb_steps=0)
    for each in (tree, start):
        each["model"]["fitting_net"]["neuron"] = [6, 6]
        del each["training"]["validation_data"]
    for section, values in change.items():
        for key, value in values.items():
            old = tree.setdefault(section, {}).get(key)
            tree[section][key] = {**old, **value} if isinstance(old, dict) else value
    run(tmp_path, start, backend)
    before = load_model(tmp_path / f"model.ckpt-0{ENDING[backend]}").params
    run(tmp_path, tree, backend)
    after = load_model(tmp_path / f"model.ckpt-3{ENDING[backend]}").params
    moved = {
        "embedding": not np.array_equal(
            before["descriptor"]["embeddings"][0]["layers"][0]["w"],
            after["descriptor"]["embeddings"][0]["layers"][0]["w"],
        ),
        "first": not np.array_equal(
            before["fitting"]["nets"][0]["layers"][0]["w"], after["fitting"]["nets"][0]["layers"][0]["w"]
        ),
        "second": not np.array_equal(
            before["fitting"]["nets"][0]["layers"][1]["w"], after["fitting"]["nets"][0]["layers"][1]["w"]
        ),
    }
    model = change.get("model", {})
    assert moved["embedding"] == model.get("descriptor", {}).get("trainable", True)
    assert moved["second"] == (model.get("fitting_net", {}).get("trainable") != [True, False, True])
    assert moved["first"]

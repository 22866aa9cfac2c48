"""Training of models that pass messages: one curve on both frameworks, automatic slots, files."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from dataclasses import replace

import numpy as np
import pytest
from support import mark_slow, options, require
from train.conversions import CHECKPOINTS, FORMATS, PAIRS, same_file
from train.small_descriptors import MESSAGES
from train.small_training import WATER, largest_difference, run, small_input

from deepmd.array_model.errors import InputError
from deepmd.host import plain
from deepmd.infer import measure_errors
from deepmd.io import convert, load_model
from deepmd.train.main import train

AUTOMATIC = {"dpa2": {"repinit": ["nsel"], "repformer": ["nsel"]}, "dpa3": {"repflow": ["e_sel", "a_sel"]}}


def input_of(kind, **training):
    tree = small_input(**{"numb_steps": 4, "disp_freq": 2, "save_freq": 4, **training})
    tree["model"]["descriptor"], tree["model"]["data_stat_nbatch"] = json.loads(json.dumps(MESSAGES[kind])), 1
    del tree["training"]["validation_data"]
    tree["training"]["training_data"]["systems"] = [str(WATER / "water_330a")]
    return tree


@pytest.mark.parametrize("kind", mark_slow(MESSAGES, ["dpa3"]))
def test_both_backends_walk_the_same_path(tmp_path, kind):
    require("torch")
    require("tensorflow")
    rows = {backend: run(tmp_path / backend, input_of(kind), backend) for backend in ("torch", "tf")}
    assert len(rows["torch"]) == 3
    assert largest_difference(rows["torch"], rows["tf"]) < 1e-8


def with_charge_and_spin(folder, values, **options):
    """An input of a dpa3 that is told charge and spin, and its data; without `values` these have no file of them."""
    tree = input_of("dpa3")
    tree["model"]["descriptor"].update(add_chg_spin_ebd=True, **options)
    tree["training"]["training_data"]["systems"] = [str(shutil.copytree(WATER / "water_330a", folder / "data"))]
    if values is not None:
        frames = len(np.load(folder / "data/set.000/energy.npy"))
        np.save(folder / "data/set.000/charge_spin.npy", np.resize(np.array(values), (frames, 2)))
    return tree


@pytest.mark.parametrize(
    "backends", [("torch",), pytest.param(("torch", "tf"), marks=pytest.mark.slow)], ids=" and ".join
)
def test_charge_and_spin(tmp_path, backends):
    """The vectors of the values that occur are trained, the same on both frameworks, and stay in every format."""
    for backend in backends:
        require({"torch": "torch", "tf": "tensorflow"}[backend])
    tree = with_charge_and_spin(tmp_path, [[1.0, 2.0], [-1.0, 0.0], [0.0, 3.0]])
    tree["training"].update(numb_steps=10, save_freq=10)
    rows = [run(tmp_path / backend, tree, backend) for backend in backends]
    assert largest_difference(rows[0], rows[-1]) < 1e-8
    content = load_model(tmp_path / "torch/model.ckpt-10.pt")
    trained = content.params["descriptor"]
    fresh = replace(options(content.model).descriptor, seed=1).init(
        ("O", "H"), np.random.default_rng, xp=plain
    )  # files do not hold the seed
    for name, values in (("chg_embedding", [99, 100, 101]), ("spin_embedding", [0, 2, 3])):
        (now,), (once,) = trained[name]["layers"], fresh[name]["layers"]
        assert np.flatnonzero(np.any(now["w"] != once["w"], axis=1)).tolist() == values
    for backend in backends:
        suffix = ".pt" if backend == "torch" else ""
        convert(tmp_path / backend / f"model.ckpt-10{suffix}", tmp_path / "model.dp")
        same_file(tmp_path / "model.dp", tmp_path / backend / f"model.ckpt-10{suffix}")
    errors = measure_errors(tmp_path / "model.dp", system=str(tmp_path / "data"), numb_test=2)
    assert errors["energy"][1] > 0.0


def test_default_charge_and_spin(tmp_path):
    """What data without charge and spin are trained with; without a default it is an error."""
    require("torch")
    tree = with_charge_and_spin(tmp_path, None, default_chg_spin=[1, 2])
    other = with_charge_and_spin(tmp_path / "other", [[1.0, 2.0]])
    rows = [run(tmp_path / f"run{number}", each, "torch") for number, each in enumerate((tree, other))]
    assert largest_difference(*rows) == 0.0
    del tree["model"]["descriptor"]["default_chg_spin"]
    with pytest.raises(
        InputError, match=r"data: the model needs 2 values of charge_spin per frame, charge_spin\.npy has none"
    ):
        run(tmp_path / "none", tree, "torch")
    np.save(
        tmp_path / "other/data/set.000/charge_spin.npy", np.load(tmp_path / "other/data/set.000/charge_spin.npy") + 98.0
    )
    with pytest.raises(InputError, match=r"frame [0-9]+: the spin is 100; accepted: 0 to 99"):
        run(tmp_path / "outside", other, "torch")


@pytest.mark.parametrize("kind", MESSAGES)
def test_automatic_slots(tmp_path, kind):
    """Each list counts within its own cutoff."""
    require("torch")
    tree = input_of(kind)
    for section, names in AUTOMATIC[kind].items():
        tree["model"]["descriptor"][section].update(dict.fromkeys(names, "auto"))
    tree["training"]["numb_steps"] = 1
    (tmp_path / "input.json").write_text(json.dumps(tree))
    with chdir(tmp_path):
        train("input.json", backend="torch")
    descriptor = options(load_model(tmp_path / "model.ckpt.pt").model).descriptor
    found = [sel for name, (_, sel) in descriptor.slot_options().items() if "three" not in name]
    assert all(isinstance(sel, int) and sel % 4 == 0 for sel in found)
    assert found[0] > found[1] > 0
    written = json.loads((tmp_path / "out.json").read_text())["model"]["descriptor"]
    assert [written[section][name] for section, names in AUTOMATIC[kind].items() for name in names] == found


@pytest.mark.slow
@pytest.mark.parametrize("kind", MESSAGES)
def test_every_conversion(tmp_path, kind):
    """Between all formats and from the checkpoints of both frameworks: nothing is lost.

    What the files give is tested elsewhere.
    """
    require("torch")
    require("tensorflow")
    files = {}
    for backend, name in CHECKPOINTS.items():
        run(tmp_path / backend, input_of(kind, numb_steps=3, save_freq=3), backend)
        files[backend] = tmp_path / backend / name
    for suffix in FORMATS:
        files[suffix] = tmp_path / f"model{suffix}"
        convert(files["torch"], files[suffix])
    for source, target in PAIRS:
        there = tmp_path / f"there{target}"
        convert(files[source], there)
        if source == "tf":  # another training, equal up to rounding
            assert load_model(there).model == load_model(files[".dp"]).model
            same_file(there, files["tf"])
        else:
            same_file(there, files[".dp"])

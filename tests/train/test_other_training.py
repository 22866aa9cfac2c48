"""Models of dipoles, polarizabilities, densities of states and properties: trained, frozen, converted, tested."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from other_data import KINDS, other_input, write_system
from small_training import largest_difference, largest_parameter_difference, run
from support import require
from tolerances import assert_close

from deepmd.array_model.errors import InputError
from deepmd.data.systems import load_system
from deepmd.infer import DeepEval, measure_errors
from deepmd.io import convert, load_model
from deepmd.io.train_input import parse_input
from deepmd.train.main import freeze

COLUMNS = {
    "dipole": ["rmse_global_dipole", "rmse_local_dipole"],
    "polar": ["rmse_global_polar", "rmse_local_polar"],
    "dos": ["rmse_global_cdf", "rmse_global_dos", "rmse_local_cdf", "rmse_local_dos"],
    "property": ["mae", "rmse"],
    "extensive": ["mae"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    require("torch")
    require("tensorflow")
    folder = tmp_path_factory.mktemp("others")
    write_system(folder / "train")
    write_system(folder / "validation", natoms=6, frames=3, seed=6)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def trained(place, request):
    """A kind, where it was trained by torch and by TensorFlow, and the rows of both learning curves."""
    kind = request.param
    tree = other_input(kind, place / "train", place / "validation")
    return kind, place, {backend: run(place / f"{kind}_{backend}", tree, backend) for backend in ("torch", "tf")}


def test_same_curve(trained):
    kind, place, rows = trained
    assert [*rows["torch"][0][1]] == COLUMNS[kind]
    assert len(rows["torch"]) == 6
    assert largest_difference(rows["torch"], rows["tf"]) < 1e-8
    assert largest_parameter_difference(place / f"{kind}_torch" / "model.ckpt.pt", place / f"{kind}_tf" / "model.ckpt") < 1e-8


def test_files(trained):
    """What was trained predicts the same from every format, on every backend."""
    kind, place, _ = trained
    folder = place / f"{kind}_torch"
    source = freeze(str(folder / "model.ckpt.pt"), str(folder / "model.dp"))
    content = load_model(source)
    frame = {"coords": np.load(place / "train/set.000/coord.npy"), "cells": np.load(place / "train/set.000/box.npy")}
    types = np.loadtxt(place / "train/type.raw", dtype=int)

    def predictions(path, **options):
        with DeepEval(path, **options) as potential:
            full = {"dipole": "eval_full"}.get(potential.output.name, "eval")
            out = getattr(potential, full)(**frame, atom_types=types, atomic=True)
            return out if isinstance(out, tuple) else (out,)

    expected = predictions(source, evaluation="direct")
    for suffix in (".pb", ".yaml"):
        path = folder / f"model{suffix}"
        convert(source, path)
        again = load_model(path)
        assert again.model == content.model
        for one, two in zip(predictions(path), expected, strict=True):
            assert_close(one, two, "spectral", what=suffix)
    for one, two in zip(predictions(source, auto_batch_size=4), expected, strict=True):
        assert_close(one, two, "spectral", what="blocks")


TESTED = {
    "dipole": ("Dipole  RMSE       :", "Dipole  RMSE/sqrtN :", "Dipole  RMSE/N     :"),
    "polar": ("Polarizability  RMSE       :", "Polarizability  RMSE/sqrtN :", "Polarizability  RMSE/N     :"),
    "dos": ("DOS MAE            :", "DOS RMSE           :", "DOS MAE/Natoms     :", "DOS RMSE/Natoms    :"),
    "property": ("PROPERTY MAE            :", "PROPERTY RMSE           :"),
    "extensive": ("PROPERTY MAE            :", "PROPERTY RMSE           :"),
}
DETAILS = {"dipole": ["d.out"], "polar": ["d.out"], "dos": [f"d.dos.out.{k}" for k in range(4)]}


def test_dp_test(trained, caplog):
    kind, place, _ = trained
    folder = place / f"{kind}_torch"
    with caplog.at_level(logging.INFO, logger="deepmd"):
        errors = measure_errors(folder / "model.ckpt.pt", system=str(place / "train"), detail_file=str(folder / "d"), backend="numpy")
    lines = [record.getMessage() for record in caplog.records]
    assert all(any(line.startswith(start) for line in lines) for start in TESTED[kind])
    found = sorted(path.name for path in folder.glob("d.*"))
    assert found == DETAILS.get(kind, [f"d.property.out.{k}" for k in range(4)])
    table = np.concatenate([np.loadtxt(folder / name, ndmin=2) for name in found])
    half = table.shape[1] // 2
    name = "property" if kind in ("property", "extensive") else kind
    assert_close(np.sqrt(np.mean((table[:, :half] - table[:, half:]) ** 2)), errors[name][1], "function")


def test_tensors_of_some_atoms(tmp_path):
    """Tensors may be stored for the atoms of `sel_type` only."""
    arrays = write_system(tmp_path / "whole")
    write_system(tmp_path / "some")
    types = np.loadtxt(tmp_path / "whole/type.raw", dtype=int)
    np.save(tmp_path / "some/set.000/atomic_dipole.npy", arrays["atomic_dipole"][:, types == 0].reshape(4, -1))
    whole, some = (load_system(tmp_path / name, ["O", "H"], without=(1,)).data["atom_dipole"] for name in ("whole", "some"))
    assert_close(some, np.where(types[:, None] == 0, whole, 0.0), "function")
    with pytest.raises(InputError, match="atomic_dipole"):
        load_system(tmp_path / "some", ["O", "H"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"type": "ener"}}, "loss/type: 'ener' is not for models of fitting_net type 'dipole'. Accepted: tensor"),
        ({"loss": {"type": "tensor"}}, "one of them positive"),
        ({"loss": {"pref": 1.0, "target": {}}}, "unknown key 'target'"),
        ({"fitting": {"sel_type": [2]}}, "model/fitting_net/sel_type: type 2 does not exist"),
    ],
)
def test_bad_input(place, changes, message):
    tree = other_input("dipole", place / "train", place / "train")
    tree["loss"] = changes.get("loss", tree["loss"])
    tree["model"]["fitting_net"].update(changes.get("fitting", {}))
    with pytest.raises(InputError, match=message):
        parse_input(tree)

"""Models of dipoles, polarizabilities, densities of states and properties: trained, frozen, converted, tested."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
import pytest
from support import mark_slow, require
from tolerances import assert_close
from train.other_data import KINDS, other_input, write_system
from train.small_training import largest_difference, largest_parameter_difference, run

from deepmd.array_model.errors import InputError
from deepmd.data.systems import load_system
from deepmd.infer import DeepEval, measure_errors
from deepmd.io import convert, load_model
from deepmd.io.train_input import parse_input

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")

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


@pytest.fixture(scope="module")
def trained(place):
    """Train a kind by torch, once; return the rows of its learning curve."""
    return cache(
        lambda kind: run(place / f"{kind}_torch", other_input(kind, place / "train", place / "validation"), "torch")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_curve(trained, kind):
    rows = trained(kind)
    assert [*rows[0][1]] == COLUMNS[kind]
    assert len(rows) == 6


@pytest.mark.parametrize("kind", mark_slow(KINDS, ["dipole"]))
def test_same_curve(trained, place, kind):
    rows = trained(kind)
    others = run(place / f"{kind}_tf", other_input(kind, place / "train", place / "validation"), "tf")
    assert largest_difference(rows, others) < 1e-8
    assert (
        largest_parameter_difference(place / f"{kind}_torch" / "model.ckpt.pt", place / f"{kind}_tf" / "model.ckpt")
        < 1e-8
    )


@pytest.fixture(scope="module")
def written(trained, place):
    """Write what was trained in a format, once."""

    @cache
    def write(kind, suffix):
        trained(kind)
        path = place / f"{kind}{suffix}"
        convert(place / f"{kind}_torch" / "model.ckpt.pt", path)
        return path

    return write


@pytest.fixture
def predictions(place):
    """Predict everything for the frames of the training, by a file."""
    frame = {"coords": np.load(place / "train/set.000/coord.npy"), "cells": np.load(place / "train/set.000/box.npy")}
    types = np.loadtxt(place / "train/type.raw", dtype=int)

    def predict(path, **options):
        with DeepEval(path, **options) as potential:
            full = {"dipole": "eval_full"}.get(potential.output.name, "eval")
            out = getattr(potential, full)(**frame, atom_types=types, atomic=True)
            return out if isinstance(out, tuple) else (out,)

    return predict


@pytest.mark.parametrize(
    ("kind", "suffix"),
    mark_slow(
        [(kind, suffix) for kind in KINDS for suffix in (".yaml", ".pb")],
        [*((kind, ".yaml") for kind in KINDS), ("dos", ".pb")],
    ),
)
def test_files(written, predictions, kind, suffix):
    """What was trained predicts the same from every format, on every backend."""
    source, path = written(kind, ".dp"), written(kind, suffix)
    assert load_model(path).model == load_model(source).model
    for one, two in zip(predictions(path), predictions(source, evaluation="direct"), strict=True):
        assert_close(one, two, "spectral", what=suffix)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks(written, predictions, kind):
    source = written(kind, ".dp")
    expected = predictions(source, evaluation="direct")
    for one, two in zip(predictions(source, auto_batch_size=4), expected, strict=True):
        assert_close(one, two, "spectral")


def by_script(path, frame, types, output, without):
    """Total, atomic values and, of dipoles, forces and virials from the TorchScript itself."""
    torch = require("torch")
    count = len(frame["coords"])
    inputs = torch.tensor(frame["coords"]), torch.tensor(np.tile(types, (count, 1))), torch.tensor(frame["cells"])
    out = {key: value.numpy() for key, value in torch.jit.load(str(path))(*inputs).items()}
    total, atomic = (
        (f"global_{output.name}", output.name)
        if output.name in ("dipole", "polar")
        else (output.label, output.atomic_label)
    )
    kept = ~np.isin(types, without)
    assert np.array_equal(out["mask"], np.tile(kept, (count, 1)))
    assert kept.all() or not out[atomic][:, ~kept].any()
    results = [out[total].reshape(count, -1), out[atomic].reshape(count, len(types), -1)]
    return [*results, out["force"].transpose(0, 2, 1, 3), out["virial"]] if output.differentiable else results


def by_graph(path, frame, types, output, without):
    """The same from the frozen graph, whose tensors leave out atoms without one."""
    tf = require("tensorflow")
    count, natoms = len(frame["coords"]), len(types)
    definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    tensor = output.name in ("dipole", "polar")
    names = [f"o_global_{output.name}", f"o_{output.name}"] if tensor else [f"o_{output.name}", f"o_atom_{output.name}"]
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as running:
        tf.import_graph_def(definition, name="")
        fed = {
            "t_coord:0": frame["coords"].ravel(),
            "t_type:0": np.tile(types, count),
            "t_natoms:0": [natoms, natoms, *np.bincount(types)],
            "t_box:0": frame["cells"].ravel(),
            "t_mesh:0": np.zeros(6),
        }
        names += ["o_force", "o_virial"] if output.differentiable else []
        values = running.run([f"{name}:0" for name in names], fed)
        sel_type = running.run("model_attr/sel_type:0")
    atomic = np.zeros((count, natoms, output.width))
    kept = np.isin(types, sel_type) if tensor else np.ones(natoms, dtype=bool)
    atomic[:, kept] = values[1].reshape(count, -1, output.width)
    results = [values[0].reshape(count, -1), atomic]
    return (
        [*results, values[2].reshape(count, 3, natoms, 3), values[3].reshape(count, 3, 9)]
        if output.differentiable
        else results
    )


@pytest.mark.parametrize(
    ("kind", "run_file"),
    mark_slow(
        [(kind, run_file) for kind in KINDS for run_file in (by_script, by_graph)],
        [*((kind, by_script) for kind in KINDS if kind != "extensive"), ("dos", by_graph)],
    ),
)
def test_native_files_by_themselves(written, place, kind, run_file):
    """`.pth` and `.pb` give the same numbers to programs without this package."""
    path = written(kind, ".pth" if run_file is by_script else ".pb")
    frame = {
        name: np.load(place / f"train/set.000/{file}.npy") for name, file in (("coords", "coord"), ("cells", "box"))
    }
    types = np.loadtxt(place / "train/type.raw", dtype=int)
    frame["coords"] = frame["coords"].reshape(-1, len(types), 3)
    model = load_model(path).model
    native = run_file(path, frame, types, model.output, model.atom_exclude_types)
    potential: Any
    with DeepEval(path, backend="numpy") as potential:
        output = potential.output
        if output.differentiable:
            total, force, virial, atomic, _ = potential.eval_full(**frame, atom_types=types, atomic=True)
            expected = [total, atomic, force, virial]
        elif output.name == "polar":
            expected = [potential.eval(**frame, atom_types=types, atomic=atomic) for atomic in (False, True)]
        else:
            expected = list(potential.eval(**frame, atom_types=types, atomic=True))
    for number, (one, two) in enumerate(zip(native, expected, strict=True)):
        assert_close(one, two, "spectral", what=f"output {number}")


TESTED = {
    "dipole": ("Dipole  RMSE       :", "Dipole  RMSE/sqrtN :", "Dipole  RMSE/N     :"),
    "polar": ("Polarizability  RMSE       :", "Polarizability  RMSE/sqrtN :", "Polarizability  RMSE/N     :"),
    "dos": ("DOS MAE            :", "DOS RMSE           :", "DOS MAE/Natoms     :", "DOS RMSE/Natoms    :"),
    "property": ("PROPERTY MAE            :", "PROPERTY RMSE           :"),
    "extensive": ("PROPERTY MAE            :", "PROPERTY RMSE           :"),
}
DETAILS = {"dipole": ["d.out"], "polar": ["d.out"], "dos": [f"d.dos.out.{k}" for k in range(4)]}


@pytest.mark.parametrize("kind", KINDS)
def test_dp_test(trained, place, caplog, kind):
    trained(kind)
    folder = place / f"{kind}_torch"
    with caplog.at_level(logging.INFO, logger="deepmd"):
        errors = measure_errors(
            folder / "model.ckpt.pt", system=str(place / "train"), detail_file=str(folder / "d"), backend="numpy"
        )
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
    whole, some = (
        load_system(tmp_path / name, ["O", "H"], without=(1,)).data["atom_dipole"] for name in ("whole", "some")
    )
    assert_close(some, np.where(types[:, None] == 0, whole, 0.0), "function")
    with pytest.raises(InputError, match="atomic_dipole"):
        load_system(tmp_path / "some", ["O", "H"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss": {"type": "ener"}},
            "loss/type: 'ener' is not for models of fitting_net type 'dipole'. Accepted: tensor",
        ),
        ({"loss": {"type": "tensor"}}, "all prefactors are zero"),
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

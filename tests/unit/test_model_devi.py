"""Deviations of models, by hand and through the command line."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.array_model.errors import InputError
from deepmd.cli import main
from deepmd.data.systems import load_system
from deepmd.infer import DeepPot, calc_model_devi
from deepmd.infer.eval_desc import evaluate_descriptors
from deepmd.infer.model_devi import calc_model_devi_f, calc_model_devi_v
from deepmd.io import load_model, save_model

MODEL = Path(__file__).parent.parent / "golden" / "se_e2_a" / "model.dp"


@pytest.fixture
def place(tmp_path):
    """Two models and a system of two frames with a virtual atom."""
    content = load_model(MODEL)
    params = {**content.params, "out_bias": content.params["out_bias"] + 1.0}
    layers = params["fitting"]["nets"][0]["layers"]
    params["fitting"] = {
        **params["fitting"],
        "nets": [{"layers": [{**layers[0], "w": 1.1 * layers[0]["w"]}, *layers[1:]]}, params["fitting"]["nets"][1]],
    }
    save_model(tmp_path / "b.dp", content.with_params(params))
    shutil.copy(MODEL, tmp_path / "a.dp")
    part = tmp_path / "water" / "set.000"
    part.mkdir(parents=True)
    (tmp_path / "water" / "type.raw").write_text("0 1 1 -1")
    rng = np.random.default_rng(3)
    np.save(part / "coord.npy", 1.3 * np.array([[0, 0, 0, 1, 0, 0, 0, 1, 0, 5, 5, 5]]) + 0.1 * rng.normal(size=(2, 12)))
    np.save(part / "box.npy", np.tile(9.0 * np.eye(3).reshape(1, 9), (2, 1)))
    for name, width in (("energy", 1), ("force", 12), ("virial", 9)):
        np.save(part / f"{name}.npy", rng.normal(size=(2, width)))
    return tmp_path


def evaluated(place):
    system = load_system(place / "water", ["O", "H"])
    models = [DeepPot(place / name) for name in ("a.dp", "b.dp")]
    return system, models, [model.eval(system.coord, system.cell, system.types) for model in models]


def test_a_frame_without_real_atoms_has_no_deviation(place):
    system, models, _ = evaluated(place)
    assert not calc_model_devi(system.coord, system.cell, np.full(4, -1), models)[:, 1:].any()


@pytest.mark.parametrize("name", ["energy", "force", "virial"])
def test_real_data_of_another_shape_are_refused(place, name):
    system, models, (one, _) = evaluated(place)
    real = {"energy": one[0], "force": one[1], "virial": one[2]}
    with pytest.raises(InputError, match=f"real_data: {name} has the shape"):
        calc_model_devi(system.coord, system.cell, system.types, models, real_data={**real, name: np.zeros(7)})


def test_deviation_by_loops(place):
    system, models, (one, two) = evaluated(place)
    devi = calc_model_devi(system.coord, system.cell, system.types, models, frequency=5, atomic=True)
    assert devi.shape == (2, 8 + 4)
    for frame in range(2):
        forces = [np.linalg.norm(one[1][frame, k] - two[1][frame, k]) / 2 for k in range(3)]  # from the mean of two
        virial = np.abs(one[2][frame] - two[2][frame]) / 2 / 3
        energy = abs(one[0][frame, 0] - two[0][frame, 0]) / 2 / 3
        expected = [
            5 * frame,
            virial.max(),
            virial.min(),
            np.sqrt(np.mean(virial**2)),
            max(forces),
            min(forces),
            np.mean(forces),
            energy,
        ]
        np.testing.assert_allclose(devi[frame, :8], expected, rtol=1e-9)
        np.testing.assert_allclose(devi[frame, 8:], [*forces, 0.0], rtol=1e-9)


def test_relative_deviation():
    rng = np.random.default_rng(0)
    forces, virials = rng.normal(size=(3, 2, 4, 3)), rng.normal(size=(3, 2, 9))
    plain, relative = (calc_model_devi_f(forces, relative=level, atomic=True)[3] for level in (None, 0.5))
    np.testing.assert_allclose(plain / relative, np.linalg.norm(forces.mean(axis=0), axis=-1) + 0.5)
    ratio = calc_model_devi_v(virials)[2] / calc_model_devi_v(virials, relative=0.5)[2]
    np.testing.assert_allclose(ratio, np.linalg.norm(virials.mean(axis=0), axis=-1) + 0.5)


def test_deviation_from_labels(place):
    system, models, results = evaluated(place)
    devi = calc_model_devi(system.coord, system.cell, system.types, models, real_data=system.data)
    force = np.sqrt(np.mean([(out[1] - system.data["force"]) ** 2 for out in results], axis=0))[:, :3]
    np.testing.assert_allclose(devi[:, 4], np.linalg.norm(force, axis=-1).max(axis=-1))
    with pytest.raises(InputError, match="real_data: virial is missing"):
        calc_model_devi(system.coord, system.cell, system.types, models, real_data={"energy": 0, "force": 0})


def test_the_command_writes_the_table(place, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["model-devi", "-m", "a.dp", "b.dp", "-s", "water", "-f", "10", "--atomic", "-o", "md.out"]) == 0
    system, models, _ = evaluated(place)
    expected = calc_model_devi(system.coord, system.cell, system.types, models, frequency=10, atomic=True)
    lines = (place / "md.out").read_text().splitlines()
    assert lines[0] == "# water"
    assert lines[1].startswith("# step      max_devi_v         min_devi_v  ")
    assert lines[3].startswith("          10")
    np.testing.assert_allclose(np.loadtxt(place / "md.out"), expected, rtol=1e-6, atol=1e-12)
    for number, name in enumerate("abab"):
        shutil.copy(f"{name}.dp", f"graph.{number:03d}.dp")
    assert main(["model-devi", "-s", "water", "-f", "10", "--atomic"]) == 0
    assert (place / "model_devi.out").read_text() == (place / "md.out").read_text(), "the mean of four is that of two"
    assert (
        main(
            ["model-devi", "-m", "a.dp", "b.dp", "-s", "water", "--real_error", "--relative", "1", "--relative_v", "1"]
        )
        == 0
    )
    assert np.loadtxt(place / "model_devi.out").shape == (2, 8)
    (place / "water" / "set.000" / "force.npy").unlink()
    assert main(["model-devi", "-m", "a.dp", "b.dp", "-s", "water", "--real_error"]) == 2


@pytest.mark.parametrize(
    "command", [["model-devi", "-m", "a.dp", "b.dp"], ["eval-desc", "-m", "a.dp"], ["test", "-m", "a.dp"]]
)
def test_a_cell_that_cannot_be_is_named_with_its_system(place, monkeypatch, capsys, command):
    monkeypatch.chdir(place)
    file = place / "water" / "set.000" / "box.npy"
    box = np.load(file)
    box[1] *= 0.01
    np.save(file, box)
    assert main([*command, "-s", "water"]) == 2
    assert re.search("water: frame 1: .* neighbours within .*; accepted: at most 1000", capsys.readouterr().err)


def test_models_that_cannot_be_compared(place):
    model = DeepPot(place / "a.dp")
    with pytest.raises(InputError, match="needs at least two"):
        calc_model_devi(np.zeros((1, 3)), None, [0], [model])


def test_descriptors_of_data(place, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["eval-desc", "-m", "a.dp", "-s", "water", "--dtype", "fp32"]) == 0
    system, (model, _), _ = evaluated(place)
    features = np.load("desc/water.npy")
    assert features.dtype == np.float32
    np.testing.assert_allclose(
        features, model.eval_descriptor(system.coord, system.cell, system.types).astype(np.float32)
    )
    shutil.copytree("water", "more/water")
    with pytest.raises(InputError, match="two systems have this name"):
        evaluate_descriptors("a.dp", system=".")


def test_embeddings_of_data(place, monkeypatch):
    """The file of DeePMD-kit's command."""
    monkeypatch.chdir(place)
    assert main(["embed", "-m", "a.dp", "-s", "water"]) == 0
    system, (model, _), _ = evaluated(place)
    arguments = system.coord, system.cell, system.types
    layer = model.eval_fitting_last_layer(*arguments)
    with h5py.File("embedding.hdf5") as file:
        assert list(file.attrs["type_map"]) == ["O", "H"]
        group = file["water"]
        assert dict(group.attrs) == {"nframes": 2, "system": "water"}
        assert group["atom_types"][:].tolist() == [[0, 1, 1, -1]] * 2
        assert {group[name].dtype for name in group} == {np.dtype("float32"), np.dtype("int32")}
        np.testing.assert_allclose(group["descriptor"], model.eval_descriptor(*arguments), rtol=1e-6)
        np.testing.assert_allclose(group["atomic_feature"], layer, rtol=1e-6)
        np.testing.assert_allclose(group["structural_feature"], layer[:, :3].sum(axis=1), rtol=1e-6)
    assert not layer[:, 3].any(), "a virtual atom"

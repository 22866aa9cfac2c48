"""Trainings on a file of ASE, and on the same frames in npy folders; validation frames that are set aside."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from train.small_training import largest_difference, run, small_input

from deepmd.array_model.errors import InputError
from deepmd.data.selection import select_systems
from deepmd.data.systems import find_systems, load_system
from deepmd.io.train_input import parse_input

FRAMES = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same frames of two compositions, which alternate in `water.traj`, and a folder for each in `npy`."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    cell = 6.0 * np.eye(3)
    volume = np.linalg.det(cell)
    systems = {"H2O2": ("OHOH", []), "H4O2": ("OHHOHH", [])}
    for k in range(2 * FRAMES):
        symbols, frames = list(systems.values())[k % 2]
        atoms = Atoms(symbols, 6.0 * rng.random((len(symbols), 3)), cell=cell, pbc=True)
        stress, forces = rng.normal(size=6), rng.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), stress=stress, forces=forces)
        frames.append(atoms)
    for name, (symbols, frames) in systems.items():
        part = folder / "npy" / name / "set.000"
        part.mkdir(parents=True)
        (part.parent / "type.raw").write_text(" ".join(str("OH".index(each)) for each in symbols))
        (part.parent / "type_map.raw").write_text("O H")
        arrays = {
            "coord": [frame.positions for frame in frames],
            "box": [cell for _ in frames],
            "energy": [frame.get_potential_energy() for frame in frames],
            "force": [frame.get_forces() for frame in frames],
            "virial": [-volume * frame.get_stress(voigt=False) for frame in frames],
        }
        for label, values in arrays.items():
            np.save(part / f"{label}.npy", np.array(values).reshape(FRAMES, -1))
    (_, ones), (_, others) = systems.values()
    write(folder / "water.traj", [frame for pair in zip(ones, others, strict=True) for frame in pair])
    return folder


def tree(systems):
    """An input that sets three of the frames aside, without a type map."""
    data = {"systems": systems, "batch_size": 1, "validation_fraction": 0.3}
    out = small_input(training_data=data, numb_steps=3, disp_freq=1)
    del out["training"]["validation_data"], out["model"]["type_map"]
    return out


@pytest.mark.parametrize("backend", ["torch", pytest.param("tf", marks=pytest.mark.slow)])
def test_a_file_of_ase_trains_as_npy_folders(tmp_path, data, backend):
    one, other = (run(tmp_path / name, tree(str(data / name)), backend) for name in ("water.traj", "npy"))
    assert one == other
    assert all(valid for _, _, valid, _ in one)
    curves = [(tmp_path / name / "lcurve.out").read_text() for name in ("water.traj", "npy")]
    assert curves[0] == curves[1]
    if backend == "tf":  # the split is the same on both backends
        assert largest_difference(one, run(tmp_path / "torch", tree(str(data / "npy")), "torch")) < 1e-8


def test_the_parts_of_an_input_that_sets_frames_aside(tmp_path, data):
    """`dp test --train-data` and `--valid-data` mean the frames that the training uses, all once."""
    path = tmp_path / "input.json"
    path.write_text(json.dumps(tree(str(data / "npy"))))
    parts = [select_systems(train_data=str(path)), select_systems(valid_data=str(path))]
    forces = [part.load(each, ["O", "H"]).data["force"][:] for part in parts for each in part.paths]
    expected = [load_system(each, ["O", "H"]).data["force"][:] for each in find_systems(str(data / "npy"))]
    assert sorted(np.concatenate([each.ravel() for each in forces])) == sorted(
        np.concatenate([each.ravel() for each in expected])
    )
    aside = [parts[1].load(each, ["O", "H"]) for each in parts[1].paths]
    assert sum(each.num_frames for each in aside) == 3
    frame = aside[0].numbers[0]  # messages name frames as the files count them
    assert aside[0].structure(0).where == f"{parts[1].paths[0]}: frame {frame}"


def test_validation_twice_is_an_error(data):
    both = {**tree(str(data / "npy")), "model": small_input()["model"]}
    both["training"]["validation_data"] = {"systems": str(data / "npy")}
    with pytest.raises(InputError, match=r"training_data/validation_fraction: .* validation_data is given; keep one"):
        parse_input(both)

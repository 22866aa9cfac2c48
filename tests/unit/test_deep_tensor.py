"""Models of other quantities than energies: what `eval` returns, what `dp test` compares, what freezing says."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from support import require
from tolerances import assert_close

from deepmd import infer
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.dipole import DipoleFitting
from deepmd.array_model.fittings.dos import DosFitting
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.fittings.polar import PolarFitting
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.host import plain
from deepmd.io import convert, save_model
from deepmd.io.model_file import ModelFile
from deepmd.train.main import freeze

DESCRIPTOR = SeE2A(sel=(3, 3), rcut=4.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2)
COORDS, TYPES = np.random.default_rng(0).uniform(0.0, 4.0, (2, 3, 3)), [0, 1, 1]

TOTAL, ATOMIC, BOTH = ("total",), ("atomic",), ("total", "atomic")
CASES = {
    # class: (fitting, components, what eval returns by default, with atomic, without)
    "DeepDipole": (DipoleFitting(neuron=(3,)), 3, ATOMIC, ATOMIC, TOTAL),
    "DeepPolar": (PolarFitting(neuron=(3,)), 9, ATOMIC, ATOMIC, TOTAL),
    "DeepGlobalPolar": (PolarFitting(neuron=(3,)), 9, TOTAL, ATOMIC, TOTAL),
    "DeepDOS": (DosFitting(neuron=(3,), numb_dos=4), 4, BOTH, BOTH, BOTH),
    "DeepProperty": (PropertyFitting(neuron=(3,), property_name="gap", task_dim=2), 2, TOTAL, BOTH, TOTAL),
}


def write_model(folder, fitting, **options):
    model = StandardModel(("O", "H"), DESCRIPTOR, fitting, **options)
    save_model(folder / "m.dp", ModelFile(model, model.init(lambda _: np.random.default_rng(3), xp=plain), {}, 0.5))
    return folder / "m.dp"


@pytest.mark.parametrize("name", CASES)
def test_what_eval_returns(name, tmp_path):
    fitting, width, default, *chosen = CASES[name]
    potential = getattr(infer, name)(write_model(tmp_path, fitting))
    shapes = {"total": (2, width), "atomic": (2, 3, width)}
    results = {}
    for expected, options in ((default, {}), (chosen[0], {"atomic": True}), (chosen[1], {"atomic": False})):
        out = potential.eval(COORDS, None, TYPES, **options)
        out = out if isinstance(out, tuple) else (out,)
        assert [array.shape for array in out] == [shapes[what] for what in expected]
        results.update(zip(expected, out, strict=True))
    assert_close(results["atomic"].sum(axis=1), results["total"], "energy")


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_a_mean_of_torchscript_is_one_over_the_atoms_that_have_an_output(tmp_path):
    torch = require("torch")
    fitting = PropertyFitting(neuron=(3,), property_name="gap", task_dim=2, intensive=True)
    source = write_model(tmp_path, fitting, atom_exclude_types=(0,))
    convert(source, tmp_path / "m.pth")
    out = torch.jit.load(str(tmp_path / "m.pth"))(torch.tensor(COORDS), torch.tensor([TYPES] * 2))
    atomic = out["atom_gap"].numpy()
    assert np.all(atomic[:, 1:] != 0.0)
    assert not atomic[:, 0].any()
    assert out["mask"].tolist() == [[0, 1, 1]] * 2
    assert_close(out["gap"].numpy(), atomic[:, 1:].mean(axis=1), "energy")


def write_system(folder, types=TYPES, **labels):
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text(" ".join(map(str, types)))
    (folder / "nopbc").touch()
    for name, array in {"coord": COORDS, **labels}.items():
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(len(COORDS), -1))
    return str(folder)


def test_dp_test_of_selected_atoms(tmp_path):
    """Dipoles that are stored for the oxygen atoms alone are compared with -a, and without it an error names -a."""
    model = write_model(tmp_path, DipoleFitting(neuron=(3,)), atom_exclude_types=(1,))
    labels = np.random.default_rng(1).normal(size=(2, 1, 3))
    system = write_system(tmp_path / "data", atomic_dipole=labels)
    difference = infer.DeepDipole(model).eval(COORDS, None, TYPES)[:, :1] - labels
    _, error = infer.measure_errors(model, system=system, atomic=True)["atomic dipole"]
    assert_close(error, np.sqrt(np.mean(difference**2)), "function")
    with pytest.raises(InputError, match=r"data: holds no label .*\(dipole\.npy.*; those of single atoms .* with -a"):
        infer.measure_errors(model, system=system)
    totals = write_system(tmp_path / "totals", dipole=labels)
    with pytest.raises(InputError, match=r"totals: holds no label .*; those of whole frames are compared without -a"):
        infer.measure_errors(model, system=totals, atomic=True)
    nothing = write_system(tmp_path / "nothing", types=[1, 1, 1], atomic_dipole=np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match=r"nothing: no atom has a type with a dipole; types with one: \[0\]"):
        infer.measure_errors(model, system=nothing, atomic=True)


def test_no_detail_files_without_a_word(tmp_path, caplog):
    """Where compositions differ, frames have unlike numbers of dipoles, which make no table."""
    model = write_model(tmp_path, DipoleFitting(neuron=(3,)), atom_exclude_types=(1,))
    types = np.array([[0, 1, 1], [1, 0, 0]])
    system = write_system(tmp_path / "data", real_atom_types=types, atomic_dipole=np.zeros((2, 3, 3)))
    infer.measure_errors(model, system=system, atomic=True, detail_file=str(tmp_path / "d"))
    assert list(tmp_path.glob("d.*")) == []
    assert "data: there are no detail files of what was compared" in caplog.text


@pytest.mark.parametrize(("fitting", "lines"), [(DipoleFitting(neuron=(3,)), 0), (EnergyFitting(neuron=(3,)), 1)])
def test_what_freezing_tells_of_lammps(fitting, lines, tmp_path, caplog):
    """The pair style is for energies."""
    require("torch")
    with caplog.at_level(logging.INFO, logger="deepmd"):
        freeze(str(write_model(tmp_path, fitting)), str(tmp_path / "m.pth"))
    assert caplog.text.count("pair_style deepmd") == lines

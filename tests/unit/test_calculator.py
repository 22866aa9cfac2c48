"""The ASE calculator against finite differences of its own energies, and what it refuses."""

from __future__ import annotations

import copy
import json
import multiprocessing
import operator
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ase")

import ase
from ase.calculators.calculator import PropertyNotImplementedError
from ase.db import connect
from ase.io import read, write

from deepmd.array_model.errors import InputError
from deepmd.calculator import DP
from deepmd.infer import DeepPot

GOLDEN = Path(__file__).parent.parent / "golden"
MODEL = GOLDEN / "se_e2_a" / "model.dp"


def structure(case: str = "se_e2_a", boundary: str = "pbc") -> ase.Atoms:
    with np.load(GOLDEN / case / "expected.npz") as stored:
        symbols = [("O", "H")[kind] for kind in stored[f"{boundary}/type"]]
        cell = stored["pbc/cell"] if boundary == "pbc" else None
        return ase.Atoms(symbols, positions=stored[f"{boundary}/coord"], cell=cell, pbc=boundary == "pbc")


@pytest.fixture
def atoms() -> ase.Atoms:
    out = structure()
    out.calc = DP(MODEL)
    return out


def test_results_are_the_golden_ones(atoms: ase.Atoms) -> None:
    with np.load(GOLDEN / "se_e2_a" / "expected.npz") as stored:
        assert atoms.get_potential_energy() == pytest.approx(float(stored["pbc/energy"][0]), rel=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), stored["pbc/force"], atol=1e-12)
        np.testing.assert_allclose(atoms.calc.results["virial"], stored["pbc/virial"], atol=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_forces_are_the_slope_of_the_energy(atoms: ase.Atoms) -> None:
    forces, step = atoms.get_forces(), 1e-4
    for atom, axis in ((0, 0), (4, 1), (17, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-8)


@pytest.mark.parametrize(("row", "column", "voigt"), [(0, 0, 0), (1, 1, 1), (2, 2, 2), (1, 2, 3), (0, 2, 4), (0, 1, 5)])
def test_stress_is_the_slope_under_strain(atoms: ase.Atoms, row: int, column: int, voigt: int) -> None:
    stress, step = atoms.get_stress()[voigt], 1e-4
    energies = []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[row, column] += 0.5 * sign * step
        strain[column, row] += 0.5 * sign * step
        strained = atoms.copy()
        strained.calc = atoms.calc
        strained.set_cell(atoms.cell.array @ strain.T, scale_atoms=True)
        energies.append(strained.get_potential_energy())
    assert stress == pytest.approx((energies[0] - energies[1]) / (2 * step) / atoms.get_volume(), abs=1e-9)


def test_any_periodic_direction_makes_all_periodic(atoms: ase.Atoms) -> None:
    slab = atoms.copy()
    slab.pbc = (True, False, False)
    slab.calc = DP(MODEL)
    assert slab.get_potential_energy() == atoms.get_potential_energy()


def test_an_open_structure_has_no_stress() -> None:
    atoms = structure(boundary="nopbc")
    atoms.calc = DP(MODEL)
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError, match="no periodic cell"):
        atoms.get_stress()


def test_types_follow_the_elements() -> None:
    atoms = structure()
    renamed = atoms.copy()
    renamed.symbols = ["S" if symbol == "O" else "H" for symbol in atoms.get_chemical_symbols()]
    atoms.calc, renamed.calc = DP(MODEL), DP(MODEL, type_dict={"S": 0, "H": 1})
    assert renamed.get_potential_energy() == atoms.get_potential_energy()
    renamed.calc = DP(MODEL)
    with pytest.raises(InputError, match=r"element 'S' of the structure has no type. Known: \{'O': 0, 'H': 1\}"):
        renamed.get_potential_energy()


def test_parameters_come_from_info() -> None:
    case = "se_e2_a_fparam"
    atoms = structure(case)
    with np.load(GOLDEN / case / "expected.npz") as stored:
        atoms.info.update(fparam=stored["pbc/fparam"][0], aparam=stored["pbc/aparam"][0])
        energy = float(stored["pbc/energy"][0])
    atoms.calc = DP(GOLDEN / case / "model.dp")
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    del atoms.info["fparam"]
    atoms.calc = DP(GOLDEN / case / "model.dp")
    with pytest.raises(InputError, match="fparam: missing"):
        atoms.get_potential_energy()


# -- parameters of a structure
# ------------------------------------------------------------------------------------------


@pytest.fixture
def conditioned() -> ase.Atoms:
    """A structure whose model takes two frame parameters and one of each atom."""
    out = structure("se_e2_a_fparam")
    out.info.update(fparam=np.array([0.1, 0.2]), aparam=np.zeros((len(out), 1)))
    out.calc = DP(GOLDEN / "se_e2_a_fparam" / "model.dp")
    return out


CHANGES = {
    "another value": lambda info: info.update(fparam=[0.9, -0.5]),
    "a value changed in place": lambda info: operator.setitem(info["fparam"], 0, 0.9),
    "of one atom": lambda info: operator.setitem(info["aparam"], (3, 0), 0.7),
    "a plain number": lambda info: info.update(aparam=0.7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_parameter_is_a_changed_structure(conditioned: ase.Atoms, change: str) -> None:
    before = conditioned.get_potential_energy()
    CHANGES[change](conditioned.info)
    fresh = conditioned.copy()
    fresh.calc = DP(GOLDEN / "se_e2_a_fparam" / "model.dp")
    assert conditioned.calc.calculation_required(conditioned, ["energy"])
    assert conditioned.calc.get_property("energy", conditioned, allow_calculation=False) is None
    assert conditioned.get_potential_energy() == fresh.get_potential_energy() != before
    assert not conditioned.calc.calculation_required(conditioned, ["energy"])


def test_charge_and_spin_are_parameters_too() -> None:
    atoms = structure("dpa3_charge_spin", "nopbc")
    atoms.calc = DP(GOLDEN / "dpa3_charge_spin" / "model.dp")
    energies = []
    for value in ([0, 1], [1, 2], [0, 1]):
        atoms.info["charge_spin"] = value
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[2] != energies[1]


def test_what_the_model_does_not_take_changes_nothing(atoms: ase.Atoms) -> None:
    atoms.get_potential_energy()
    atoms.info.update(fparam=[1.0], note="text")
    assert not atoms.calc.calculation_required(atoms, ["energy"])


@pytest.mark.parametrize("value", ["text", [[0.1], [0.1, 0.2]], [0.1, 0.2, 0.3], 0.1, [np.nan, 0.0], None])
def test_no_parameter_leaves_no_result(conditioned: ase.Atoms, value: object) -> None:
    conditioned.get_potential_energy()
    conditioned.info["fparam"] = value
    for _ in range(2):
        with pytest.raises(InputError, match="fparam: "):
            conditioned.get_potential_energy()


def test_a_plain_number_is_a_list_of_one() -> None:
    model = DeepPot(GOLDEN / "se_e2_a_fparam" / "model.dp")
    frame = {"coords": np.arange(9.0), "cells": None, "atom_types": [0, 1, 1], "fparam": [0.1, 0.2]}
    assert model.eval(**frame, aparam=0.3)[0] == model.eval(**frame, aparam=[0.3])[0]


# -- arguments
# ----------------------------------------------------------------------------------------------------------


def test_arguments_of_the_model_reach_it() -> None:
    calc = DP(MODEL, evaluation="direct", backend="np", auto_batch_size=7)
    assert (calc.dp.evaluation, calc.dp.backend, DP(MODEL).dp.evaluation) == (
        "direct",
        "numpy",
        DeepPot(MODEL).evaluation,
    )


@pytest.mark.parametrize(("word", "meant"), [("evaluaton", "'evaluation'"), ("Backend", "'backend'"), ("restart", "")])
def test_unknown_arguments_are_refused(word: str, meant: str) -> None:
    with pytest.raises(
        InputError, match=rf"unknown argument '{word}'. Accepted: model, .*evaluation, .*label.*{meant}"
    ):
        DP(MODEL, **{word: "direct"})
    calc = DP(MODEL)
    with pytest.raises(InputError, match=f"unknown argument '{word}'"):
        calc.set(**{word: "direct"})
    assert word not in calc.todict()


def test_arguments_set_later_count(atoms: ase.Atoms) -> None:
    atoms.get_potential_energy()
    assert atoms.calc.set(evaluation="direct", type_dict={"O": 1, "H": 0}).keys() == {"evaluation", "type_dict"}
    other = atoms.copy()
    other.calc = DP(MODEL, type_dict={"O": 1, "H": 0}, evaluation="direct")
    assert atoms.calc.dp.evaluation == "direct"
    assert atoms.get_potential_energy() == other.get_potential_energy()


@pytest.mark.parametrize("file", ["one.traj", "one.json", "one.db", "one.xyz"])
def test_files_tell_the_arguments(atoms: ase.Atoms, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MODEL.parent)
    atoms.calc = DP(Path(MODEL.name), evaluation="direct", type_dict={"O": np.int64(0), "H": 1})
    stress = atoms.get_stress()
    monkeypatch.chdir(tmp_path)
    told = atoms.calc.todict()
    assert json.loads(json.dumps(told)) == {"model": str(MODEL), "evaluation": "direct", "type_dict": {"O": 0, "H": 1}}
    again = atoms.copy()
    again.calc = DP(**told)
    assert np.array_equal(again.get_stress(), stress)
    write(file, atoms)
    found = read(file)
    np.testing.assert_allclose(found.get_stress(), stress, rtol=1e-6)
    if file.endswith(".traj"):
        assert found.calc.parameters == told
    if file.endswith((".json", ".db")):
        assert next(connect(file).select()).calculator_parameters == told


# -- what Python and ASE expect
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda atoms: pickle.loads(pickle.dumps(atoms))])
def test_structures_are_copied_with_their_calculator(conditioned: ase.Atoms, duplicate: object) -> None:
    energy = conditioned.get_potential_energy()
    other = duplicate(conditioned)
    assert not other.calc.calculation_required(other, ["energy"])
    other.positions[0] += 0.1
    other.info["fparam"][0] = 0.7
    assert other.get_potential_energy() != energy
    assert not conditioned.calc.calculation_required(conditioned, ["energy"])


def test_structures_go_to_spawned_processes(atoms: ase.Atoms) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        forces = pool.map_async(operator.methodcaller("get_forces"), [atoms]).get(timeout=120)
    assert np.array_equal(forces[0], atoms.get_forces())


def test_exported_are_the_results_that_ase_knows(atoms: ase.Atoms) -> None:
    atoms.get_stress()
    exported = atoms.calc.export_properties()
    assert set(exported) == {"energy", "free_energy", "forces", "stress", "natoms"}
    assert np.array_equal(exported["forces"], atoms.get_forces())


def test_a_failed_calculation_leaves_no_result_of_another_structure(atoms: ase.Atoms) -> None:
    atoms.get_potential_energy()
    foreign = atoms.copy()
    foreign.symbols[0] = "S"
    with pytest.raises(InputError, match="element 'S'"):
        atoms.calc.calculate(foreign)
    assert atoms.calc.get_property("energy", foreign, allow_calculation=False) is None


@pytest.mark.parametrize("given", ["O", {}, {"O": 0.5}, {"O": 7}, {"O": -1}])
def test_types_that_are_none_of_the_model_are_refused(given):
    with pytest.raises(InputError, match=r"type_dict: .*; accepted: .*0 to 1, \['O', 'H'\]"):
        DP(MODEL, type_dict=given)


def test_complex_numbers_are_refused():
    """Their imaginary part would be lost without a word."""
    with pytest.raises(InputError, match=r"^coords: holds complex numbers"):
        DeepPot(MODEL).eval(np.zeros((1, 1, 3)) * 1j, None, [0])

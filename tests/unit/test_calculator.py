"""The ASE calculator against finite differences of its own energies, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ase = pytest.importorskip("ase")

from ase.calculators.calculator import PropertyNotImplementedError  # noqa: E402

from deepmd.array_model.errors import InputError  # noqa: E402
from deepmd.calculator import DP  # noqa: E402

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

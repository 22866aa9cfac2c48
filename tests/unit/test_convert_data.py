"""`dp data convert` and `dp eval`: nothing is lost, and predictions stand beside the labels."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write

from deepmd.array_model.errors import InputError
from deepmd.data.convert import convert_data
from deepmd.data.selection import select_systems
from deepmd.data.systems import find_systems, load_system
from deepmd.infer import DeepPot
from deepmd.infer.eval_file import evaluate_file

RNG = np.random.default_rng(1)


def structures():
    """Structures of two compositions, the second with atoms in another order once, and one without a cell."""
    out = []
    for symbols in ("OHH", "OHHOHH", "HHOHHO", "OHH"):
        atoms = Atoms(symbols, 5.0 * RNG.random((len(symbols), 3)), cell=6 * np.eye(3) + 0.1 * RNG.random((3, 3)))
        atoms.pbc = len(out) < 3
        stress = {"stress": RNG.normal(size=6)} if atoms.pbc.all() else {}
        forces = RNG.normal(size=(len(atoms), 3))
        atoms.info["fparam"] = RNG.normal(size=2)
        atoms.calc = SinglePointCalculator(atoms, energy=RNG.normal(), forces=forces, **stress)
        out.append(atoms)
    return out


def arrays_of(path):
    """Everything that is read of data, by system."""
    found = []
    for each in find_systems(str(path)):
        system = load_system(each, ["O", "H"])
        values = {"coord": system.coord, "cell": system.cell, "types": system.types, **system.data}
        found.append({name: None if value is None else np.asarray(value) for name, value in values.items()})
    return found


@pytest.mark.parametrize("ending", ["", ".hdf5", ".extxyz"])
def test_conversions_keep_every_digit(tmp_path, ending):
    write(tmp_path / "a.traj", structures())
    one = convert_data(select_systems(system=str(tmp_path / "a.traj")), tmp_path / f"out{ending}")
    expected, found = arrays_of(tmp_path / "a.traj"), arrays_of(one)
    assert [each.keys() for each in found] == [each.keys() for each in expected]
    assert {"energy", "force", "virial", "fparam"} < found[0].keys()
    np.testing.assert_equal(found, expected)
    again = convert_data(select_systems(system=str(one)), tmp_path / "again.extxyz")
    np.testing.assert_equal(arrays_of(again), expected)
    if ending == ".extxyz":
        assert [len(each) for each in read(one, ":")] == [3, 6, 6, 3]
        np.testing.assert_allclose(read(one, 0).get_stress(), read(tmp_path / "a.traj", 0).get_stress(), rtol=1e-12)


def test_where_data_are_not_written(tmp_path):
    write(tmp_path / "a.traj", structures())
    data = select_systems(system=str(tmp_path / "a.traj"))
    with pytest.raises(InputError, match=r"out\.txt: accepted: \.extxyz"):
        convert_data(data, tmp_path / "out.txt")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"out cannot be written: it is a folder"):
        convert_data(data, tmp_path / "out")


def test_predictions_beside_the_labels(place, tmp_path):
    frames = structures()
    frames[1].info["note"] = "kept"
    frames[1].set_constraint(FixAtoms([0]))
    write(tmp_path / "in.extxyz", frames)
    out = tmp_path / "out.extxyz"
    assert evaluate_file(place / "model.dp", out, system=str(tmp_path / "in.extxyz"), atomic=True) == 4
    before, after = read(tmp_path / "in.extxyz", ":"), read(out, ":")
    potential = DeepPot(place / "model.dp")
    kinds = {element: kind for kind, element in enumerate(potential.get_type_map())}
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        assert other.get_chemical_symbols() == one.get_chemical_symbols()
        np.testing.assert_array_equal(other.positions, one.positions)
        np.testing.assert_array_equal(other.cell.array, one.cell.array)
        np.testing.assert_array_equal(other.get_forces(apply_constraint=False), one.get_forces(apply_constraint=False))
        assert other.get_potential_energy() == one.get_potential_energy()
        cells = one.cell.array[None] if number < 3 else None
        types = [kinds[symbol] for symbol in one.get_chemical_symbols()]
        energy, force, virial, atom_energy, _ = potential.eval(one.positions[None], cells, types, atomic=True)
        np.testing.assert_allclose(other.info["dp_energy"], energy[0, 0], rtol=1e-12)
        np.testing.assert_allclose(other.arrays["dp_forces"], force[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(other.arrays["dp_energies"], atom_energy[0, :, 0], rtol=1e-9, atol=1e-12)
        assert ("dp_stress" in other.info) == (number < 3)
        if number < 3:
            stress = -virial[0][[0, 4, 8, 5, 2, 1]] / one.get_volume()
            np.testing.assert_allclose(other.info["dp_stress"], stress, rtol=1e-9, atol=1e-12)
    assert after[1].info["note"] == "kept"
    assert after[1].constraints[0].index.tolist() == [0]
    again = load_system(find_systems(str(out))[0], ["O", "H"])  # predictions are no labels
    assert again.data["energy"][0] in [frame.get_potential_energy() for frame in before]
    with pytest.raises(InputError, match="accepted: a name that ends with"):
        evaluate_file(place / "model.dp", tmp_path / "out.traj", system=str(tmp_path / "in.extxyz"))


@pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")
def test_predictions_for_npy_folders(place, tmp_path):
    evaluate_file(place / "model.dp", tmp_path / "out.extxyz", system=str(place / "water"))
    frames = read(tmp_path / "out.extxyz", ":")
    stored = load_system(place / "water", ["O", "H"])
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[2].get_forces(), stored.data["force"][2])
    assert frames[2].arrays["dp_forces"].shape == (96, 3)


def test_values_that_are_left_out_are_named(tmp_path, caplog):
    frame = "1\nProperties=species:S:1:pos:R:3 energy=1.0 band_gap=0.5 pbc=F\nH 0.0 0.0 0.0\n"
    (tmp_path / "gaps.extxyz").write_text(frame)
    convert_data(select_systems(system=str(tmp_path / "gaps.extxyz")), tmp_path / "out.hdf5")
    assert "values of these names are left out: band_gap" in caplog.text

"""Systems in files that ASE reads: grouping, label keys, signs and units, errors."""

import logging
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from deepmd.array_model.errors import InputError
from deepmd.data.label_keys import LabelKeys
from deepmd.data.systems import elements_of, find_systems, load_system

TYPE_MAP = ["H", "C", "O"]
RNG = np.random.default_rng(0)


def structure(symbols="OHH", pbc=True, results=True, info=None, arrays=None):
    """Return a structure with labels in the results of its calculator."""
    atoms = Atoms(symbols, RNG.normal(size=(len(Atoms(symbols)), 3)), cell=8 * np.eye(3) + 0.1, pbc=pbc, info=info)
    for name, values in (arrays or {}).items():
        atoms.set_array(name, values)
    if results:
        stress = {"stress": RNG.normal(size=6)} if pbc else {}
        forces = RNG.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=RNG.normal(), forces=forces, **stress)
    return atoms


def save(path, frames):
    write(path, frames)
    return str(path)


def test_frames_are_grouped_and_labels_have_our_sign_and_unit(tmp_path):
    """Systems: a composition with a cell, another one, the first without a cell. Virial = -stress * volume."""
    frames = [structure(), structure("CO"), structure("HOH"), structure(pbc=False)]
    file = save(tmp_path / "all.traj", frames)
    paths = find_systems(file)
    assert paths == [f"{file}#{name}" for name in ("CO", "H2O", "H2O.1")]
    assert elements_of(paths) == ["C", "O", "H"]
    _, water, free = (load_system(path, TYPE_MAP) for path in paths)
    np.testing.assert_array_equal(water.types, [[2, 0, 0], [0, 2, 0]])  # in the order of the file
    for number, frame in enumerate((frames[0], frames[2])):
        np.testing.assert_array_equal(water.coord[number], frame.positions)
        np.testing.assert_array_equal(water.cell[number], frame.cell.array)
        assert water.data["energy"][number] == frame.calc.results["energy"]
        np.testing.assert_array_equal(water.data["force"][number], frame.calc.results["forces"])
        virial = -frame.get_stress(voigt=False) * frame.get_volume()
        np.testing.assert_allclose(water.data["virial"][number], virial.reshape(-1), rtol=1e-12)
    assert free.cell is None
    assert free.structure(0).where == f"{paths[2]}: frame 3"  # counted in the file
    assert free.data.keys() == {"energy", "force"}


@pytest.mark.parametrize("ending", ["extxyz", "db", "xyz.gz"])
def test_formats(tmp_path, ending):
    """Text rounds positions to 1e-8."""
    frames = [structure(), structure()]
    system = load_system(save(tmp_path / f"water.{ending}", frames), TYPE_MAP)
    assert (system.num_frames, system.mixed) == (2, False)
    np.testing.assert_allclose(system.coord[1], frames[1].positions, atol=1e-8, rtol=0)
    np.testing.assert_allclose(system.data["force"][1], frames[1].get_forces(), atol=1e-8, rtol=0)
    assert system.data["energy"][1] == frames[1].get_potential_energy()


NAMED = {"REF_energy": 1.0, "REF_virial": np.arange(9.0).reshape(3, 3), "energy_sigma": 0.1, "dp_energy": 2.0}


@pytest.mark.parametrize(
    ("keys", "energy"), [({}, 1.0), ({"energy": "REF_energy"}, 1.0), ({"energy": "energy_sigma"}, 0.1)]
)
def test_names_of_labels(tmp_path, keys, energy):
    forces = RNG.normal(size=(3, 3))
    frame = structure(results=False, info=NAMED, arrays={"REF_forces": forces, "spins": forces})
    system = load_system(save(tmp_path / "a.extxyz", [frame]), TYPE_MAP, keys=LabelKeys(**keys))
    assert system.data["energy"][0] == energy
    np.testing.assert_allclose(system.data["force"][0], forces, atol=1e-8)
    np.testing.assert_array_equal(system.data["virial"][0], np.arange(9.0))


def test_several_names_of_a_label(tmp_path):
    forces = RNG.normal(size=(3, 3))
    frame = structure(info={"REF_energy": 1.0}, arrays={"REF_forces": forces})
    file = save(tmp_path / "a.extxyz", [frame])
    with pytest.raises(InputError, match=r"which is the energy\? REF_energy, energy differ; name one as energy_key"):
        load_system(file, TYPE_MAP)
    named = load_system(file, TYPE_MAP, keys=LabelKeys(energy="REF_energy"))  # REF_forces goes with it
    np.testing.assert_allclose(named.data["force"][0], forces, atol=1e-8)
    with pytest.raises(InputError, match=r"energy_key is 'REF_energie'; .* Did you mean 'REF_energy'\?"):
        load_system(file, TYPE_MAP, keys=LabelKeys(energy="REF_energie"))
    with pytest.raises(InputError, match="accepted: one of them"):
        LabelKeys(virial="virial", stress="stress")
    same = save(tmp_path / "b.traj", [structure(results=False, info={"energy": 1.0, "dft_energy": 1.0})])
    assert load_system(same, TYPE_MAP).data["energy"][0] == 1.0


def test_the_energy_that_forces_belong_to(tmp_path, caplog):
    frame = structure()
    frame.calc.results["free_energy"] = frame.calc.results["energy"] - 0.006
    with caplog.at_level(logging.INFO):
        system = load_system(save(tmp_path / "a.traj", [frame]), TYPE_MAP)
    assert system.data["energy"][0] == frame.calc.results["free_energy"]
    assert (
        "energies are free_energy, whose derivative the forces are; energy differs by up to 2 meV/atom" in caplog.text
    )


def test_conditions_and_properties_by_name(tmp_path):
    frames = [structure(info={"fparam": [1.0, 2.0], "band_gap": gap}) for gap in (0.5, 0.6)]
    system = load_system(save(tmp_path / "a.traj", frames), TYPE_MAP, {"fparam": (None, 0), "band_gap": (1, 0)})
    assert np.asarray(system.data["band_gap"]).tolist() == [[0.5], [0.6]]
    assert system.data["fparam"].shape == (2, 2)


def test_frames_without_a_label_and_cells_of_slabs(tmp_path, caplog):
    frames = [structure(), structure(results=False), structure(pbc=(True, True, False))]
    file = save(tmp_path / "a.traj", frames)
    with caplog.at_level(logging.WARNING):
        systems = [load_system(path, TYPE_MAP) for path in find_systems(file)]
    assert [(each.num_frames, len(each.data)) for each in systems] == [(2, 3), (1, 0)]
    assert "1 frames are periodic in some directions only; their cells are taken as periodic in all" in caplog.text
    assert "1 of 3 frames have no forces" in caplog.text
    flat = structure(pbc=(True, True, False), results=False)
    flat.cell[2] = 0.0
    with pytest.raises(InputError, match=r"frame 1 is periodic along 2 of 3 directions and has 2 lattice vectors"):
        find_systems(save(tmp_path / "b.traj", [structure(), flat]))


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    file = save(tmp_path / "a.traj", [structure()])
    assert load_system(file, TYPE_MAP).num_frames == 1
    assert load_system(save(tmp_path / "a.traj", [structure(), structure()]), TYPE_MAP).num_frames == 2


def test_patterns_and_names(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "run.traj", [structure()])
    names = [f"{tmp_path}/{name}/run.traj#H2O" for name in "ab"]
    assert find_systems(f"{tmp_path}/*/run.traj") == find_systems([f"{tmp_path}/?/*.traj"]) == names
    shutil.copy(tmp_path / "a" / "run.traj", tmp_path / "x#[1].traj")
    assert load_system(find_systems(str(tmp_path / "x#[1].traj"))[0], TYPE_MAP).num_frames == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a.traj#CO2", r"names no system of the file; it has .*a\.traj#H2O"),
        ("nothing*.traj", "matches no folder or file"),
        ("nan.traj", r"nan\.traj#H2O/force: cannot be read: frame 1 of the file holds NaN"),
        ("broken.extxyz", "ASE cannot read it: .* accepted: folders, HDF5 files"),
        ("empty.xyz", "ASE cannot read it: Empty file|holds no structure"),
        (".", r"no system below .*\. Name the file that holds the data: .*a\.traj"),
    ],
)
def test_what_cannot_be_used(tmp_path, path, message):
    save(tmp_path / "a.traj", [structure()])
    bad = structure()
    bad.calc.results["forces"][1, 1] = np.nan
    save(tmp_path / "nan.traj", [structure(), bad])
    (tmp_path / "broken.extxyz").write_text("3\nProperties=species:S:1:pos:R:3\nO 0 0 0\nH 1\n")
    (tmp_path / "empty.xyz").touch()
    with pytest.raises(InputError, match=message):
        [np.asarray(load_system(each, TYPE_MAP).data["force"]) for each in find_systems(f"{tmp_path}/{path}")]


def test_without_ase(tmp_path, monkeypatch):
    file = save(tmp_path / "a.traj", [structure()])
    monkeypatch.setitem(__import__("sys").modules, "ase.io", None)
    with pytest.raises(InputError, match=r"pip install 'deepmd\[ase\]'"):
        find_systems(file)

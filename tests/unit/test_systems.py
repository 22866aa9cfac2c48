"""Reading systems."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.array_model.errors import InputError
from deepmd.data.systems import find_systems, load_system


def write(folder, types, frames=2, names=("O", "H"), box=True, **data):
    part = folder / "set.000"
    part.mkdir(parents=True)
    np.savetxt(folder / "type.raw", types, fmt="%d")
    if names:
        (folder / "type_map.raw").write_text("\n".join(names))
    rng = np.random.default_rng(0)
    np.save(part / "coord.npy", rng.normal(size=(frames, 3 * len(types))).astype(np.float32))
    if box:
        np.save(part / "box.npy", np.tile(10 * np.eye(3).ravel(), (frames, 1)))
    else:
        (folder / "nopbc").touch()
    for name, array in data.items():
        np.save(part / f"{name}.npy", array)
    return folder


def test_types_are_renumbered_by_name(tmp_path):
    system = load_system(write(tmp_path / "a", [0, 1, 1, -1]), ["H", "C", "O"])
    assert system.types.tolist() == [2, 0, 0, -1]
    assert load_system(write(tmp_path / "b", [0, 2], names=None), ["H", "C", "O"]).types.tolist() == [0, 2]


def test_sets_are_joined_and_numbers_are_float64(tmp_path):
    folder = write(tmp_path / "a", [0, 1], energy=np.array([1.0, 2.0], dtype=np.float32))
    (folder / "set.000").rename(folder / "set.001")
    more = write(tmp_path / "b", [0, 1], frames=3, energy=np.array([[3.0], [4.0], [5.0]]))
    (more / "set.000").rename(folder / "set.000")
    system = load_system(folder, ["O", "H"])
    assert system.sets == (3, 2)
    assert system.data["energy"].tolist() == [3, 4, 5, 1, 2]
    assert system.coord.dtype == np.float64
    assert system.coord.shape == (5, 2, 3)
    assert system.cell.shape == (5, 3, 3)


def test_open_boundary(tmp_path):
    assert load_system(write(tmp_path / "a", [0], box=False), ["O", "H"]).cell is None


def test_shapes_of_data(tmp_path):
    data = {
        "force": np.zeros((2, 6)),
        "virial": np.zeros((2, 3, 3)),
        "atomic_ener": np.ones((2, 2)),  # another name of atom_ener
        "atom_pref": np.repeat(np.array([[1.0, 2.0], [3.0, 4.0]]), 3, axis=1),  # once per component
        "fparam": np.zeros((2, 4)),
        "aparam": np.zeros((2, 6)),
    }
    system = load_system(write(tmp_path / "a", [0, 1], **data), ["O", "H"])
    shapes = {name: array.shape for name, array in system.data.items()}
    assert shapes == {"force": (2, 2, 3), "virial": (2, 9), "atom_ener": (2, 2), "atom_pref": (2, 2), "fparam": (2, 4), "aparam": (2, 2, 3)}
    assert system.data["atom_pref"].tolist() == [[1, 2], [3, 4]]


def test_data_of_some_sets_only(tmp_path):
    folder = write(tmp_path / "a", [0, 1], energy=np.zeros(2))
    write(tmp_path / "b", [0, 1]).joinpath("set.000").rename(folder / "set.001")
    with pytest.raises(InputError, match=r"energy\.npy is missing in set\.001"):
        load_system(folder, ["O", "H"])


def test_mixed_type_systems(tmp_path):
    """The types of each frame, in the numbering of the model; -1 fills up."""
    system = load_system(write(tmp_path / "a", [0, 0, 0], real_atom_types=np.array([[0, 1, 1], [1, 1, -1]])), ["H", "C", "O"])
    assert system.mixed
    assert system.types.tolist() == [[2, 0, 0], [0, 0, -1]]
    assert system.structure(1).types.tolist() == [0, 0, -1]
    assert (system.num_atoms, system.num_frames) == (3, 2)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([[0, 2], [0, 1]], r"real_atom_types\.npy: type 2 has no name in type_map\.raw"),
        ([[0, 0.5], [0, 1]], "must hold whole numbers"),
        ([[0, 1], [-1, -1]], "frame 1 has no atom"),
        ([[0, 1]], r"has shape \(1, 2\), expected \(2, 2\)"),
    ],
)
def test_wrong_real_types(tmp_path, types, message):
    with pytest.raises(InputError, match=message):
        load_system(write(tmp_path / "a", [0, 0], real_atom_types=np.array(types)), ["O", "H"])


def to_hdf5(folder, file, group):
    with h5py.File(file, "a") as root:
        place = root.require_group(group)
        place["type.raw"] = np.loadtxt(folder / "type.raw", dtype=int, ndmin=1)
        if (folder / "type_map.raw").is_file():
            place["type_map.raw"] = (folder / "type_map.raw").read_text().split()
        if (folder / "nopbc").is_file():
            place["nopbc"] = True
        for path in folder.rglob("*.npy"):
            place[str(path.relative_to(folder))] = np.load(path)
    return str(file)


@pytest.mark.parametrize("box", [True, False])
def test_hdf5_systems_equal_folders(tmp_path, box):
    folder = write(tmp_path / "a", [0, 1, 1], box=box, energy=np.arange(2.0), force=np.ones((2, 9)))
    file = to_hdf5(folder, tmp_path / "data.hdf5", "some/water")
    stored, read = load_system(folder, ["H", "O"]), load_system(f"{file}#/some/water", ["H", "O"])
    assert read.path == f"{file}#/some/water"
    for name in ("types", "coord", "cell"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(read, name))
    assert read.data.keys() == stored.data.keys() == {"energy", "force"}
    assert all(np.array_equal(stored.data[name], read.data[name]) for name in stored.data)


def test_finding_hdf5_systems(tmp_path):
    for name in ("b", "a"):
        file = to_hdf5(write(tmp_path / name, [0]), tmp_path / "data.hdf5", name)
    both = [f"{file}#/a", f"{file}#/b"]
    assert find_systems(file) == find_systems([file]) == both
    assert find_systems([f"{file}#/b", str(tmp_path / "a")]) == [f"{file}#/b", str(tmp_path / "a")]
    alone = to_hdf5(tmp_path / "a", tmp_path / "alone.h5", "/")
    assert find_systems(alone) == [f"{alone}#/"]
    assert load_system(f"{alone}#/", ["O", "H"]).num_atoms == load_system(alone, ["O", "H"]).num_atoms == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("data.hdf5#/c", "holds no group '/c'. It holds: a"),
        ("data.hdf5#/a/type.raw", "no group"),
        ("no.hdf5#/a", "no such HDF5 file"),
        ("text", "HDF5"),
    ],
)
def test_wrong_hdf5_systems(tmp_path, path, message):
    to_hdf5(write(tmp_path / "a", [0]), tmp_path / "data.hdf5", "a")
    (tmp_path / "text").write_text("0 1")
    with pytest.raises(InputError, match=message):
        load_system(tmp_path / path, ["O", "H"])


def test_a_dataset_that_claims_more_than_its_file_holds(tmp_path):
    file = to_hdf5(write(tmp_path / "a", [0]), tmp_path / "data.hdf5", "a")
    with h5py.File(file, "a") as root:
        del root["a/set.000/coord.npy"]
        root.create_dataset("a/set.000/coord.npy", shape=(10**9, 3), chunks=(1000, 3), dtype="f8")
    with pytest.raises(InputError, match=r"set\.000/coord\.npy: claims 2\.4e\+10 bytes"):
        load_system(f"{file}#/a", ["O", "H"])


def test_labels_of_other_kinds_and_both_spellings(tmp_path):
    data = {
        "dipole": np.zeros((2, 3)),
        "atomic_dipole": np.ones((2, 6)),
        "atom_polarizability": np.ones((2, 18)),
        "dos": np.zeros((2, 7)),
        "atom_dos": np.zeros((2, 14)),
        "band_gap": np.array([[1.0], [2.0]]),
    }
    folder = write(tmp_path / "a", [0, 1], **data)
    shapes = {name: array.shape for name, array in load_system(folder, ["O", "H"]).data.items()}
    assert shapes == {"dipole": (2, 3), "atom_dipole": (2, 2, 3), "atom_polarizability": (2, 2, 9), "dos": (2, 7), "atom_dos": (2, 2, 7)}
    asked = {"band_gap": (1, 0), "atomic_polarizability": (0, 9)}
    shapes = {name: array.shape for name, array in load_system(folder, ["O", "H"], asked).data.items()}
    assert shapes == {"band_gap": (2, 1), "atomic_polarizability": (2, 2, 9)}
    with pytest.raises(InputError, match=r"band_gap\.npy: has shape \(2, 1\), expected \(2, 3\)"):
        load_system(folder, ["O", "H"], {"band_gap": (3, 0)})


def test_raw_files_are_named(tmp_path):
    folder = write(tmp_path / "a", [0])
    (folder / "coord.raw").write_text("0 0 0")
    (folder / "set.000" / "coord.npy").unlink()
    with pytest.raises(InputError, match=r"coord\.npy: missing; coord\.raw is there"):
        load_system(folder, ["O", "H"])
    (folder / "set.000" / "box.npy").unlink()
    (folder / "set.000").rmdir()
    with pytest.raises(InputError, match=r"no set\.\* folder .* \.raw files"):
        load_system(folder, ["O", "H"])


def test_finding_systems(tmp_path):
    for name in ("b", "a", "deep/er/c"):
        write(tmp_path / name, [0])
    (tmp_path / "empty").mkdir()
    names = [str(Path(path).relative_to(tmp_path)) for path in find_systems(str(tmp_path))]
    assert names == ["a", "b", "deep/er/c"]
    assert find_systems([str(tmp_path / "b")]) == [str(tmp_path / "b")]
    assert find_systems([str(tmp_path / "b"), str(tmp_path / "deep")]) == [str(tmp_path / "b"), str(tmp_path / "deep/er/c")]
    assert [Path(path).name for path in find_systems(str(tmp_path), ["a", "c"])] == ["a", "c"]
    with pytest.raises(InputError, match="no system below"):
        find_systems(str(tmp_path / "empty"))

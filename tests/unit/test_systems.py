"""Reading systems."""

import logging
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.data.batch import data_of
from deepmd.data.systems import elements_of, find_systems, load_system
from deepmd.losses import EnerLoss

FITTING = EnergyFitting(neuron=(2,))
MODEL = StandardModel(("O", "H"), SeE2A(sel=(8, 8), rcut=4.0, rcut_smth=1.0, neuron=(4,)), FITTING)


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
    assert np.asarray(system.types).tolist() == [2, 0, 0, -1]
    assert np.asarray(load_system(write(tmp_path / "b", [0, 2], names=None), ["H", "C", "O"]).types).tolist() == [0, 2]


def test_sets_are_joined_and_numbers_are_float64(tmp_path):
    folder = write(tmp_path / "a", [0, 1], energy=np.array([1.0, 2.0], dtype=np.float32))
    (folder / "set.000").rename(folder / "set.001")
    more = write(tmp_path / "b", [0, 1], frames=3, energy=np.array([[3.0], [4.0], [5.0]]))
    (more / "set.000").rename(folder / "set.000")
    system = load_system(folder, ["O", "H"])
    assert system.sets == (3, 2)
    assert np.asarray(system.data["energy"]).tolist() == [3, 4, 5, 1, 2]
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
    assert shapes == {
        "force": (2, 2, 3),
        "virial": (2, 9),
        "atom_ener": (2, 2),
        "atom_pref": (2, 2),
        "fparam": (2, 4),
        "aparam": (2, 2, 3),
    }
    assert np.asarray(system.data["atom_pref"]).tolist() == [[1, 2], [3, 4]]


def test_data_of_some_sets_only(tmp_path):
    folder = write(tmp_path / "a", [0, 1], energy=np.zeros(2))
    write(tmp_path / "b", [0, 1]).joinpath("set.000").rename(folder / "set.001")
    with pytest.raises(InputError, match=r"energy\.npy is missing in set\.001"):
        load_system(folder, ["O", "H"])


def test_mixed_type_systems(tmp_path):
    """The types of each frame, in the numbering of the model; -1 fills up."""
    system = load_system(
        write(tmp_path / "a", [0, 0, 0], real_atom_types=np.array([[0, 1, 1], [1, 1, -1]])), ["H", "C", "O"]
    )
    assert system.mixed
    assert np.asarray(system.types).tolist() == [[2, 0, 0], [0, 0, -1]]
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
        np.testing.assert_array_equal(np.asarray(getattr(stored, name)), np.asarray(getattr(read, name)))
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
    assert shapes == {
        "dipole": (2, 3),
        "atom_dipole": (2, 2, 3),
        "atom_polarizability": (2, 2, 9),
        "dos": (2, 7),
        "atom_dos": (2, 2, 7),
    }
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
    assert find_systems([str(tmp_path / "b"), str(tmp_path / "deep")]) == [
        str(tmp_path / "b"),
        str(tmp_path / "deep/er/c"),
    ]
    assert [Path(path).name for path in find_systems(str(tmp_path), ["a", "c"])] == ["a", "c"]
    with pytest.raises(InputError, match="no system below"):
        find_systems(str(tmp_path / "empty"))


def test_links_that_are_systems_are_found(tmp_path, caplog):
    """Links are followed to a system, not to what is below it, as by DeePMD-kit; a warning names the others."""
    for name in ("store/a", "store/b", "data/c"):
        write(tmp_path / name, [0])
    data = tmp_path / "data"
    for name, target in {"a": "../store/a", "again": "a", "circle": "../data", "others": "../store"}.items():
        (data / name).symlink_to(target)
    (data / "c" / "set.001").symlink_to("set.000")
    with caplog.at_level(logging.WARNING):
        assert [Path(path).name for path in find_systems(str(data))] == ["a", "again", "c"]
    named = [record.getMessage().partition(": is a link")[0] for record in caplog.records]
    assert named == [str(data / "circle"), str(data / "others")]
    assert find_systems([str(data / "others")]) == [str(data / "others" / name) for name in "ab"]
    assert load_system(data / "c", ["O", "H"]).num_frames == 4


def test_a_system_that_two_patterns_match_is_one(tmp_path):
    write(tmp_path / "a1", [0])
    assert find_systems(str(tmp_path), ["a*", "*1"]) == [str(tmp_path / "a1")]
    with pytest.raises(InputError, match=r"rglob_patterns: .*/a1.* cannot be looked for"):
        find_systems(str(tmp_path), [str(tmp_path / "a1")])


@pytest.mark.parametrize("name", ["type.raw", "type_map.raw", "nopbc", "set.000/energy.npy", "set.001"])
def test_links_to_nothing(tmp_path, name):
    folder = write(tmp_path / "a", [0])
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/gone/away")
    for find in (lambda: [str(folder)], lambda: find_systems(str(tmp_path))):
        with pytest.raises(InputError, match=rf"{name}: is a link to /gone/away, where nothing is"):
            [load_system(path, ["O", "H"]) for path in find()]


@pytest.mark.parametrize("patterns", [None, ["*"]])
def test_a_system_that_is_a_link_to_nothing(tmp_path, caplog, patterns):
    """It may be no system, so that it is a warning, not an error."""
    write(tmp_path / "a", [0])
    (tmp_path / "b").symlink_to("/gone")
    assert find_systems(str(tmp_path), patterns) == [str(tmp_path / "a")]
    assert "b: is a link to /gone, where nothing is; it is left out" in caplog.text


@pytest.mark.parametrize("name", ["set.000/energy.npy", "nopbc"])
def test_a_folder_where_a_file_belongs(tmp_path, name):
    (write(tmp_path / "a", [0]) / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: is no file"):
        load_system(tmp_path / "a", ["O", "H"])


def test_a_set_that_is_a_file(tmp_path):
    (write(tmp_path / "a", [0]) / "set.001.tar").touch()
    with pytest.raises(InputError, match=r"set\.001\.tar: is no folder"):
        load_system(tmp_path / "a", ["O", "H"])


def test_links_in_hdf5_files(tmp_path, caplog):
    """Data behind links are read; groups behind links are named in a warning and can be named in the input."""
    file = to_hdf5(write(tmp_path / "a", [0], energy=np.arange(2.0)), tmp_path / "data.hdf5", "a")
    with h5py.File(file, "a") as root:
        root["energies"] = root["a/set.000/energy.npy"][()] + 1.0
        del root["a/set.000/energy.npy"]
        root["a/set.000/energy.npy"] = h5py.SoftLink("/energies")
        root["b"] = h5py.SoftLink("/a")
    with h5py.File(tmp_path / "index.hdf5", "w") as root:
        root["c"] = h5py.ExternalLink("data.hdf5", "/a")
    with caplog.at_level(logging.WARNING):
        assert find_systems(file) == [f"{file}#/a"]
    assert f"{file}#/b: is a link" in caplog.text
    assert find_systems([f"{file}#/b"]) == [f"{file}#/b"]
    for path in (f"{file}#/a", f"{file}#/b", f"{tmp_path}/index.hdf5#/c"):
        assert np.asarray(load_system(path, ["O", "H"]).data["energy"]).tolist() == [1, 2]
    with pytest.raises(InputError, match="no system below"):
        find_systems(f"{tmp_path}/index.hdf5")
    with pytest.raises(InputError, match=r"rglob_patterns: are for folders; .*data\.hdf5"):
        find_systems(file, ["a"])


@pytest.mark.parametrize("name", ["set.000/energy.npy", "nopbc", "set.001"])
@pytest.mark.parametrize("kind", ["soft", "external", "circle"])
def test_hdf5_links_to_nothing(tmp_path, caplog, kind, name):
    own = f"/a/{name}"
    links = {"soft": h5py.SoftLink("/gone"), "external": h5py.ExternalLink("gone", "/a"), "circle": h5py.SoftLink(own)}
    file = to_hdf5(write(tmp_path / "a", [0]), tmp_path / "data.hdf5", "a")
    with h5py.File(file, "a") as root:
        root[own] = links[kind]
    with pytest.raises(InputError, match=rf"{name}: is a link to .*, where nothing is"):
        load_system(f"{file}#/a", ["O", "H"])
    assert find_systems(file) == [f"{file}#/a"]
    assert f"{name}: is a link to" in caplog.text


def test_a_folder_with_the_sign_of_groups_in_its_name(tmp_path):
    write(tmp_path / "run#1", [0])
    assert [load_system(path, ["O", "H"]).num_frames for path in find_systems(str(tmp_path))] == [2]


def test_an_element_that_is_listed_twice(tmp_path):
    """Names decide which type an atom is: 'O O' would make all hydrogens oxygens."""
    folder = write(tmp_path / "a", [0, 1], names=("O", "O"))
    for read in (lambda: load_system(folder, ["O", "H"]), lambda: elements_of([str(folder)])):
        with pytest.raises(InputError, match=r"type_map\.raw: lists 'O' 2 times; accepted: each element once"):
            read()
    with pytest.raises(InputError, match="the model's type_map: lists 'H' 2 times"):
        load_system(write(tmp_path / "b", [0, 1]), ["O", "H", "H"])


@pytest.mark.parametrize("shape", [(0, 6), (0,)])
@pytest.mark.parametrize("alone", [True, False])
def test_sets_without_frames(tmp_path, shape, alone):
    folder = write(tmp_path / "a", [0, 1], frames=0)
    np.save(folder / "set.000" / "coord.npy", np.zeros(shape))
    if not alone:
        write(tmp_path / "b", [0, 1]).joinpath("set.000").rename(folder / "set.001")
    with pytest.raises(InputError, match=r"set\.000/coord\.npy: has shape .* holds no frame"):
        load_system(folder, ["O", "H"])


ONE_FRAME = {
    # name: the array as it should be, and what raw_to_set and others leave of it
    "coord": (np.arange(6.0).reshape(1, 6), (6,)),
    "box": (8.0 * np.eye(3).reshape(1, 9), (9,), (3, 3)),
    "energy": (np.array([1.0]), (), (1, 1)),
    "force": (np.arange(6.0).reshape(1, 6), (6,), (2, 3)),
    "virial": (np.arange(9.0).reshape(1, 9), (9,), (3, 3)),
    "fparam": (np.arange(2.0).reshape(1, 2), (2,)),
    "aparam": (np.arange(4.0).reshape(1, 4), (4,)),
    "atom_pref": (np.arange(2.0).reshape(1, 2), (2,)),
    "real_atom_types": (np.array([[1, 0]]), (2,)),
}


def write_frame(folder, **changes):
    """Write the system of one frame."""
    (write(folder, [0, 1], frames=1, box=False) / "nopbc").unlink()
    for name, (array, *_) in ONE_FRAME.items():
        np.save(folder / "set.000" / f"{name}.npy", changes.get(name, array))
    return folder


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, (_, *rest) in ONE_FRAME.items() for shape in rest])
@pytest.mark.parametrize("hdf5", [False, True])
def test_a_frame_without_its_axis(tmp_path, name, shape, hdf5):
    """What `raw_to_set` leaves of a system of one frame is the same system."""
    flat = write_frame(tmp_path / "flat", **{name: ONE_FRAME[name][0].reshape(shape)})
    read = load_system(f"{to_hdf5(flat, tmp_path / 'flat.hdf5', '/')}#/" if hdf5 else flat, ["O", "H"])
    full = load_system(write_frame(tmp_path / "full"), ["O", "H"])
    assert read.num_frames == 1
    parts = ({"types": each.types, "coord": each.coord, "cell": each.cell, **each.data} for each in (read, full))
    np.testing.assert_equal(*({name: np.asarray(array) for name, array in each.items()} for each in parts))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("coord", (12,), r"coord\.npy: has shape \(12,\), expected \(frames, 6\)"),  # two frames, or four atoms
        ("coord", (2, 3), r"has shape \(2, 3\), expected \(frames, 6\)"),
        ("energy", (2,), r"has shape \(2,\), expected \(1, 1\)"),
        ("aparam", (2, 2), r"has shape \(2, 2\), expected \(1, k\)"),  # whose value is the second?
    ],
)
def test_what_may_be_one_frame_or_something_else(tmp_path, name, shape, message):
    with pytest.raises(InputError, match=message):
        load_system(write_frame(tmp_path / "a", **{name: np.zeros(shape)}), ["O", "H"])


def test_copies_of_frames(tmp_path):
    """`numb_copy` changes what is trained on; where nobody draws frames it does not matter."""
    folder = write(tmp_path / "a", [0], numb_copy=np.array([1, 1]))
    assert load_system(folder, ["O", "H"]).data == {}
    np.save(folder / "set.000" / "numb_copy.npy", np.array([[1], [3]]))
    assert load_system(folder, ["O", "H"], ("energy",)).num_frames == 2
    with pytest.raises(InputError, match=r"numb_copy\.npy, frames that count several times, is not supported"):
        load_system(folder, ["O", "H"], data_of(MODEL, EnerLoss()))


@pytest.mark.parametrize("name", ["fparam", "aparam", "charge_spin"])
def test_conditions_that_a_model_does_not_ask_for_are_not_judged(tmp_path, name):
    folder = write(tmp_path / "a", [0], **{name: np.full((2, 5, 7), np.nan)})
    assert name not in load_system(folder, ["O", "H"], data_of(MODEL, EnerLoss())).data
    asking = replace(MODEL, fitting=replace(FITTING, numb_fparam=2))
    assert {*data_of(asking, EnerLoss())} - {*data_of(MODEL, EnerLoss())} == {"fparam"}


def test_both_spellings_of_a_label(tmp_path):
    folder = write(tmp_path / "a", [0], atom_dipole=np.zeros((2, 3)), atomic_dipole=np.ones((2, 3)))
    with pytest.raises(InputError, match=r"atom_dipole\.npy: atomic_dipole\.npy is there too"):
        load_system(folder, ["O", "H"])


def test_tensors_of_selected_atoms_beside_virtual_ones(tmp_path):
    """Virtual atoms have no output; where compositions differ, `type.raw` does not tell whose tensors are stored."""
    folder = write(tmp_path / "a", [0, 1, -1, 0], atomic_dipole=np.arange(12.0).reshape(2, 6))
    found = load_system(folder, ["O", "H"], without=(1,)).data["atom_dipole"]
    assert found[0].tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0], [3, 4, 5]]
    mixed = write(tmp_path / "b", [0, 1], real_atom_types=np.array([[0, 1], [1, 0]]), atomic_dipole=np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"atomic_dipole\.npy: has shape \(2, 3\), expected \(2, 6\)"):
        load_system(mixed, ["O", "H"], without=(1,))

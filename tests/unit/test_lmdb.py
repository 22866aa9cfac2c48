"""LMDB data sets: the same frames as in .npy systems, and what is wrong with others."""

import os
import shutil

import numpy as np
import pytest
from support import require
from train.small_training import WATER, run, small_input

from deepmd.array_model.errors import InputError
from deepmd.data.selection import files_of
from deepmd.data.systems import find_systems, load_system

require("lmdb")
require("msgpack")
from unit.lmdb_data import write_lmdb  # noqa: E402

RNG = np.random.default_rng(3)


def frame(natoms, **changes):
    """One frame with forces; None as a value leaves a field out."""
    fields = {
        "types": np.arange(natoms, dtype=np.int32) % 2,
        "coord": RNG.normal(size=(natoms, 3)),
        "cell": 9.0 * np.eye(3),
        "energy": np.float64(RNG.normal()),
        "force": RNG.normal(size=(natoms, 3)),
        **changes,
    }
    return {name: values for name, values in fields.items() if values is not None}


def test_a_system_for_each_number_of_atoms(tmp_path):
    frames = [frame(3), frame(2), frame(3, coord=np.ones((3, 3), dtype=np.float32)), frame(2), frame(3)]
    path = write_lmdb(tmp_path / "data.lmdb", frames, type_map=["H", "O"])
    assert find_systems(str(path)) == find_systems([str(path)]) == [f"{path}#2", f"{path}#3"]
    for natoms, own in ((2, (1, 3)), (3, (0, 2, 4))):
        system = load_system(f"{path}#{natoms}", ["O", "C", "H"])
        assert (system.num_frames, system.num_atoms, system.mixed) == (len(own), natoms, True)
        for k, number in enumerate(own):
            assert system.types_of(k).tolist() == [2 - 2 * kind for kind in frames[number]["types"]]
            np.testing.assert_array_equal(system.coord[k], frames[number]["coord"])
            np.testing.assert_array_equal(system.cell[k], frames[number]["cell"])
            np.testing.assert_array_equal(system.data["force"][k], frames[number]["force"])
            assert system.data["energy"][k] == frames[number]["energy"]


@pytest.mark.parametrize("metadata", [{}, {"frame_nlocs": None}])
def test_frames_with_other_fields_are_other_systems(tmp_path, metadata):
    """Cells of zeros and missing cells are open boundaries; find_force 0 means no forces."""
    frames = [
        frame(2),
        frame(2, cell=None),
        frame(2, cell=np.zeros((3, 3))),
        frame(2, force=None),
        frame(2, find_force=np.float32(0)),
        frame(2),
    ]
    path = write_lmdb(tmp_path / "data.lmdb", frames, **metadata)
    systems = [load_system(each, ["O", "H"]) for each in find_systems(str(path))]
    assert [(system.num_frames, system.cell is None, "force" in system.data) for system in systems] == [
        (2, False, True),
        (2, True, True),
        (2, False, False),
    ]


def test_training_on_lmdb_equals_training_on_npy(tmp_path):
    """Frames of 96 atoms from two systems, and smaller frames: batches by numbers of atoms, drawn alike."""
    water = [load_system(WATER / name, ["O", "H"]) for name in ("water_330a", "water_600")]
    frames = {}
    for natoms, chosen in ((96, [(0, 0), (1, 3), (0, 5)]), (48, [(1, 1), (0, 2)])):
        frames[natoms] = [
            {
                "types": water[system].types[:natoms].astype(np.int32),
                "coord": water[system].coord[number][:natoms],
                "cell": 2.0 * water[system].cell[number],
                "energy": water[system].data["energy"][number],
                "force": water[system].data["force"][number][:natoms],
            }
            for system, number in chosen
        ]
    mixed = [frames[96][0], frames[48][0], frames[96][1], frames[48][1], frames[96][2]]
    write_lmdb(tmp_path / "data.lmdb", mixed)
    for natoms, own in frames.items():
        part = tmp_path / "npy" / f"{natoms:03d}" / "set.000"
        part.mkdir(parents=True)
        for name, file in (("coord", "coord"), ("cell", "box"), ("force", "force"), ("types", "real_atom_types")):
            np.save(part / f"{file}.npy", np.array([each[name] for each in own]).reshape(len(own), -1))
        np.save(part / "energy.npy", [each["energy"] for each in own])
        (part.parent / "type.raw").write_text("0\n" * natoms)
        (part.parent / "type_map.raw").write_text("O H")
    curves = []
    for place in ("data.lmdb", "npy"):
        tree = small_input(numb_steps=6, disp_freq=1)
        tree["training"]["training_data"] = {"systems": str(tmp_path / place), "batch_size": "auto:96"}
        tree["training"].pop("validation_data")
        curves.append(run(tmp_path / f"run-{place}", tree, "torch", skip_neighbor_stat=False))
    assert len(curves[0]) == 6
    assert curves[0] == curves[1]


def test_a_frame_that_differs_is_an_error_when_it_is_used(tmp_path, monkeypatch):
    """Of many frames a sample is looked at."""
    monkeypatch.setattr("deepmd.data.lmdb_storage.PROBED", 3)
    frames = [frame(2) for _ in range(5)]
    frames[1], frames[3] = frame(2, force=None), frame(2, force=np.zeros((3, 3)))
    path = write_lmdb(tmp_path / "data.lmdb", frames)
    system = load_system(f"{path}#2", ["O", "H"])
    assert system.data["force"][2].any()
    with pytest.raises(InputError, match=r"lmdb#2/box: .*record 1 has box, .* others of 2 atoms have .*force"):
        system.structure(1)
    with pytest.raises(InputError, match=r"lmdb#2/force: .*record 3 has 9 values, expected 6"):
        system.data["force"][3]


@pytest.mark.parametrize(
    ("frames", "metadata", "message"),
    [
        ([frame(2)], {"nframes": 2}, "there is no record 000000000001"),
        ([frame(2)], {"frame_idx_fmt": "9999999999d"}, r"frame_idx_fmt is '9999999999d'"),
        ([frame(2)], {"nframes": None}, "not a readable data set: 'nframes'"),
        ([frame(2)], {"type_map": ["O", "C"]}, r"lmdb#2/type_map: element 'C' is not in the model's type_map"),
        ([frame(2, coord=None)], {}, "record 0 has no coord; it has box, energy, force, real_atom_types"),
        ([frame(2, coord=np.full((2, 3), np.nan))], {}, r"lmdb#2/coord: frame 0 holds NaN or infinity"),
        ([frame(2, cell=np.ones((3, 3)))], {}, r"lmdb#2: box of frame 0: the cell .* has no volume"),
        ([frame(2, types=np.array([0, 2]))], {}, r"lmdb#2/real_atom_types: type 2 has no name in type_map"),
        ([], {}, "it holds no frame"),
    ],
)
def test_wrong_data_sets(tmp_path, frames, metadata, message):
    path = write_lmdb(tmp_path / "data.lmdb", frames, **metadata)
    with pytest.raises(InputError, match=message):
        [load_system(each, ["O", "H"]).structure(0) for each in find_systems(str(path))]


def test_names_of_systems(tmp_path):
    path = write_lmdb(tmp_path / "data.lmdb", [frame(2)])
    for wrong in (path, f"{path}#7"):
        with pytest.raises(InputError, match=rf"names no system of the data set; it has {path}#2"):
            load_system(wrong, ["O", "H"])
    with pytest.raises(InputError, match="rglob_patterns: are for folders"):
        find_systems(str(path), ["*"])
    assert path / "data.mdb" in files_of(find_systems(str(path)))
    (path / "data.mdb").write_bytes(b"nothing" * 1000)
    with pytest.raises(InputError, match=r"not a readable data set: .*not an LMDB file"):
        find_systems(str(path))


def test_a_data_set_that_is_written_anew_and_a_forked_process(tmp_path):
    path = write_lmdb(tmp_path / "data.lmdb", [frame(2), frame(2)])
    before = load_system(f"{path}#2", ["O", "H"]).coord[1]
    shutil.rmtree(path)
    write_lmdb(path, [frame(2), frame(2)])
    system = load_system(f"{path}#2", ["O", "H"])
    assert not np.array_equal(system.coord[1], before)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.isfinite(system.data["force"][0]).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_the_package(tmp_path, monkeypatch):
    path = write_lmdb(tmp_path / "data.lmdb", [frame(2)])
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(InputError, match=r"package 'lmdb', which is not installed: pip install 'deepmd\[lmdb\]'"):
        find_systems(str(path))

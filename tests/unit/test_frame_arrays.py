"""Arrays of frames that stay in their files."""

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.data.batch import Preparation, data_of
from deepmd.data.frame_arrays import MOST_OPEN
from deepmd.data.systems import load_system
from deepmd.losses import EnerLoss

MODEL = StandardModel(("O",), SeE2A(sel=(40,), rcut=4.0, rcut_smth=1.0, neuron=(4,)), EnergyFitting(neuron=(2,)))
NATOMS = 100
RNG = np.random.default_rng(0)


def write(folder, sets, natoms=2):
    """Write a system of O atoms with an open boundary: a dictionary of arrays for each set."""
    for number, arrays in enumerate(sets):
        part = folder / f"set.{number:03d}"
        part.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
    np.savetxt(folder / "type.raw", np.zeros(natoms), fmt="%d")
    (folder / "type_map.raw").write_text("O")
    (folder / "nopbc").touch()
    return folder


def write_sparse(folder, gigabytes):
    """Write sparse files of coordinates and forces; only the first and the last frame have numbers."""
    frames = int(gigabytes * 1e9 / (2 * NATOMS * 3 * 8))
    coord = RNG.uniform(0.0, 10.0, (1, 3 * NATOMS))
    write(folder, [{"coord": coord, "force": coord, "energy": np.zeros(frames)}], NATOMS)
    for name in ("coord", "force"):
        with (folder / f"set.000/{name}.npy").open("wb") as file:
            header = {"descr": "<f8", "fortran_order": False, "shape": (frames, 3 * NATOMS)}
            np.lib.format.write_array_header_1_0(file, header)
            start = file.tell()
            coord.tofile(file)
            file.seek(start + (frames - 1) * coord.nbytes)
            coord.tofile(file)
    return folder


def test_batches_of_data_larger_than_a_bound_of_memory(tmp_path):
    folder = write_sparse(tmp_path / "large", 2.0)
    tracemalloc.start()
    try:
        system = load_system(folder, ["O"], data_of(MODEL, EnerLoss()))
        prepare = Preparation(MODEL, EnerLoss())
        first, last = (prepare([(system, frame)]) for frame in (0, system.num_frames - 1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert system.num_frames > 400_000
    assert peak < 5e6
    assert first.labels["force"].any()
    np.testing.assert_array_equal(first.neighbours.disp_NM3, last.neighbours.disp_NM3)


@pytest.mark.parametrize(("bound", "value"), [("KEPT_FRAMES", 2), ("KEPT_BYTES", 0)])
def test_packed_frames_are_kept_up_to_a_bound(tmp_path, monkeypatch, bound, value):
    monkeypatch.setattr(f"deepmd.data.batch.{bound}", value)
    coord = RNG.uniform(0.0, 4.0, (4, 3 * 20))
    system = load_system(write(tmp_path / "a", [{"coord": coord, "energy": np.zeros(4)}], 20), ["O"])
    prepare = Preparation(MODEL, EnerLoss())
    batches = [prepare([(system, frame)]) for frame in range(4)]
    assert [prepare([(system, frame)]) is batch for frame, batch in enumerate(batches)] == [
        frame < value for frame in range(4)
    ]


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i4"])
@pytest.mark.parametrize("stored", ["C", "F", "contiguous", "compressed"])
def test_frames_are_those_of_the_whole_array(tmp_path, dtype, stored):
    arrays = [np.asarray(RNG.integers(0, 99, (frames, 6)), dtype=dtype) for frames in (3, 1, 4)]
    if stored in ("C", "F"):
        path = str(write(tmp_path / "a", [{"coord": np.asarray(array, order=stored)} for array in arrays]))
    else:
        path = f"{tmp_path}/data.hdf5#/a"
        with h5py.File(tmp_path / "data.hdf5", "w", userblock_size=512) as file:
            file["a/type.raw"], file["a/type_map.raw"], file["a/nopbc"] = [0, 0], ["O"], True
            for number, array in enumerate(arrays):
                options = {"compression": "gzip", "chunks": (1, 6)} if stored == "compressed" else {}
                file.create_dataset(f"a/set.{number}/coord.npy", data=array, **options)
    coord = load_system(path, ["O"]).coord
    whole = np.concatenate(arrays).reshape(-1, 2, 3).astype(np.float64)
    assert (coord.shape, coord.dtype, len(coord)) == (whole.shape, whole.dtype, 8)
    np.testing.assert_array_equal(np.asarray(coord), whole)
    for frames in (
        3,
        -1,
        np.int64(5),
        slice(2, 6),
        slice(5, 2),
        slice(None, None, 3),
        np.array([7, 0, 3]),
        np.array([], dtype=int),
    ):
        np.testing.assert_array_equal(coord[frames], whole[frames])
    with pytest.raises(IndexError):
        coord[8]


@pytest.mark.parametrize("stored", ["npy", "contiguous", "compressed"])
def test_frames_are_read_from_any_working_directory(tmp_path, monkeypatch, stored):
    """Also where the same relative path names other data."""
    for number, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        coord = np.full((2, 6), float(number))
        write(folder / "a", [{"coord": coord}])
        with h5py.File(folder / "a.hdf5", "w") as file:
            file["type.raw"], file["nopbc"] = [0, 0], True
            file.create_dataset("set.0/coord.npy", data=coord, compression="gzip" if stored == "compressed" else None)
    monkeypatch.chdir(tmp_path / "one")
    system = load_system("a" if stored == "npy" else "a.hdf5#/", ["O"])
    monkeypatch.chdir(tmp_path / "two")
    assert not np.any(system.coord[1])


def test_numbers_are_checked_when_a_frame_is_used(tmp_path):
    bad = np.zeros((3, 6))
    bad[1, 4] = np.nan
    force = load_system(write(tmp_path / "a", [{"coord": np.zeros((3, 6)), "force": a} for a in (0 * bad, bad)]), ["O"])
    assert not force.data["force"][3].any()
    with pytest.raises(InputError, match=r"set\.001/force\.npy: frame 1 holds NaN or infinity"):
        force.data["force"][4]


def test_a_label_with_other_values_in_each_set(tmp_path):
    sets = [{"coord": np.zeros((2, 6)), "dos": np.zeros((2, width))} for width in (3, 4)]
    with pytest.raises(
        InputError, match=r"set\.001/dos\.npy: has values of shape \(4,\) per frame, .* of shape \(3,\)"
    ):
        load_system(write(tmp_path / "a", sets), ["O"])


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    folder = write(tmp_path / "a", [{"coord": np.zeros((3, 6))}])
    assert not load_system(folder, ["O"]).coord[0].any()
    np.save(tmp_path / "new.npy", np.ones((3, 6)))
    (tmp_path / "new.npy").replace(folder / "set.000/coord.npy")
    assert load_system(folder, ["O"]).coord[0].all()


def test_few_files_are_open(tmp_path):
    sets = [{"coord": np.full((1, 6), float(number))} for number in range(MOST_OPEN + 50)]
    coord = load_system(write(tmp_path / "a", sets), ["O"]).coord
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert [coord[frame][0, 0] for frame in range(len(coord))] == list(range(len(coord)))
    assert len(os.listdir("/proc/self/fd")) <= before + MOST_OPEN  # noqa: PTH208


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"}", b"{"),
        (b"'shape'", b"b'shap'"),
        (b"(5, 6), }" + b" " * 19, b"(99999999999999999999, 6), }"),
        (b"(5, 6), }" + b" " * 8, b"(1000000000000, 6), }"),
    ],
)
def test_damaged_headers(tmp_path, old, new):
    """Errors, and no memory is asked for."""
    path = write(tmp_path / "a", [{"coord": np.zeros((5, 6))}]) / "set.000/coord.npy"
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).ljust(len(text)))
    with pytest.raises(InputError, match=r"coord\.npy: not a readable \.npy file"):
        load_system(tmp_path / "a", ["O"])


def test_compressed_data_in_threads_and_in_a_forked_process(tmp_path):
    file = Path(tmp_path / "data.hdf5")
    whole = RNG.normal(size=(50, 6))
    with h5py.File(file, "w") as root:
        root["type.raw"] = [0, 0]
        root.create_dataset("set.0/coord.npy", data=whole, compression="gzip", chunks=(7, 6))
        cells = np.tile(9.0 * np.eye(3).ravel(), (50, 1))  # cells are read while the file is open to look at it
        root.create_dataset("set.0/box.npy", data=cells, compression="gzip")
    coord = load_system(f"{file}#/", ["O"]).coord

    def agrees(frame):
        return np.array_equal(coord[frame].ravel(), whole[frame])

    assert agrees(0)
    assert load_system(f"{file}#/", ["O"]).num_frames == 50  # once more, while a dataset is open
    child = os.fork()
    if child == 0:
        os._exit(0 if all(map(agrees, range(50))) else 1)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(agrees, list(range(50)) * 5))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

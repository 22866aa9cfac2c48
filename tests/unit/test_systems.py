"""Reading systems."""

from pathlib import Path

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


def test_mixed_type_systems_are_named(tmp_path):
    folder = write(tmp_path / "a", [0, 1], real_atom_types=np.zeros((2, 2)))
    with pytest.raises(InputError, match="mixed_type"):
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

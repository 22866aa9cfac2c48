"""DeepPot, and the errors of `dp test`."""

from __future__ import annotations

import json
import pickle
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import mark_slow, options
from tolerances import assert_close

from deepmd.adapters.numpy import evaluate as numpy_backend
from deepmd.array_model.errors import InputError
from deepmd.data.packing import SelWarning
from deepmd.data.prediction_errors import QUANTITIES, MeanErrors
from deepmd.data.selection import select_systems
from deepmd.infer import DeepEval, DeepPot, blocks, measure_errors
from deepmd.infer.blocks import BlockLimit
from deepmd.io import load_model, save_model

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.name.startswith("se_e2_a"))
PACKAGES = {"numpy": "numpy", "torch": "torch", "tf": "tensorflow"}


def golden(case: str, boundary: str = "pbc") -> dict[str, np.ndarray]:
    with np.load(GOLDEN / case / "expected.npz") as stored:
        return {key.split("/")[1]: stored[key] for key in stored if key.startswith(f"{boundary}/")}


def call(expected: dict[str, np.ndarray]) -> dict[str, object]:
    parameters = {name: expected.get(name) for name in ("fparam", "aparam")}
    return {
        "coords": expected["coord"][None],
        "cells": expected.get("cell"),
        "atom_types": expected["type"],
        **parameters,
    }


@pytest.fixture
def potential() -> DeepPot:
    return DeepPot(GOLDEN / "se_e2_a" / "model.dp")


@pytest.fixture
def conditioned() -> DeepPot:
    return DeepPot(GOLDEN / "se_e2_a_fparam" / "model.dp")


CHECKED = [
    *product(CASES, ["numpy"], ["direct", "spectral"]),
    *product(["se_e2_a_fparam", "se_e2_a_float32"], ["torch", "tf"], ["direct", "spectral"]),
]
ON_TF = [("se_e2_a_fparam", "tf", "spectral"), ("se_e2_a_float32", "tf", "direct")]


@pytest.mark.parametrize(
    ("case", "backend", "evaluation"), mark_slow(CHECKED, [row for row in CHECKED if row[1] != "tf" or row in ON_TF])
)
@pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")
def test_golden_cases(case: str, backend: str, evaluation: str) -> None:
    pytest.importorskip(PACKAGES[backend])
    tolerance = 1e-5 if case.endswith("float32") else {"direct": 1e-12, "spectral": 1e-10}[evaluation]
    with DeepPot(GOLDEN / case / "model.dp", backend=backend, evaluation=evaluation) as potential:
        for boundary in ("pbc", "nopbc"):
            expected = golden(case, boundary)
            results = potential.eval(**call(expected), atomic=True)  # type: ignore[arg-type]
            natoms = len(expected["type"])
            assert [result.shape for result in results] == [
                (1, 1),
                (1, natoms, 3),
                (1, 9),
                (1, natoms, 1),
                (1, natoms, 9),
            ]
            for name, result in zip(("energy", "force", "virial", "atom_energy", "atom_virial"), results, strict=True):
                assert result.dtype == np.float64
                np.testing.assert_allclose(
                    result.ravel(), expected[name].ravel(), rtol=tolerance, atol=tolerance, err_msg=f"{boundary} {name}"
                )
            descriptor = potential.eval_descriptor(**call(expected))  # type: ignore[arg-type]
            np.testing.assert_allclose(descriptor[0], expected["descriptor"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [1, 7, 40, False])
@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
def test_results_do_not_depend_on_the_block_size(size: int, boundary: str) -> None:
    expected = golden("se_e2_a_fparam", boundary)
    natoms = len(expected["type"])
    rng = np.random.default_rng(5)
    coords = expected["coord"] + 0.05 * rng.normal(size=(4, natoms, 3))
    cells = None if boundary == "nopbc" else np.repeat(expected["cell"][None], 4, axis=0)
    types = np.tile(expected["type"], (4, 1))
    types[1, 3] = types[3, 0] = -1
    parameters = {
        "fparam": rng.normal(size=(4, 2)),
        "aparam": rng.normal(size=(4, natoms, 1)),
        "atomic": True,
        "mixed_type": True,
    }
    model = GOLDEN / "se_e2_a_fparam" / "model.dp"
    reference = DeepPot(model, auto_batch_size=1000).eval(coords, cells, types, **parameters)
    results = DeepPot(model, auto_batch_size=size).eval(coords, cells, types, **parameters)
    for got, wanted in zip(results, reference, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_frames_are_independent_of_each_other(potential: DeepPot) -> None:
    expected = golden("se_e2_a")
    coords = expected["coord"] + 0.1 * np.random.default_rng(2).normal(size=(3, *expected["coord"].shape))
    cells = expected["cell"] * np.array([1.0, 1.1, 0.9])[:, None, None]
    together = potential.eval(coords.reshape(3, -1), cells.reshape(3, 9), list(expected["type"]), atomic=True)
    for frame in range(3):
        alone = potential.eval(coords[frame], cells[frame], expected["type"], atomic=True)
        for got, wanted in zip(together, alone, strict=True):
            np.testing.assert_allclose(got[frame], wanted[0], rtol=1e-12, atol=1e-13)


def test_each_frame_has_its_own_types_with_mixed_type(potential: DeepPot) -> None:
    expected = golden("se_e2_a", "nopbc")
    types = np.stack([expected["type"], 1 - expected["type"]])
    coords = np.stack([expected["coord"]] * 2)
    together = potential.eval(coords, None, types, mixed_type=True)
    for frame in range(2):
        alone = potential.eval(coords[frame], None, types[frame])
        np.testing.assert_allclose(together[1][frame], alone[1][0], rtol=1e-12, atol=1e-14)
    assert together[0][0] != together[0][1]


def test_virtual_atoms_are_seen_by_nobody_and_get_zeros(potential: DeepPot) -> None:
    expected = golden("se_e2_a", "nopbc")
    types = expected["type"].copy()
    types[[0, 5]] = -1
    real = types >= 0
    results = potential.eval(expected["coord"], None, types, atomic=True)
    without = potential.eval(expected["coord"][real], None, types[real], atomic=True)
    for got, wanted in zip(results, without, strict=True):
        if got.ndim == 3:
            assert not got[0, ~real].any()
            got = got[:, real]
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)
    nothing = potential.eval(expected["coord"], None, np.full_like(types, -1), atomic=True)
    assert not any(array.any() for array in nothing)


def test_no_frame_gives_empty_results(potential: DeepPot) -> None:
    energy, force, virial = potential.eval(np.zeros((0, 2, 3)), None, [0, 1])
    assert (energy.shape, force.shape, virial.shape) == ((0, 1), (0, 2, 3), (0, 9))


def test_parameters_are_broadcast(conditioned: DeepPot) -> None:
    expected = golden("se_e2_a_fparam", "nopbc")
    natoms = len(expected["type"])
    coords = np.stack([expected["coord"]] * 3)
    frame, atom = np.array([0.3, -0.2]), np.linspace(0.0, 1.0, natoms)[:, None]

    def energies(fparam: object, aparam: object) -> np.ndarray:
        return conditioned.eval(coords, None, expected["type"], fparam=fparam, aparam=aparam)[0]

    full = energies(np.tile(frame, (3, 1)), np.tile(atom, (3, 1, 1)))
    for fparam in (frame, np.tile(frame, 3), np.tile(frame, (3, 1)).tolist()):
        for aparam in (atom, atom[:, 0], np.tile(atom[:, 0], 3), np.tile(atom[:, 0], (3, 1))):
            np.testing.assert_array_equal(energies(fparam, aparam), full)
    np.testing.assert_array_equal(energies(frame, [0.5]), energies(frame, np.full((natoms, 1), 0.5)))
    assert abs(energies(frame + 0.1, atom) - full).min() > 1e-6


def test_a_missing_fparam_is_the_default(conditioned: DeepPot, tmp_path: Path) -> None:
    from dataclasses import replace

    content = load_model(GOLDEN / "se_e2_a_fparam" / "model.dp")
    fitting = replace(options(content.model).fitting, default_fparam=(0.3, -0.2))
    save_model(tmp_path / "default.dp", replace(content, model=replace(options(content.model), fitting=fitting)))
    expected = golden("se_e2_a_fparam")
    args = (expected["coord"], expected["cell"], expected["type"])
    with DeepPot(tmp_path / "default.dp") as potential:
        assert potential.has_default_fparam()
        energy = potential.eval(*args, aparam=[0.1])[0]
    assert not conditioned.has_default_fparam()
    np.testing.assert_array_equal(energy, conditioned.eval(*args, fparam=[0.3, -0.2], aparam=[0.1])[0])


def test_getters(potential: DeepPot, conditioned: DeepPot) -> None:
    assert potential.get_rcut() == 4.0
    assert potential.get_type_map() == ["O", "H"]
    assert potential.get_ntypes() == 2
    assert potential.get_sel_type() == [0, 1]
    assert (conditioned.get_dim_fparam(), conditioned.get_dim_aparam()) == (2, 1)
    assert potential.get_model_size() == {"descriptor": 384, "fitting-net": 1922, "total": 2306}
    assert potential.get_observed_types() == {"type_num": 2, "observed_type": ["H", "O"]}
    assert potential.get_model_def_script()["descriptor"]["type"] == "se_e2_a"
    assert potential.serialize()["@class"] == "Model"
    assert not any((potential.has_efield, potential.has_spin, potential.has_hessian, potential.get_ntypes_spin()))
    assert type(DeepEval(potential.model_path)) is DeepPot


def test_a_closed_model_says_so(potential: DeepPot) -> None:
    potential.close()
    with pytest.raises(InputError, match="has been closed"):
        potential.eval(np.zeros((1, 2, 3)), None, [0, 1])


CELL = 10.0 * np.eye(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coords": np.zeros((1, 4, 3))}, r"coords: has shape \(1, 4, 3\), accepted: \(frames, 3, 3\)"),
        ({"coords": "water"}, "coords: cannot be read as an array of numbers"),
        ({"coords": np.full((1, 3, 3), np.nan)}, r"coords: holds nan at position \(0, 0, 0\)"),
        ({"cells": np.zeros((1, 3, 3))}, "cells, frame 0: the cell .* has no volume"),
        ({"cells": np.stack([CELL, CELL])}, r"cells: has shape \(2, 3, 3\), accepted: \(1, 3, 3\) or \(1, 9\)"),
        ({"atom_types": [0, 1, 2]}, r"atom_types: holds type 2, but the type_map \['O', 'H'\] has types 0 to 1"),
        ({"atom_types": [0.0, 1.0, 1.0]}, "atom_types: holds float64 values, accepted: integers"),
        (
            {"atom_types": [[0, 1, 1]]},
            r"atom_types: has shape \(1, 3\), accepted: \(atoms,\), or \(frames, atoms\) with mixed_type=True",
        ),
        ({"atom_types": []}, "at least one atom"),
        (
            {"atom_types": [[0, 1, 1], [0, 1, 1]], "mixed_type": True},
            r"atom_types: has shape \(2, 3\), accepted: \(1, 3\)",
        ),
        ({"fparam": [1.0]}, "fparam: given, but the model .* takes none"),
    ],
)
def test_wrong_arguments(potential: DeepPot, change: dict[str, object], message: str) -> None:
    arguments = {"coords": np.arange(9.0).reshape(1, 3, 3), "cells": CELL[None], "atom_types": [0, 1, 1], **change}
    with pytest.raises(InputError, match=message):
        potential.eval(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"aparam": [0.0]}, r"fparam: missing, and the model .* needs it; accepted shapes: \(1, 2\), \(2,\)"),
        ({"fparam": [0.0, 0.0]}, r"aparam: missing, .* accepted shapes: \(1, 3, 1\), \(3, 1\), \(1,\)"),
        ({"fparam": [0.0, 0.0, 0.0], "aparam": [0.0]}, r"fparam: has shape \(3,\)"),
        ({"fparam": [0.0, 0.0], "aparam": [0.0, 0.0]}, r"aparam: has shape \(2,\)"),
    ],
)
def test_wrong_parameters(conditioned: DeepPot, parameters: dict[str, list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        conditioned.eval(np.arange(9.0), None, [0, 1, 1], **parameters)  # type: ignore[arg-type]


def test_wrong_options(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GOLDEN / "se_e2_a" / "model.dp"
    with pytest.raises(InputError, match=r"head is 'water'.*not supported yet"):
        DeepPot(model, head="water")
    with pytest.raises(InputError, match="neighbours are found by vesin"):
        DeepPot(model, nlist_backend="native")
    with pytest.raises(InputError, match="auto_batch_size: is 0"):
        DeepPot(model, auto_batch_size=0)
    with pytest.raises(InputError, match="unknown backend 'abacus'"):
        DeepPot(model, backend="abacus")
    with pytest.raises(InputError, match="no such model file"):
        DeepPot("nothing.dp")
    monkeypatch.setenv("DP_INFER_BATCH_SIZE", "many")
    with pytest.raises(InputError, match="DP_INFER_BATCH_SIZE: is 'many'"):
        DeepPot(model)


def test_blocks_are_bounded() -> None:
    assert list(blocks.group_frames([3, 3, 9, 1, 1], BlockLimit(6))) == [(0, 2), (2, 3), (3, 5)]
    assert list(blocks.group_frames([3, 3], BlockLimit(None))) == [(0, 2)]
    assert list(blocks.group_frames([], BlockLimit(6))) == []
    cases: dict[tuple[Any, ...], Any] = {
        (3,): [[0, 2], [3, 4]],
        (None, 4): [[0, 2, 3, 4]],
        (3, 3): [[0, 2], [3], [4]],
        (8, 2, 2): [[0, 2], [3, 4]],
        (8, 2, 3): [[0, 2, 3, 4]],
    }
    for (limit, *workers), expected in cases.items():
        found = blocks.split_atoms(np.array([0, -1, 1, 0, 1]), BlockLimit(limit), *workers)
        assert [block.tolist() for block in found] == expected
    assert list(blocks.split_atoms(np.array([-1]), BlockLimit(3))) == []


class SmallDevice:
    """The NumPy backend as a device that holds at most `room` centres."""

    OUT_OF_MEMORY = (MemoryError,)
    FEWEST_ATOMS = 1
    side_by_side = staticmethod(numpy_backend.side_by_side)

    def __init__(self, room: int) -> None:
        self.room = room
        self.sizes: list[int] = []

    def choose_device(self, asked: str | None = None) -> str:
        return "cuda:0"

    def workers(self, device: str) -> int:
        return 1

    def evaluator(self, *arguments: Any, device: str | None = None) -> Any:
        evaluate = numpy_backend.evaluator(*arguments)

        def bounded(neighbours: Any, *rest: Any) -> Any:
            self.sizes.append(len(neighbours.type_N))
            if len(neighbours.type_N) > self.room:
                raise MemoryError
            return evaluate(neighbours, *rest)

        return bounded


@pytest.mark.parametrize(("case", "room"), [("se_e2_a", 5), ("dpa3", 25)])
def test_blocks_grow_to_what_a_device_holds(case: str, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of centres, or of whole frames where atoms exchange messages. The second evaluation knows the device."""
    grid = 1.5 * np.array(list(np.ndindex(3, 2, 2)))[:10]
    coord = grid + np.random.default_rng(1).uniform(0.0, 0.5, (6, 10, 3))
    arguments = coord, None, [0, 1] * 5
    expected = DeepPot(GOLDEN / case / "model.dp").eval(*arguments)
    device = SmallDevice(room)
    monkeypatch.setattr(blocks, "DEFAULT_BATCH_SIZE", 2)
    monkeypatch.setattr(DeepEval, "_adapter", lambda self: device)
    model = DeepPot(GOLDEN / case / "model.dp")
    for known in (False, True):
        device.sizes.clear()
        for name, found, wanted in zip(("energy", "force", "virial"), model.eval(*arguments), expected, strict=True):
            assert_close(found, wanted, name)
        assert (max(device.sizes) <= room) == known
        assert sum(size for size in device.sizes if size <= room) == 60
    device.room = 0
    with pytest.raises(InputError, match="do not fit into the memory of cuda:0"):
        model.eval(*arguments)


def test_pickles_choose_a_device_of_their_own() -> None:
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setattr(DeepEval, "_adapter", lambda self: SmallDevice(9))
        pickled = pickle.dumps(DeepPot(GOLDEN / "se_e2_a" / "model.dp"))
    model = pickle.loads(pickled)
    assert model.device == "cuda:0"
    model.eval(**call(golden("se_e2_a")))
    assert model.device == "cpu"


def test_too_many_neighbours_are_told() -> None:
    expected = golden("se_e2_a_sel_overflow")
    with pytest.warns(SelWarning, match="sel = .* would hold all neighbours"):
        DeepPot(GOLDEN / "se_e2_a_sel_overflow" / "model.dp").eval(**call(expected))  # type: ignore[arg-type]


# -- dp test --------------------------------------------------------------------------------------------------------


def write_system(
    folder: Path, frames: int, *, boundary: str = "pbc", without: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Write a system of perturbed golden frames with random labels."""
    expected = golden("se_e2_a", boundary)
    natoms = len(expected["type"])
    rng = np.random.default_rng(frames)
    data = {
        "coord": (expected["coord"] + 0.1 * rng.normal(size=(frames, natoms, 3))).reshape(frames, -1),
        "energy": rng.normal(size=frames) - 40.0,
        "force": rng.normal(size=(frames, 3 * natoms)),
        "virial": rng.normal(size=(frames, 9)),
        "atom_ener": rng.normal(size=(frames, natoms)),
        "atom_pref": rng.uniform(size=(frames, natoms)),
    }
    if boundary == "pbc":
        data["box"] = np.tile(expected["cell"].reshape(1, 9), (frames, 1))
    (folder / "set.000").mkdir(parents=True)
    np.savetxt(folder / "type.raw", expected["type"], fmt="%d")
    (folder / "type_map.raw").write_text("O\nH\n")
    if boundary == "nopbc":
        (folder / "nopbc").touch()
    data = {name: values for name, values in data.items() if name not in without}
    for name, values in data.items():
        np.save(folder / "set.000" / f"{name}.npy", values)
    return {**data, "type": expected["type"]}


MODEL = GOLDEN / "se_e2_a" / "model.dp"


def test_errors_of_one_system(potential: DeepPot, tmp_path: Path) -> None:
    data = write_system(tmp_path / "a", 3)
    errors = measure_errors(MODEL, system=str(tmp_path), atomic=True)
    natoms = len(data["type"])
    energy, force, virial, atomic, _ = potential.eval(data["coord"], data["box"], data["type"], atomic=True)
    volume = abs(np.linalg.det(data["box"][0].reshape(3, 3)))

    def mean(label: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
        difference = predicted.ravel() - label.ravel()
        return float(np.mean(np.abs(difference))), float(np.sqrt(np.mean(difference**2)))

    assert list(errors) == [name for name in QUANTITIES if name in errors]
    energies = (
        "energy",
        "energy/natoms",
        "force",
        "force weighted",
        "virial",
        "virial/natoms",
        "stress",
        "atomic energy",
    )
    assert set(errors) == set(energies)
    e, v = mean(data["energy"], energy), mean(data["virial"], virial)
    assert errors["energy"] == pytest.approx(e, rel=1e-12)
    assert errors["energy/natoms"] == pytest.approx((e[0] / natoms, e[1] / natoms), rel=1e-12)
    assert errors["force"] == pytest.approx(mean(data["force"], force), rel=1e-12)
    assert errors["virial"] == pytest.approx(v, rel=1e-12)
    assert errors["virial/natoms"] == pytest.approx((v[0] / natoms, v[1] / natoms), rel=1e-12)
    assert errors["stress"] == pytest.approx((v[0] / volume, v[1] / volume), rel=1e-12)
    assert errors["atomic energy"] == pytest.approx(mean(data["atom_ener"], atomic), rel=1e-12)
    weight = np.repeat(data["atom_pref"], 3, axis=1)
    difference = force.reshape(3, -1) - data["force"]
    weighted = np.sum(weight * abs(difference)) / weight.sum(), np.sqrt(np.sum(weight * difference**2) / weight.sum())
    assert errors["force weighted"] == pytest.approx(weighted, rel=1e-12)


def test_systems_are_weighted_by_their_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_system(tmp_path / "data" / "a", 3, without=("atom_pref",))
    write_system(tmp_path / "data" / "b", 5, boundary="nopbc", without=("energy", "atom_ener", "atom_pref"))
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'data' / 'a'}\n\n{tmp_path / 'data' / 'b'}\n")
    with caplog.at_level("INFO", logger="deepmd"):
        average = measure_errors(MODEL, datafile=str(tmp_path / "list.txt"), numb_test=4)
    a = measure_errors(MODEL, system=str(tmp_path / "data" / "a"))
    b = measure_errors(MODEL, system=str(tmp_path / "data" / "b"), numb_test=4)
    assert list(b) == ["force"], "no virial without a cell"
    assert average["energy"] == pytest.approx(a["energy"])
    mae, rmse = ((3 * x**p + 4 * y**p) / 7 for p, x, y in zip((1, 2), a["force"], b["force"], strict=True))
    assert average["force"] == pytest.approx((mae, rmse**0.5), rel=1e-12)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == [
        "# ---------------output of dp test--------------- ",
        f"# testing system : {tmp_path / 'data' / 'a'}",
        "# number of test data : 3 ",
    ]
    assert lines[3] == f"Energy MAE         : {a['energy'][0]:e} eV"
    assert f"Force  RMSE        : {average['force'][1]:e} eV/Å" == lines[-8]
    assert lines[lines.index("# ----------weighted average of errors----------- ") + 1] == "# number of systems : 2"


def test_detail_files(potential: DeepPot, tmp_path: Path) -> None:
    data = write_system(tmp_path / "data" / "a", 3)
    write_system(tmp_path / "data" / "b", 2, boundary="nopbc", without=("energy", "virial"))
    prefix = tmp_path / "out.water"
    for _ in range(2):  # a second run starts the files anew
        measure_errors(MODEL, system=str(tmp_path / "data"), detail_file=str(prefix))
    natoms, other = len(data["type"]), len(golden("se_e2_a", "nopbc")["type"])
    assert {path.name for path in tmp_path.glob("out*")} == {
        f"out.water.{name}.out" for name in ("e", "e_peratom", "f", "v", "v_peratom", "s")
    }
    energy, force, virial = potential.eval(data["coord"], data["box"], data["type"])
    rows = np.loadtxt(f"{prefix}.e.out")
    np.testing.assert_allclose(rows, np.stack([data["energy"], energy[:, 0]], axis=1), rtol=1e-14)
    rows = np.loadtxt(f"{prefix}.f.out")
    assert rows.shape == (3 * natoms + 2 * other, 6)
    np.testing.assert_allclose(
        rows[: 3 * natoms], np.hstack([data["force"].reshape(-1, 3), force.reshape(-1, 3)]), rtol=1e-14
    )
    volume = abs(np.linalg.det(data["box"][0].reshape(3, 3)))
    np.testing.assert_allclose(np.loadtxt(f"{prefix}.s.out", encoding="utf-8")[:, 9:], -virial / volume, rtol=1e-13)
    headers = [line for line in Path(f"{prefix}.f.out").read_text().splitlines() if line.startswith("#")]
    assert headers == [
        f"# {tmp_path / 'data' / name}: data_fx data_fy data_fz pred_fx pred_fy pred_fz" for name in "ab"
    ]


def test_shuffled_frames_follow_the_seed(tmp_path: Path) -> None:
    write_system(tmp_path / "a", 8)

    def some(seed: int) -> MeanErrors:
        return measure_errors(MODEL, system=str(tmp_path), numb_test=2, shuffle_test=True, rand_seed=seed)

    assert some(1) == some(1) != some(2)
    np.save(tmp_path / "a" / "set.000" / "numb_copy.npy", np.arange(8))
    measure_errors(MODEL, system=str(tmp_path))
    with pytest.raises(InputError, match="numb_copy"):
        some(1)


def test_data_of_an_input_file(tmp_path: Path) -> None:
    write_system(tmp_path / "a", 2)
    write_system(tmp_path / "b", 1)
    data = {"training_data": {"systems": [str(tmp_path / "a")]}, "validation_data": {"systems": str(tmp_path / "b")}}
    (tmp_path / "input.json").write_text(json.dumps({"training": data}))
    assert select_systems(train_data=str(tmp_path / "input.json")).paths == (str(tmp_path / "a"),)
    assert select_systems(valid_data=str(tmp_path / "input.json")).paths == (str(tmp_path / "b"),)
    del data["validation_data"]
    (tmp_path / "input.json").write_text(json.dumps({"training": data}))
    with pytest.raises(InputError, match="training/validation_data/systems is missing"):
        select_systems(valid_data=str(tmp_path / "input.json"))


def test_what_cannot_be_tested(tmp_path: Path) -> None:
    write_system(tmp_path / "a", 2)
    with pytest.raises(InputError, match="system and datafile are given"):
        measure_errors(MODEL, system="a", datafile="b")
    with pytest.raises(InputError, match="numb_test is -1"):
        measure_errors(MODEL, system=str(tmp_path), numb_test=-1)
    with pytest.raises(InputError, match=r"the folder .* for the detail files does not exist"):
        measure_errors(MODEL, system=str(tmp_path), detail_file=str(tmp_path / "nowhere" / "x"))
    with pytest.raises(InputError, match="the list of systems cannot be read"):
        measure_errors(MODEL, datafile=str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match=r"/a: fparam: missing"):
        measure_errors(GOLDEN / "se_e2_a_fparam" / "model.dp", system=str(tmp_path))

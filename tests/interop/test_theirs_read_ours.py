"""DeePMD-kit's Python reads, converts, tests and compares our files."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from interop.golden_files import CASES, GOLDEN, golden_frame
from interop.kit import ROOT, Frame
from tolerances import assert_close

from deepmd import DeepPot
from deepmd.io import load_model, save_model

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")

QUANTITIES = ("energy", "force", "virial", "atom_energy", "atom_virial")
FILES = (
    "model.dp",
    "model.yaml",
    "model.pth",
    "model.pb",
    "compressed.dp",
    "compressed.pth",
    "compressed.pb",
    "model.savedmodeltf",
)
JOBS = {
    f"{case} {name}": (case, name)
    for case in CASES
    for name in FILES
    if case == "se_e2_a" or name[-4:] in (".pth", "l.pb", "l.dp")
}


def precision(case: str) -> str:
    return "float32" if "float32" in case else "float64"


def stored(case: str, boundary: str) -> dict[str, np.ndarray]:
    """What DeePMD-kit has computed for its own file."""
    arrays = np.load(GOLDEN / case / "expected.npz")
    return {name: arrays[f"{boundary}/{name}"] for name in QUANTITIES}


def check(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], dtype: str, names: tuple[str, ...] = QUANTITIES
) -> None:
    for name in names:
        assert_close(found[name].reshape(expected[name].shape), expected[name], "golden", dtype, what=name)


@pytest.fixture(scope="module")
def evaluated(kit, files, place):
    """All files, with and without a boundary, in one process of DeePMD-kit."""
    boundaries = ("pbc", "nopbc")
    jobs = {
        f"{job} {b}": (files[case, name], golden_frame(case, b))
        for job, (case, name) in JOBS.items()
        for b in boundaries
    }
    return kit.evaluate(jobs, place / "evaluated")


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("job", JOBS)
def test_deep_pot(evaluated, job, boundary):
    case, name = JOBS[job]
    names = (
        ("energy", "atom_energy") if name.endswith((".dp", ".yaml")) else QUANTITIES
    )  # its NumPy knows no derivatives
    check(evaluated[f"{job} {boundary}"], stored(case, boundary), precision(case), names)


def test_convert_backend(kit, files, place):
    """Our `.dp` and `.yaml` become its `.pth` and `.pb`."""
    folder = place / "converted"
    folder.mkdir()
    jobs = {}
    for case, source in (
        ("se_e2_a", "model.dp"),
        ("se_e2_a_two_side", "compressed.yaml"),
        ("se_e2_a_fparam", "model.dp"),
    ):
        for suffix in ("pth", "pb"):
            target = folder / f"{case}.{suffix}"
            kit.run(["dp", "convert-backend", files[case, source], target], folder)
            jobs[f"{case} {suffix}"] = (target, golden_frame(case))
    for name, found in kit.evaluate(jobs, folder).items():
        check(found, stored(name.split()[0], "pbc"), "float64")


def test_show(kit, files, tmp_path):
    printed = kit.run(["dp", "show", files["se_e2_a", "model.dp"], "type-map", "descriptor", "fitting-net"], tmp_path)
    assert "['O', 'H']" in printed
    assert "'axis_neuron': 4" in printed


@pytest.fixture(scope="module")
def system(place, water):
    """Two frames of water as a system of data, with labels."""

    folder = place / "system"
    source = ROOT / "examples/water/data/water_330a"
    (folder / "set.000").mkdir(parents=True)
    for name in ("coord", "box", "energy", "force", "virial"):
        np.save(folder / f"set.000/{name}.npy", np.load(source / f"set.000/{name}.npy")[:2])
    for name in ("type.raw", "type_map.raw"):
        shutil.copy(source / name, folder)
    return folder


def frames_of(system) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    coord, cell = (np.load(system / f"set.000/{name}.npy") for name in ("coord", "box"))
    return coord.reshape(len(coord), -1, 3), cell.reshape(-1, 3, 3), np.loadtxt(system / "type.raw", dtype=int)


@pytest.mark.parametrize("suffix", ["pth", "pb"])
def test_dp_test(kit, trained, system, tmp_path, suffix):
    """Details and errors are those of our DeepPot."""
    printed = kit.run(
        ["dp", "test", "-m", trained / f"model.{suffix}", "-s", system, "-n", 0, "-d", "detail"], tmp_path
    )
    coord, cell, types = frames_of(system)
    energy, force, virial = DeepPot(str(trained / "model.dp")).eval(coord, cell, types)
    assert_close(np.loadtxt(tmp_path / "detail.e.out")[:, 1], energy[:, 0], "golden")
    assert_close(np.loadtxt(tmp_path / "detail.f.out")[:, 3:], force.reshape(-1, 3), "golden")
    assert_close(np.loadtxt(tmp_path / "detail.v.out")[:, 9:], virial, "golden")
    label = np.load(system / "set.000/force.npy").reshape(-1, 3)
    shown = float(re.search(r"Force  RMSE\s*:\s*(\S+)", printed).group(1))
    assert shown == pytest.approx(np.sqrt(np.mean((force.reshape(-1, 3) - label) ** 2)), rel=1e-5)


def test_model_devi(kit, trained, system, tmp_path):
    """Two models, of which the second is a mixture of kinds of files."""
    content = load_model(trained / "model.dp")
    content.params["out_bias"] = content.params["out_bias"] + 0.1
    content.params["descriptor"]["davg"] = content.params["descriptor"]["davg"] * 1.01
    save_model(tmp_path / "other.pth", content.with_params(content.params))
    kit.run(["dp", "model-devi", "-m", trained / "model.pth", "other.pth", "-s", system, "-o", "devi.out"], tmp_path)
    rows = np.loadtxt(tmp_path / "devi.out")
    coord, cell, types = frames_of(system)
    force = np.stack(
        [DeepPot(str(path)).eval(coord, cell, types)[1] for path in (trained / "model.pth", tmp_path / "other.pth")]
    )
    each = np.sqrt(np.mean(np.sum((force - force.mean(axis=0)) ** 2, axis=-1), axis=0))
    assert rows[:, 4:7] == pytest.approx(
        np.stack([each.max(axis=1), each.min(axis=1), each.mean(axis=1)], axis=1), rel=1e-5
    )


@pytest.mark.parametrize("suffix", ["pth", "pb"])
def test_from_us_to_them_and_back(kit, trained, water, tmp_path, suffix):
    """Trained by us, converted by them there and back: the same energies and forces.

    On its way from `.pb` to `.dp` DeePMD-kit 3.2.0 drops `out_bias`, which its own TensorFlow never uses: the energy
    lacks that, exactly.
    """
    kit.run(["dp", "convert-backend", trained / "model.dp", f"there.{suffix}"], tmp_path)
    kit.run(["dp", "convert-backend", f"there.{suffix}", "back.dp"], tmp_path)
    there = kit.evaluate({"there": (tmp_path / f"there.{suffix}", water)}, tmp_path)["there"]
    ours, back = (
        DeepPot(str(path)).eval(water.coord[None], water.cell[None], water.types)
        for path in (trained / "model.dp", tmp_path / "back.dp")
    )
    if suffix == "pb":
        lost = load_model(trained / "model.dp").params["out_bias"].reshape(-1)[water.types].sum()
        back = [back[0] + lost, *back[1:]]
    for k, name in enumerate(("energy", "force", "virial")):
        assert_close(there[name], ours[k][0], "golden", what=f"there: {name}")
        assert_close(back[k], ours[k], "golden", what=f"back: {name}")


def test_memory_of_pb_is_linear(kit, trained, water, tmp_path):
    """The peak grows by no more bytes per atom from 768 to 6,144 atoms than a few pages of arrays."""
    peaks = {}
    for times in (1, 2, 4):
        shifts = np.stack(np.meshgrid(*3 * [np.arange(times)], indexing="ij"), axis=-1).reshape(-1, 3)
        coord = (water.coord[None] + (shifts @ water.cell)[:, None]).reshape(-1, 3)
        np.savez(tmp_path / f"{times}.npz", **Frame(coord, np.tile(water.types, times**3), water.cell * times).fields())
        peaks[len(coord)] = kit.peak_memory(trained / "model.pb", tmp_path / f"{times}.npz")
    small, middle, large = peaks.values()
    per_atom = (large - middle) / (6144 - 768)
    assert per_atom < 4e5, peaks
    assert (middle - small) / (768 - 96) < 3.0 * max(per_atom, 1e5), peaks

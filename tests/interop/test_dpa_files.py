"""Our files of DPA-2 and DPA-3 in DeePMD-kit's Python and in LAMMPS, where features of atoms go from rank to rank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from interop.golden_files import GOLDEN, golden_frame
from interop.kit import Frame
from interop.lammps_check import LONELY, check, random_frame
from interop.lammps_run import run_lammps
from support import options
from tolerances import assert_close

from deepmd.io import load_model, save_model

QUANTITIES = ("energy", "force", "virial", "atom_energy", "atom_virial")
CASES = sorted(path.name for path in GOLDEN.glob("dpa*"))
MAP = "atom_modify map yes"

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")


JOBS = [
    (case, name, b)
    for name, cases in (("model.pth", CASES), ("model.pb", ("dpa2", "dpa3")))
    for case in cases
    for b in ("pbc", "nopbc")
]


def wrapped(frame: Frame) -> Frame:
    """Atoms inside the cell: the split of atomic virials depends on the image, and DeePMD-kit moves no atom."""
    return (
        frame
        if frame.cell is None
        else replace(frame, coord=frame.coord @ np.linalg.inv(frame.cell) % 1.0 @ frame.cell)
    )


@pytest.fixture(scope="module")
def evaluated(kit, files, place):
    """All files, with and without a boundary, in one process of DeePMD-kit."""
    jobs = {
        f"{case} {name} {boundary}": (files[case, name], wrapped(golden_frame(case, boundary)))
        for case, name, boundary in JOBS
    }
    return kit.evaluate(jobs, place / "dpa")


@pytest.mark.parametrize(("case", "name", "boundary"), JOBS)
def test_deep_pot(evaluated, case, name, boundary):
    found, stored = evaluated[f"{case} {name} {boundary}"], np.load(GOLDEN / case / "expected.npz")
    for quantity in QUANTITIES:
        expected = stored[f"{boundary}/{quantity}"]
        assert_close(found[quantity].reshape(expected.shape), expected, "golden", what=quantity)


@pytest.fixture(scope="module")
def models(place):
    """The stored models as `.pth` and `.dp`, with statistics as data have them.

    Without a mean of the rows: with one, results depend on the type of the first atom of a rank. With one deviation for
    all directions: otherwise the virial is not symmetric, and LAMMPS keeps only half of it.
    """
    statistics = {"davg": lambda value: 0.0 * value, "dstd": lambda value: value[..., [0, 1, 1, 1]]}

    def like_data(tree):
        if isinstance(tree, dict):
            return {name: statistics.get(name, like_data)(value) for name, value in tree.items()}
        return [like_data(item) for item in tree] if isinstance(tree, list) else tree

    def made(case):
        folder = place / f"{case}_like_data"
        if not folder.exists():
            folder.mkdir()
            content = load_model(GOLDEN / case / "model.dp")
            for suffix in ("dp", "pth"):
                save_model(folder / f"model.{suffix}", content.with_params(like_data(content.params)))
        return folder

    return made


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("case", ["dpa2", "dpa3"])
def test_lammps(lammps, models, tmp_path, case, ranks):
    folder, frame = models(case), random_frame()
    outcome = run_lammps(lammps, tmp_path / "run", [folder / "model.pth"], frame, ranks=ranks, first=MAP)
    check(outcome, folder / "model.dp", frame)


@pytest.mark.parametrize("ranks", [1, 2])
def test_charge_and_spin(lammps, models, tmp_path, ranks):
    folder, frame = models("dpa3_charge_spin"), replace(random_frame(), charge_spin=np.array([[-2.0, 3.0]]))
    given = "charge_spin -2 3"
    outcome = run_lammps(
        lammps, tmp_path / "run", [folder / "model.pth"], frame, ranks=ranks, first=MAP, settings=given
    )
    check(outcome, folder / "model.dp", frame)


@pytest.mark.parametrize("suffix", ["pth", "savedmodel"])
def test_default_charge_and_spin(lammps, models, tmp_path, suffix):
    """Of the file, where the input names none."""
    content = load_model(models("dpa3_charge_spin") / "model.dp")
    descriptor = replace(options(content.model).descriptor, default_chg_spin=(-2.0, 3.0))
    paths = [tmp_path / f"model.{name}" for name in ("dp", suffix)]
    for path in paths:
        save_model(path, replace(content, model=replace(options(content.model), descriptor=descriptor)))
    frame = random_frame()
    check(run_lammps(lammps, tmp_path / "run", paths[1:], frame, first=MAP), paths[0], frame)


def test_atom_without_neighbours(lammps, models, tmp_path):
    """Alone on its rank.

    (A rank without any atoms stops for good, in DeePMD-kit's exchange, with its own files too.)
    """
    folder, frame = models("dpa3"), replace(LONELY["one far from all others"], cell=np.diag([10.0, 10.0, 40.0]))
    extra = "fix 1 all nve\ntimestep 0.0005"
    outcome = run_lammps(
        lammps, tmp_path / "run", [folder / "model.pth"], frame, ranks=2, steps=12, first=MAP, extra=extra
    )
    check(outcome, folder / "model.dp", frame)


def test_without_a_map(lammps, models, tmp_path):
    """LAMMPS then treats images as atoms of other ranks, even on one."""
    folder, frame = models("dpa3"), random_frame()
    check(run_lammps(lammps, tmp_path / "run", [folder / "model.pth"], frame), folder / "model.dp", frame)


@pytest.mark.parametrize("case", ["dpa2", "dpa3"])
def test_saved_model(lammps, models, tmp_path, case):
    folder, frame = models(case), random_frame()
    path = tmp_path / "model.savedmodel"
    save_model(path, load_model(folder / "model.dp"))
    check(run_lammps(lammps, tmp_path / "run", [path], frame, first=MAP), folder / "model.dp", frame)

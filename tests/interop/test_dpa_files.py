"""Our files of DPA-2 and DPA-3 in DeePMD-kit's Python and in LAMMPS, where features of atoms go from rank to rank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import GOLDEN, golden_frame
from kit import Frame
from lammps_run import run_lammps
from test_lammps import LONELY, check, random_frame
from tolerances import assert_close

from deepmd.io import load_model, save_model

QUANTITIES = ("energy", "force", "virial", "atom_energy", "atom_virial")
CASES = sorted(path.name for path in GOLDEN.glob("dpa*"))
MAP = "atom_modify map yes"

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")


JOBS = [(case, name, b) for name, cases in (("model.pth", CASES), ("model.pb", ("dpa2", "dpa3"))) for case in cases for b in ("pbc", "nopbc")]


def wrapped(frame: Frame) -> Frame:
    """All atoms inside the cell: what of an atomic virial goes to which atom depends on the image, and DeePMD-kit moves none."""
    return frame if frame.cell is None else replace(frame, coord=frame.coord @ np.linalg.inv(frame.cell) % 1.0 @ frame.cell)


@pytest.fixture(scope="module")
def evaluated(kit, files, place):
    """All files, with and without a boundary, in one process of DeePMD-kit."""
    jobs = {f"{case} {name} {boundary}": (files[case, name], wrapped(golden_frame(case, boundary))) for case, name, boundary in JOBS}
    return kit.evaluate(jobs, place / "dpa")


@pytest.mark.parametrize(("case", "name", "boundary"), JOBS)
def test_deep_pot(evaluated, case, name, boundary):
    found, stored = evaluated[f"{case} {name} {boundary}"], np.load(GOLDEN / case / "expected.npz")
    for quantity in QUANTITIES:
        expected = stored[f"{boundary}/{quantity}"]
        assert_close(found[quantity].reshape(expected.shape), expected, "golden", what=quantity)


@pytest.fixture(scope="module")
def models(place):
    """The stored models as `.pth` and `.dp`, without a mean of the rows: with one, results depend on the type of the first atom of a rank."""

    def without_mean(tree):
        if isinstance(tree, dict):
            return {name: 0.0 * value if name == "davg" else without_mean(value) for name, value in tree.items()}
        return [without_mean(item) for item in tree] if isinstance(tree, list) else tree

    def made(case):
        folder = place / f"{case}_without_mean"
        if not folder.exists():
            folder.mkdir()
            content = load_model(GOLDEN / case / "model.dp")
            for suffix in ("dp", "pth"):
                save_model(folder / f"model.{suffix}", content.with_params(without_mean(content.params)))
        return folder

    return made


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("case", ["dpa2", "dpa3"])
def test_lammps(lammps, models, tmp_path, case, ranks):
    folder, frame = models(case), random_frame()
    outcome = run_lammps(lammps, tmp_path / "run", [folder / "model.pth"], frame, ranks=ranks, first=MAP)
    check(outcome, folder / "model.dp", frame)


def test_atom_without_neighbours(lammps, models, tmp_path):
    """Alone on its rank. (A rank without any atoms stops for good, in DeePMD-kit's exchange, with its own files too.)"""
    folder, frame = models("dpa3"), replace(LONELY["one far from all others"], cell=np.diag([10.0, 10.0, 40.0]))
    extra = "fix 1 all nve\ntimestep 0.0005"
    outcome = run_lammps(lammps, tmp_path / "run", [folder / "model.pth"], frame, ranks=2, steps=12, first=MAP, extra=extra)
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

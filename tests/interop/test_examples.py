"""The inputs of examples/lammps run as they are."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from interop.kit import ROOT


@pytest.fixture
def folder(lammps, trained, tmp_path):
    for path in (ROOT / "examples/lammps").iterdir():
        shutil.copy(path, tmp_path)
    for name, source in (("model.pth", "model.pth"), ("other.pth", "model.pth"), ("model.pb", "model.pb")):
        shutil.copy(trained / source, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["model.pth", "model.pb"])
def test_water(lammps, folder, name):
    assert "Loop time" in lammps.run(["lmp", "-in", "in.water", "-var", "model", name], folder)


def test_stress(lammps, folder):
    lammps.run(["lmp", "-in", "in.stress"], folder)
    rows = np.loadtxt(folder / "stress.dump", skiprows=9)
    assert rows.shape[1] == 11
    assert np.all(np.isfinite(rows))


def test_deviation_of_a_model_from_itself_is_zero(lammps, folder):
    lammps.run(["lmp", "-in", "in.deviation"], folder)
    rows = np.array(
        [[float(word) for word in line.split()] for line in (folder / "deviation.out").read_text().splitlines()[1:]]
    )
    assert rows[:, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert np.all(rows[:, 1:] == 0.0)

"""`dp data`: facts of data, and the doubts about frames that are made wrong on purpose."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from deepmd.cli import main
from deepmd.data.doubts import GPA
from deepmd.data.facts import collect_facts, shortest_distances
from deepmd.data.selection import select_systems

START = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=10 * np.eye(3), pbc=True)


def frames(pressure=-0.01):
    """Twelve waters in cells of different volumes, with plausible labels: the pressure falls with the volume."""
    rng, out = np.random.default_rng(2), []
    for k in range(12):
        atoms = START.copy()
        atoms.positions += 0.02 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell * (1 + 0.005 * k))
        forces = rng.normal(size=(3, 3))
        stress = -pressure * (k + rng.random()) / GPA * np.array([1, 1, 1, 0, 0, 0])
        atoms.calc = SinglePointCalculator(
            atoms, energy=-10 + 0.01 * rng.normal(), forces=forces - forces.mean(axis=0), stress=stress
        )
        out.append(atoms)
    return out


def doubts(path, atoms):
    write(path, atoms)
    return [(doubt.frame, doubt.reason) for doubt in collect_facts(select_systems(system=str(path))).doubts]


def test_facts(tmp_path, capsys):
    data = frames()
    write(tmp_path / "a.extxyz", data)
    facts = collect_facts(select_systems(system=str(tmp_path / "a.extxyz")))
    assert facts.elements == ("O", "H")
    assert facts.doubts == ()
    (system,) = facts.systems
    assert system.labels == ("energy", "force", "virial")
    assert [frame.energy for frame in system.frames] == [atoms.get_potential_energy() for atoms in data]
    largest = [np.linalg.norm(atoms.get_forces(), axis=1).max() for atoms in data]
    np.testing.assert_allclose([frame.largest_force for frame in system.frames], largest, rtol=1e-6)
    pressure = [-atoms.get_stress()[:3].mean() for atoms in data]
    np.testing.assert_allclose([frame.pressure for frame in system.frames], pressure, rtol=1e-6)
    distances = shortest_distances(facts.systems)
    assert distances.keys() == {(0, 1), (1, 1)}
    shortest = min(atoms.get_distances(0, [1, 2]).min() for atoms in data)
    assert distances[0, 1] == pytest.approx(shortest, abs=1e-6)
    assert main(["data", str(tmp_path / "a.extxyz")]) == 0
    out = capsys.readouterr().out
    assert "12 frames in 1 systems, elements O H" in out
    assert f"{distances[0, 1]:.3f}" in out
    assert "No doubtful frame" in out


def nan(atoms):
    atoms.calc.results["forces"][0, 0] = np.nan


def high(atoms):
    atoms.calc.results["energy"] += 5.0


def strong(atoms):
    atoms.calc.results["forces"] *= 100.0


def close(atoms):
    atoms.positions[1] = atoms.positions[0] + 0.3


def drifting(atoms):
    atoms.calc.results["forces"] += 0.1


def compressed(atoms):
    atoms.calc.results["stress"] *= 500.0


def repeated(atoms):
    atoms.positions, atoms.cell = START.positions, START.cell.array


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (nan, "frame 7 of the file holds NaN"),
        (high, "energy -1.667 eV/atom is an outlier: [+]1.67 eV/atom from"),
        (strong, "is an outlier: .* eV/Å above the median"),
        (close, "O and H are 0.520 Å apart, usually 0.9"),
        (drifting, "forces do not cancel: their sum is 0.173 eV/Å per atom"),
        (compressed, "pressure .* GPa is an outlier"),
        (repeated, "has the positions and the cell of frame 0"),
    ],
)
def test_doubtful_frames(tmp_path, change, reason):
    data = frames()
    repeated(data[0])
    change(data[7])
    found = doubts(tmp_path / "a.traj", data)
    assert [frame for frame, _ in found] == [7]
    assert re.search(reason, found[0][1])


def test_signs_and_units_of_virials(tmp_path):
    (wrong,) = doubts(tmp_path / "a.traj", frames(pressure=0.01))
    assert wrong[0] is None
    assert "is the sign of the virial right?" in wrong[1]
    (large,) = doubts(tmp_path / "b.traj", frames(pressure=-0.5 * GPA))
    assert "is the unit of the virial eV, or of the stress eV/Å³?" in large[1]


def test_asymmetric_virials(tmp_path):
    data = frames()
    for atoms in data:
        atoms.calc.results.pop("stress")
        atoms.info["virial"] = np.diag([1.0, 1.1, 0.9])
    data[3].info["virial"] = data[3].info["virial"] + np.array([[0, 0.5, 0], [0, 0, 0], [0, 0, 0]])
    assert doubts(tmp_path / "a.traj", data) == [(3, "virial is not symmetric: by 45 %")]

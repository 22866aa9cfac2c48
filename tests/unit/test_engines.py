"""Engines run our models with the numbers of our ASE calculator: torch-sim, metatomic, i-PI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ase")

import ase
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.stress import voigt_6_to_full_3x3_stress

import deepmd
from deepmd import DeepPot
from deepmd.array_model.components import descriptors_of
from deepmd.array_model.errors import InputError
from deepmd.calculator import DP

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "tests/golden/se_e2_a/model.pth"
EXAMPLES = ROOT / "examples/engines"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def water() -> ase.Atoms:
    """Water in a skewed cell, moving."""
    atoms = read(EXAMPLES / "water.xyz")[:60]
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.03, 0], [0, 1, 0.02], [0.01, 0, 1]]), scale_atoms=True)
    atoms.set_momenta(np.random.default_rng(1).normal(size=(60, 3)))
    atoms.calc = DP(MODEL)
    return atoms


def test_torch_sim_evaluates_systems_together() -> None:
    pytest.importorskip("torch_sim")
    import torch_sim

    from deepmd.engines.torch_sim import DPModel

    model, systems = DPModel(MODEL), [water(), water()[:30], water()[7:]]
    state = torch_sim.io.atoms_to_state(systems, model.device, model.dtype)
    out = {name: value.numpy() for name, value in model(state).items()}
    first = 0
    for number, atoms in enumerate(systems):
        atoms.calc = DP(MODEL)
        assert out["energy"][number] == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(out["forces"][first : first + len(atoms)], atoms.get_forces(), atol=1e-12)
        np.testing.assert_allclose(out["stress"][number], voigt_6_to_full_3x3_stress(atoms.get_stress()), atol=1e-14)
        first += len(atoms)
    foreign = torch_sim.io.atoms_to_state([ase.Atoms("OC", [[0, 0, 0], [1, 0, 0]], cell=[9, 9, 9])], "cpu", model.dtype)
    with pytest.raises(InputError, match=r"atomic numbers \[6\] of the state have no type. Known: \['O', 'H'\]"):
        model(foreign)


def test_torch_sim_moves_as_ase_does() -> None:
    """Velocity Verlet of both, from equal momenta. Units of time are those of ASE, Å √(u/eV)."""
    torch_sim = pytest.importorskip("torch_sim")
    import torch

    from deepmd.engines.torch_sim import DPModel

    atoms, model, step = water(), DPModel(MODEL), 0.5 * units.fs
    start, update = torch_sim.nve(model, dt=torch.tensor(step, dtype=model.dtype), kT=torch.tensor(0.01))
    state = start(torch_sim.io.atoms_to_state([atoms], model.device, model.dtype))
    state.momenta = torch.as_tensor(atoms.get_momenta())
    for _ in range(10):
        state = update(state)
    VelocityVerlet(atoms, timestep=step).run(10)
    assert abs(atoms.positions - water().positions).max() > 0.1
    np.testing.assert_allclose(state.momenta.numpy(), atoms.get_momenta(), atol=1e-9)
    moved = atoms.cell.scaled_positions(state.positions.numpy() - atoms.positions)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-9)  # torch-sim wraps positions into the cell


def test_metatomic_differentiates_the_export(tmp_path: Path) -> None:
    pytest.importorskip("metatomic.torch")
    metatomic_ase = pytest.importorskip("metatomic_ase")
    from deepmd.engines.metatomic import export_metatomic

    path = export_metatomic(MODEL, tmp_path / "model.pt")
    for pbc in (True, False):
        atoms = water()
        if not pbc:
            atoms = atoms.copy()
            atoms.set_cell(None)
            atoms.pbc = False
        other = atoms.copy()
        atoms.calc, other.calc = DP(MODEL), metatomic_ase.MetatomicCalculator(path)
        assert other.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(other.get_forces(), atoms.get_forces(), atol=1e-10)
        if pbc:
            np.testing.assert_allclose(other.get_stress(), atoms.get_stress(), atol=1e-12)
    with pytest.raises(InputError, match="depends on fparam, aparam, which metatomic does not pass"):
        export_metatomic(ROOT / "tests/golden/se_e2_a_fparam/model.dp", tmp_path / "other.pt")


@pytest.mark.parametrize("case", ["se_e2_a", "dpa2", "dpa3"])
def test_no_atom_is_felt_beyond_what_metatomic_is_told(case: str) -> None:
    """A row of atoms: those that change the energy of the first one. With messages they are farther than the cutoff."""
    pytest.importorskip("metatomic.torch")
    from deepmd.engines.metatomic import reach

    potential = DeepPot(ROOT / f"tests/golden/{case}/model.dp")
    (descriptor,) = descriptors_of(potential.model)
    coord = np.zeros((1, 15, 3))
    coord[0, :, 0] = 1.35 * np.arange(15)
    types = np.arange(15) % 2

    def energy(moved: int | None) -> float:
        row = coord.copy()
        if moved is not None:
            row[0, moved] += [-0.3, 0.4, 0.2]
        return float(potential.eval(row, None, types, atomic=True)[3][0, 0, 0])

    still = energy(None)
    felt = max(coord[0, k, 0] for k in range(1, 15) if energy(k) != still)
    assert felt - 0.3 <= reach(descriptor)  # an atom that has moved nearer
    assert (felt > descriptor.rcut + 0.3) == descriptor.needs_neighbour_features


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "package"),
    [("ase/nve.py", "ase"), ("torch_sim/nve.py", "torch_sim"), ("metatomic/export.py", "metatomic_ase")],
)
def test_examples_run(script: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    words = [str(tmp_path / "out.pt")] if "export" in script else ["--steps", "5"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), str(MODEL), *words], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert "eV" in done.stdout


@pytest.mark.slow
def test_ipi_runs_our_client(tmp_path: Path) -> None:
    """The energies of i-PI are those of the structures that it writes."""
    server = shutil.which("i-pi", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if server is None:
        pytest.skip("i-PI is not installed: pip install ipi")
    address = f"deepmd-{os.getpid()}"
    text = (EXAMPLES / "ipi/input.xml").read_text().replace("deepmd-water", address)
    (tmp_path / "input.xml").write_text(text)
    shutil.copy(EXAMPLES / "ipi/water.xyz", tmp_path)
    with subprocess.Popen([server, "input.xml"], cwd=tmp_path, stdout=subprocess.DEVNULL) as running:
        try:
            place, end = Path(f"/tmp/ipi_{address}"), time.monotonic() + 60
            while not place.exists() and time.monotonic() < end:
                time.sleep(0.1)
            command = [sys.executable, str(EXAMPLES / "ipi/client.py"), str(MODEL), "--address", address]
            client = subprocess.run(command, cwd=tmp_path, timeout=120, env=environment())
            assert client.returncode == 0
            assert running.wait(timeout=60) == 0
        finally:
            running.kill()
    rows = np.loadtxt(tmp_path / "water.out")
    assert len(rows) == 11
    atoms = read(EXAMPLES / "water.xyz")
    atoms.calc = DP(MODEL)
    assert rows[0, 3] == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
    assert np.ptp(rows[:, 2]) < 0.05 * np.ptp(rows[:, 3]) + 1e-3, "the total energy stays"


def environment() -> dict[str, str]:
    """Return the environment of a program that imports this package."""
    return {**os.environ, "PYTHONPATH": str(Path(deepmd.__file__).parent.parent), "OMP_NUM_THREADS": "1"}

"""NVE with ASE: python nve.py water.pth [--structure ../water.xyz] [--steps 100]; a.pth b.pth: an ensemble."""

import argparse
from pathlib import Path

import numpy as np
from ase import units
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from deepmd.calculator import DP

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", nargs="+")
parser.add_argument("--structure", default=Path(__file__).parent.parent / "water.xyz")
parser.add_argument("--steps", type=int, default=100)
args = parser.parse_args()

atoms = read(args.structure)
atoms.calc = DP(args.model)
MaxwellBoltzmannDistribution(atoms, temperature_K=330, rng=np.random.default_rng(0))
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
for _ in range(5):
    dynamics.run(args.steps // 5)
    line = f"{dynamics.get_time() / units.fs:6.1f} fs  total energy {atoms.get_total_energy():.5f} eV"
    if len(args.model) > 1:
        deviation = np.linalg.norm(atoms.calc.results["forces_std"], axis=1).max()
        line += f"  largest model deviation {deviation:.3f} eV/Å"
    print(line)

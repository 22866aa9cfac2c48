"""Prove that an installed package works with its required dependencies alone: PYTHON tests/dist/prove.py (`make dist`).

`dp -h` runs, and a stored model gives the stored energies, forces and virials on NumPy.
"""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np

import deepmd

TESTS = Path(__file__).resolve().parents[1]
CASE = TESTS / "golden" / "se_e2_a"
PACKAGE = Path(deepmd.__file__).parent


def deviations(model, stored):
    """Largest deviation of energy, force and virial from those stored, relative to the largest stored."""
    potential, out = deepmd.DeepPot(model), {}
    for boundary in ("pbc", "nopbc"):
        coord, types = stored[f"{boundary}/coord"], stored[f"{boundary}/type"]
        cell = stored[f"{boundary}/cell"][None] if f"{boundary}/cell" in stored else None
        for name, value in zip(("energy", "force", "virial"), potential.eval(coord[None], cell, types), strict=True):
            expected = stored[f"{boundary}/{name}"]
            out[f"{boundary} {name}"] = np.abs(value.ravel() - expected.ravel()).max() / np.abs(expected).max()
    return out


def main():
    found = [name for name in ("torch", "tensorflow", "ase", "pytest") if importlib.util.find_spec(name)]
    if found or PACKAGE.parent.name != "site-packages":
        sys.exit(f"no bare environment: {PACKAGE}; installed: {found}")
    help_text = subprocess.run([Path(sys.executable).with_name("dp"), "-h"], capture_output=True, text=True, check=True)
    if "train" not in help_text.stdout:
        sys.exit(f"dp -h does not name its commands:\n{help_text.stdout}")
    measured = deviations(CASE / "model.dp", np.load(CASE / "expected.npz"))
    print("\n".join(f"{name:14s} {value:.1e}" for name, value in measured.items()))
    # by its path, since the folder around it needs pytest
    tolerances = runpy.run_path(str(PACKAGE / "testing" / "tolerances.py"))["TOLERANCES"]
    if not max(measured.values()) <= tolerances["float64"]["golden"]:
        sys.exit("numbers differ from those stored")
    print(f"deepmd {deepmd.__version__} from {PACKAGE}: proved")


if __name__ == "__main__":
    main()

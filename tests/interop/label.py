"""Label POSCAR with GFN1-xTB: a stand-in for a DFT code in DP-GEN's step `custom`. Writes the folder `labelled`.

Runs in the environment of DP-GEN, which has tblite and dpdata.
"""

import ase.io
import dpdata  # type: ignore[import-not-found]
import numpy as np
from tblite.ase import TBLite  # type: ignore[import-not-found]

atoms = ase.io.read("POSCAR", format="vasp")
atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
frame = {
    "atom_names": list(dict.fromkeys(atoms.symbols)),
    "atom_numbs": [list(atoms.symbols).count(name) for name in dict.fromkeys(atoms.symbols)],
    "atom_types": np.array([list(dict.fromkeys(atoms.symbols)).index(name) for name in atoms.symbols]),
    "cells": atoms.cell.array[None],
    "orig": np.zeros(3),
    "coords": atoms.positions[None],
    "energies": np.array([atoms.get_potential_energy()]),
    "forces": atoms.get_forces()[None],
    "virials": -atoms.get_volume() * atoms.get_stress(voigt=False)[None],
}
dpdata.LabeledSystem(data=frame).to("deepmd/npy", "labelled")

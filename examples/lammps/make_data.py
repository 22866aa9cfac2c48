"""Write water.data: the first frame of ../water/data/water_330a for LAMMPS (type 1 is O, type 2 is H)."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

HERE = Path(__file__).parent
SYSTEM = HERE.parent / "water" / "data" / "water_330a"

types = np.loadtxt(SYSTEM / "type.raw", dtype=int)
coord, box = (np.load(SYSTEM / "set.000" / f"{name}.npy")[0] for name in ("coord", "box"))
atoms = Atoms(np.array(["O", "H"])[types], coord.reshape(-1, 3), cell=box.reshape(3, 3), pbc=True)
atoms.wrap()
write(HERE / "water.data", atoms, format="lammps-data", specorder=["O", "H"], units="metal", atom_style="atomic")
print(f"wrote {HERE / 'water.data'}: {len(atoms)} atoms")

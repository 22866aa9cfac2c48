"""LAMMPS inputs that evaluate one structure or move it, and what they give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from interop.kit import Frame, Kit

BAR = 1.6021765e6
"""bar in units of eV/Angstrom^3, as LAMMPS has it in units metal."""

KINDS = (
    *(
        "se_e2_r",
        "se_e3",
        "se_e3_tebd",
        "se_atten",
        "se_atten_attn",
        "se_atten_strip",
        "hybrid",
        "loc_frame",
        "loc_frame_rule",
    ),
    *("pairtab", "zbl", "zbl_tables", "linear", "linear_pairtab"),
)
"""Stored models of the other kinds of descriptors and models."""

INPUT = """
units metal
boundary {boundary}
atom_style atomic
{first}
neighbor {skin} bin
neigh_modify every 10 delay 0 check no
read_data structure.data
mass * 10.0
pair_style deepmd {models} {settings}
pair_coeff * * {elements}
compute virial all pressure NULL virial
compute energy all pe/atom
compute stress all centroid/stress/atom NULL pair
thermo_style custom step pe ke etotal c_virial[*]
thermo_modify format float %.17g norm no
dump 1 all custom 1 dump.txt id fx fy fz c_energy c_stress[*]
dump_modify 1 sort id format float %.17g
{extra}
run {steps}
"""


@dataclass(frozen=True)
class Outcome:
    """Outputs of the first step, and the thermo rows of all.

    energy (1,), force (n, 3), virial (6,) as xx yy zz xy xz yz, atom_energy (n,), atom_virial (n, 3, 3).
    """

    energy: np.ndarray
    force: np.ndarray
    virial: np.ndarray
    atom_energy: np.ndarray
    atom_virial: np.ndarray
    thermo: np.ndarray


def write_data(path: Path, frame: Frame, ntypes: int) -> None:
    """Write a structure for LAMMPS.

    A cell must be a lower triangle, an open boundary becomes a box around everything.
    """
    coord = frame.coord if frame.cell is None else frame.coord @ np.linalg.inv(frame.cell) % 1.0 @ frame.cell
    low, cell = np.zeros(3), frame.cell
    if cell is None:
        low, cell = coord.min(axis=0) - 1.0, np.diag(np.ptp(coord, axis=0) + 2.0)
    assert not np.triu(cell, 1).any(), "LAMMPS wants the first vector along x, the second in the plane of x and y"
    lines = ["structure", "", f"{len(coord)} atoms", f"{ntypes} atom types", ""]
    lines += [f"{low[k]!r} {low[k] + cell[k, k]!r} {axis}lo {axis}hi" for k, axis in enumerate("xyz")]
    if np.tril(cell, -1).any():
        lines += [f"{cell[1, 0]!r} {cell[2, 0]!r} {cell[2, 1]!r} xy xz yz"]
    lines += ["", "Atoms # atomic", ""]
    lines += [
        f"{k + 1} {t + 1} {x!r} {y!r} {z!r}"
        for k, (t, (x, y, z)) in enumerate(zip(frame.types.tolist(), coord.tolist(), strict=True))
    ]
    path.write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")


def run_lammps(
    kit: Kit,
    folder: Path,
    models: list[Path],
    frame: Frame,
    elements: str = "O H",
    *,
    settings: str = "",
    first: str = "",
    extra: str = "",
    ranks: int = 1,
    steps: int = 0,
    skin: float = 2.0,
) -> Outcome:
    """Run LAMMPS in a new folder.

    `settings` follow the models in pair_style, `first` and `extra` are commands before atoms and before `run`.
    """
    folder.mkdir(parents=True)
    write_data(folder / "structure.data", frame, len(elements.split()))
    boundary = "p p p" if frame.cell is not None else "f f f"
    names = " ".join(str(model) for model in models)
    text = INPUT.format(
        boundary=boundary,
        models=names,
        settings=settings,
        elements=elements,
        first=first,
        extra=extra,
        steps=steps,
        skin=skin,
    )
    (folder / "in.lammps").write_text(text)
    command = (
        ["lmp", "-in", "in.lammps"]
        if ranks == 1
        else ["mpiexec", "-n", ranks, kit.home / "bin/lmp", "-in", "in.lammps"]
    )
    kit.run(command, folder)
    log = (folder / "log.lammps").read_text().splitlines()
    start = next(k for k, line in enumerate(log) if line.split()[:2] == ["Step", "PotEng"]) + 1
    stop = next(k for k, line in enumerate(log) if line.startswith("Loop time"))
    thermo = np.array([[float(word) for word in line.split()] for line in log[start:stop] if line.split()[0].isdigit()])
    rows = np.array(
        [
            [float(word) for word in line.split()]
            for line in (folder / "dump.txt").read_text().splitlines()[9 : 9 + len(frame.types)]
        ]
    )
    rows = rows.reshape(-1, 14)
    volume = abs(np.linalg.det(frame.cell)) if frame.cell is not None else np.prod(np.ptp(frame.coord, axis=0) + 2.0)
    stress = -rows[:, 5:14] / BAR  # xx yy zz xy xz yz yx zx zy, the component of the force last
    return Outcome(
        energy=thermo[0, 1:2],
        force=rows[:, 1:4],
        virial=thermo[0, 4:10] * volume / BAR,
        atom_energy=rows[:, 4],
        atom_virial=stress[:, [0, 6, 7, 3, 1, 8, 4, 5, 2]].reshape(-1, 3, 3),
        thermo=thermo,
    )


def in_voigt_order(virial: np.ndarray) -> np.ndarray:
    """Return xx yy zz xy xz yz of a virial (..., 9), made symmetric: LAMMPS has no more of it."""
    matrix = virial.reshape(3, 3)
    matrix = 0.5 * (matrix + matrix.T)
    return matrix[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]

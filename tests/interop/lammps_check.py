"""Structures for LAMMPS, and its results beside those of our DeepPot."""

from __future__ import annotations

import numpy as np
from interop.kit import Frame
from interop.lammps_run import in_voigt_order

from deepmd import DeepPot

ACCURACY = 1e-9

CELL = np.array([[11.0, 0.0, 0.0], [1.5, 10.0, 0.0], [-0.7, 0.9, 12.0]])


def random_frame(atoms: int = 60, cell: np.ndarray | None = CELL, seed: int = 0) -> Frame:
    """Atoms on a disturbed lattice, so that none are very near."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(atoms ** (1 / 3)))
    points = rng.permutation(np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), -1).reshape(-1, 3))[:atoms]
    coord = (
        (points + rng.uniform(0.2, 0.8, points.shape)) / side @ (np.diag([10.0, 10.0, 10.0]) if cell is None else cell)
    )
    return Frame(coord, rng.integers(0, 2, atoms), cell)


def expected(path, frame: Frame):
    """What our DeepPot gives, by the nets themselves on NumPy."""
    cell = None if frame.cell is None else frame.cell[None]
    given = {
        key: value
        for key, value in vars(frame).items()
        if key in ("fparam", "aparam", "charge_spin") and value is not None
    }
    values = DeepPot(str(path), evaluation="direct").eval(frame.coord[None], cell, frame.types, atomic=True, **given)
    return dict(
        zip(("energy", "force", "virial", "atom_energy", "atom_virial"), (value[0] for value in values), strict=True)
    )


def check(outcome, path, frame, accuracy=ACCURACY):
    wanted = expected(path, frame)
    wanted["virial"] = in_voigt_order(wanted["virial"])
    for name, value in wanted.items():
        found = getattr(outcome, name)
        scale = max(float(np.abs(value).max()), 1e-2)
        assert np.abs(found - value.reshape(found.shape)).max() <= accuracy * scale, name


LONELY = {
    "one atom": Frame(np.array([[1.0, 1.0, 1.0]]), np.array([0])),
    "far apart": Frame(np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 31.0], [1.0, 2.0, 31.5]]), np.array([0, 1, 1])),
    "one far from all others": Frame(
        np.array([[1.0, 1.0, 1.0], [1.9, 1.0, 1.0], [2.0, 1.0, 2.0], [1.0, 1.0, 31.0]]), np.array([1, 1, 1, 0])
    ),
}

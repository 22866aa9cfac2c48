"""Neighbour lists against the definition with explicit images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.errors import InputError
from deepmd.data.neighbours import Structure, check_cell, find_neighbours
from deepmd.testing.samples import SYSTEMS, systems

RCUT = 3.0


def slow_neighbours(structure, rcut):
    """All (i, j, r_j - r_i) by all pairs and all images that can matter (spec core, section 2)."""
    out, cell = [], structure.cell
    shifts = [np.zeros(3)]
    if cell is not None:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        fractional = structure.coord @ np.linalg.inv(cell)
        spread = np.ceil(fractional.max(axis=0) - fractional.min(axis=0))
        reach = [int(n) for n in np.ceil(rcut / heights) + spread]
        shifts = [np.array(n) @ cell for n in itertools.product(*(range(-n, n + 1) for n in reach))]
    for i, j in itertools.product(np.flatnonzero(structure.types >= 0), repeat=2):
        for shift in shifts:
            disp = structure.coord[j] + shift - structure.coord[i]
            if (i != j or shift.any()) and np.linalg.norm(disp) <= rcut:
                out.append((i, j, *disp))
    return sorted_pairs(np.array(out).reshape(-1, 5))


def sorted_pairs(pairs):
    return pairs[np.lexsort(np.round(pairs, 6).T[::-1])]


@pytest.mark.parametrize("system", SYSTEMS)
def test_equals_slow_twin(system):
    structures = [sample.structure for sample in systems(RCUT, 2)[system]]
    found = find_neighbours(structures, RCUT)
    pairs = np.column_stack([found.i, found.j, found.disp])
    assert_close(found.dist, np.linalg.norm(found.disp, axis=1), "function")
    offset = 0
    for number, structure in enumerate(structures):
        own = found.frame[found.i] == number
        expected = slow_neighbours(structure, RCUT) + np.array([offset, offset, 0.0, 0.0, 0.0])
        assert_close(sorted_pairs(pairs[own]), expected, "function")
        offset += len(structure.types)
    assert np.array_equal(found.types, np.concatenate([structure.types for structure in structures]))
    assert found.num_frames == len(structures)


def test_far_images_are_found():
    """Atoms given several cells away have the same neighbours."""
    (sample,) = systems(RCUT, 2)["triclinic_small"]
    moved = sample.structure.coord + np.array([[7, -5, 0], [0, 0, 0], [-9, 2, 11]]) @ sample.cell
    near, far = (find_neighbours([Structure(coord, sample.cell, sample.structure.types)], RCUT) for coord in (sample.structure.coord, moved))
    assert_close(np.sort(far.dist), np.sort(near.dist), "energy")
    assert np.array_equal(np.bincount(far.i), np.bincount(near.i))


@pytest.mark.parametrize(("distance", "count"), [(RCUT, 2), (np.nextafter(RCUT, 9.0), 0)])
def test_cutoff_is_inclusive(distance, count):
    structure = Structure(np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]), None, np.array([0, 0]))
    found = find_neighbours([structure], RCUT)
    assert (found.dist <= RCUT).sum() == count


def test_only_virtual_atoms():
    found = find_neighbours([Structure(np.zeros((2, 3)), None, np.array([-1, -1]))], RCUT)
    assert len(found.i) == 0


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([1.0, 1.0, 0.0]), np.ones((3, 3)), np.diag([1.0, np.nan, 1.0])])
def test_cell_without_volume(cell):
    with pytest.raises(InputError, match=r"frame 3.*no volume"):
        check_cell(cell, "frame 3")


def test_left_handed_cell_has_volume():
    check_cell(np.diag([3.0, -3.0, 3.0]), "frame 0")

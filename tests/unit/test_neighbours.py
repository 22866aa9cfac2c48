"""Neighbour lists against the definition with explicit images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.errors import InputError
from deepmd.data.limits import FARTHEST, MOST_NEIGHBOURS
from deepmd.data.neighbours import Structure, check_cell, find_neighbours
from deepmd.testing.samples import SYSTEMS, systems

RCUT = 3.0


def slow_neighbours(structure, rcut):
    """All (i, j, r_j - r_i) by all pairs and all images that can matter (docs/theory/neighbours.md#images)."""
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
    near, far = (
        find_neighbours([Structure(coord, sample.cell, sample.structure.types)], RCUT)
        for coord in (sample.structure.coord, moved)
    )
    assert_close(np.sort(far.dist), np.sort(near.dist), "energy")
    assert np.array_equal(np.bincount(far.i), np.bincount(near.i))


def test_more_cells_away_than_32_bits_count():
    cell, coord = np.diag([1.0 / 64.0, 9.0, 9.0]), np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    moved = coord + (2.0**31 + 64.0) * cell[0] * [[0.0], [1.0]]
    near, far = (find_neighbours([Structure(x, cell, np.zeros(2, dtype=np.int64))], RCUT) for x in (coord, moved))
    assert np.array_equal(np.bincount(far.i), np.bincount(near.i))
    assert_close(np.sort(far.dist), np.sort(near.dist), "energy")


@pytest.mark.parametrize(("distance", "count"), [(RCUT, 2), (np.nextafter(RCUT, 9.0), 0)])
def test_cutoff_is_inclusive(distance, count):
    structure = Structure(np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]), None, np.array([0, 0]))
    found = find_neighbours([structure], RCUT)
    assert (found.dist <= RCUT).sum() == count


def test_only_virtual_atoms():
    found = find_neighbours([Structure(np.zeros((2, 3)), None, np.array([-1, -1]))], RCUT)
    assert len(found.i) == 0


@pytest.mark.parametrize(
    "cell",
    [
        np.zeros((3, 3)),
        np.diag([1e-60, 1.0, 1.0]),
        np.diag([1.0, 1.0, 0.0]),
        np.ones((3, 3)),
        np.diag([1.0, np.nan, 1.0]),
    ],
)
def test_cell_without_volume(cell):
    with pytest.raises(InputError, match=r"frame 3.*no volume"):
        check_cell(cell, "frame 3")


def test_left_handed_cell_has_volume():
    check_cell(np.diag([3.0, -3.0, 3.0]), "frame 0")


def test_a_long_thin_cell_has_volume():
    check_cell(np.diag([1e7, 3.0, 3.0]), "frame 0")


# -- far atoms, crowds, thin cells
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [None, 10.0 * np.eye(3)])
@pytest.mark.parametrize("far", [FARTHEST, -3e10, np.nan])
def test_an_atom_too_far_out_is_named(cell, far):
    coord, types = np.zeros((4, 3)), np.array([0, -1, 0, 0])
    coord[1, 0] = coord[3, 1] = far  # the first of them is virtual
    with pytest.raises(InputError, match=r"a/system: frame 7: atom 3 is at .* below 67108864 Angstrom"):
        find_neighbours([Structure(coord, cell, types, "a/system: frame 7")], RCUT)


def test_too_many_neighbours_are_counted():
    coord = np.concatenate(
        [np.full((1, 3), 40.0), 0.01 * np.random.default_rng(1).normal(size=(MOST_NEIGHBOURS + 234, 3))]
    )
    types = np.zeros(len(coord), dtype=np.int64)
    for cell in (None, 100.0 * np.eye(3)):
        with pytest.raises(
            InputError, match="frame 2: atom 1 has 1233 neighbours within 3 Angstrom; accepted: at most 1000"
        ):
            find_neighbours([Structure(coord, cell, types, "frame 2")], RCUT)
    just = Structure(coord[: MOST_NEIGHBOURS + 2], None, types[: MOST_NEIGHBOURS + 2])
    assert len(find_neighbours([just], RCUT).i) == MOST_NEIGHBOURS * (MOST_NEIGHBOURS + 1)


@pytest.mark.parametrize(
    "cell",
    [np.diag([6e-3] * 3), np.array([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0], [6.0, 6.0, 1e-3]]), np.diag([1e-40, 1.0, 1.0])],
)
def test_a_cell_smaller_than_matter_is_refused_at_once(cell):
    with pytest.raises(InputError, match=r"frame 0: .* has (at least )?[0-9.e+inf]+ neighbours"):
        find_neighbours(
            [Structure(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), cell, np.zeros(2, dtype=np.int64), "frame 0")],
            RCUT,
        )


def test_primitive_cells_keep_hundreds_of_neighbours():
    """A face-centred lattice of one atom, by short and by skewed vectors, and as a cube of four."""
    primitive = 2.0 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    skewed = np.array([[1.0, 300.0, -7000.0], [0.0, 1.0, 900.0], [0.0, 0.0, 1.0]]) @ primitive
    cube = np.array([[0.0, 0.0, 0.0], *primitive])
    dist = [
        np.sort(find_neighbours([Structure(np.zeros((1, 3)), cell, np.zeros(1, dtype=np.int64))], 12.0).dist)
        for cell in (primitive, skewed)
    ]
    whole = find_neighbours([Structure(cube, 4.0 * np.eye(3), np.zeros(4, dtype=np.int64))], 12.0)
    assert 400 < len(dist[0]) == len(dist[1]) == np.count_nonzero(whole.i == 0)
    assert np.array_equal(dist[1], dist[0])
    assert_close(np.sort(whole.dist[whole.i == 0]), dist[0], "energy")


def test_empty_space_costs_nothing():
    """A dense piece sees the same alone, with a fragment that flew off, and in a huge cell.

    A plane is as wide as it likes.
    """
    rng = np.random.default_rng(3)
    piece = np.stack(np.meshgrid(*3 * [2.2 * np.arange(8)], indexing="ij"), axis=-1).reshape(-1, 3) + 0.1 * rng.normal(
        size=(512, 3)
    )
    away = np.concatenate([piece, piece[:2] + 1e7])
    plane = np.concatenate([piece + 20.0, rng.uniform(0.0, 6000.0, (400, 3)) * [1.0, 1.0, 1e-4] + [0.0, 0.0, 90.0]])
    alone = find_neighbours([Structure(piece, None, np.zeros(512, dtype=np.int64))], RCUT)
    for coord, cell in (
        (away, None),
        (piece, 1e9 * np.eye(3)),
        (plane, np.diag([6000.0, 6000.0, 100.0])),
        (plane, None),
    ):
        found = find_neighbours([Structure(coord, cell, np.zeros(len(coord), dtype=np.int64))], RCUT)
        own = found.i < 512
        assert np.array_equal(np.bincount(found.i[own]), np.bincount(alone.i))
        np.testing.assert_allclose(
            np.sort(found.dist[own]), np.sort(alone.dist), rtol=0.0, atol=8.0 * np.spacing(np.abs(piece + 20.0).max())
        )

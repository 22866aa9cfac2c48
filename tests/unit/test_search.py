"""The search of exported files against an all-pairs twin and against the neighbour lists of `deepmd.data`."""

import warnings
from itertools import product

import numpy as np
import pytest
from support import mark_slow

from deepmd.array_model.errors import InputError
from deepmd.array_model.neighbours import FIELDS, SIZES, Layout, flatten_neighbours, unflatten_neighbours
from deepmd.data import search
from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.data.pack_candidates import pack_candidates
from deepmd.data.packing import SelWarning, pack
from deepmd.host import plain

RCUT = 3.1
LAYOUTS = {
    "wide": Layout(RCUT, (60, 60, 60)),
    "overflow": Layout(RCUT, (3, 0, 2)),
    "excluded": Layout(RCUT, (60, 60, 60), excluded=((0, 1), (2, 2))),
    "mixed": Layout(RCUT, (7,), mixed=True, excluded=((1, 2),)),
    "mixed and typed": Layout(RCUT, (7,), mixed=True, excluded=((1, 2),), typed=(3, 2, 4)),
    "inner and typed": Layout(
        RCUT,
        (40,),
        mixed=True,
        excluded=((1, 2),),
        typed=(3, 2, 4),
        inner=((0.7 * RCUT, 12), (0.9 * RCUT, 5)),
        needs_neighbour_features=True,
    ),
    "inner": Layout(
        RCUT,
        (40,),
        mixed=True,
        excluded=((1, 2),),
        inner=((0.7 * RCUT, 12), (0.9 * RCUT, 5)),
        needs_neighbour_features=True,
    ),
}
CELLS = {
    "large": np.diag([9.0, 7.0, 11.0]),
    "two bins": np.diag([6.3, 6.21, 12.5]),
    "triclinic": np.array([[7.0, 0.3, -0.2], [3.3, 6.0, 0.1], [-2.9, 2.2, 8.0]]),
    "small": np.array([[2.1, 0.2, 0.1], [0.9, 1.7, 0.0], [0.3, -0.4, 2.6]]),
    "left-handed": np.array([[0.4, 5.0, 0.0], [4.4, 0.3, 0.9], [0.0, 0.5, 6.0]]),
    "long and thin": np.diag([40.0, 1.3, 2.0]),
    "open": None,
}
ATOMS = {"3 atoms, 1 frame": (3, 1), "7 atoms, 2 frames": (7, 2), "1 atom": (1, 1), "19 atoms, 3 frames": (19, 3)}


def brute(structure: Structure, rcut: float) -> list[tuple[int, int, np.ndarray]]:
    """All pairs of a frame, by trying all atoms and all images."""
    cell, coord, most = np.zeros((3, 3)), structure.coord, np.zeros(3, dtype=np.int64)
    if structure.cell is not None:
        cell, inverse = structure.cell, np.linalg.inv(structure.cell)
        coord = structure.coord @ inverse % 1.0 @ cell
        most = np.ceil(rcut * np.linalg.norm(inverse, axis=0)).astype(np.int64) + 1  # cells within reach
    out = []
    shifts = np.array([*product(*(range(-number, number + 1) for number in most))])
    for i in np.flatnonzero(structure.types >= 0):
        for j in np.flatnonzero(structure.types >= 0):
            disp = coord[j] - coord[i] + shifts @ cell
            near = (np.linalg.norm(disp, axis=1) <= rcut) & ((i != j) | shifts.any(axis=1))
            out += [(int(i), int(j), d) for d in disp[near]]
    return out


def structures(cell: np.ndarray | None, atoms: int, frames: int, seed: int) -> list[Structure]:
    """Random frames, atoms also outside the cell, some of them virtual; the cells of the frames differ a little."""
    rng = np.random.default_rng(seed)
    types = rng.integers(-1, 3, (frames, atoms)) if atoms > 1 else np.zeros((frames, 1), dtype=np.int64)
    cells = [None if cell is None else cell * (1.0 + 0.1 * k) for k in range(frames)]
    return [Structure(rng.normal(0.0, 3.0, (atoms, 3)), c, t) for c, t in zip(cells, types, strict=True)]


def batch(frames: list[Structure]) -> tuple[np.ndarray, ...]:
    """Arrays of all atoms, and of all cells (zeros for an open boundary)."""
    coord, types = np.concatenate([s.coord for s in frames]), np.concatenate([s.types for s in frames])
    cells = np.stack([np.zeros((3, 3)) if s.cell is None else s.cell for s in frames])
    return coord, types.astype(np.int64), np.repeat(np.arange(len(frames)), [len(s.types) for s in frames]), cells


def find(coord, types, frame, cells, periodic, layout, *, xp):
    """What an exported file does: returns the flattened neighbours, and the row and position of atoms."""
    cells = cells if periodic else search.enclosing_cell(coord, layout.rcut, xp=xp) + xp.zeros_like(cells)
    found = search.candidates(coord, types, frame, cells, layout.rcut, float(periodic), xp=xp)
    packed = pack_candidates(found, types, frame, layout, 3, xp=xp)
    return flatten_neighbours(packed.neighbours, xp=xp) | {"row_N": packed.row_N, "position_A": packed.position_A}


def in_numpy(layout, periodic):
    return lambda *arrays: find(*arrays, periodic, layout, xp=plain)  # type: ignore[call-arg]


def in_torch_trace(layout, periodic):
    torch = pytest.importorskip("torch")
    from deepmd.adapters.torch.namespace import xp

    def flat(*arrays):
        return tuple(find(*arrays, periodic, layout, xp=xp).values())  # type: ignore[call-arg]

    example = [torch.from_numpy(a) for a in batch(structures(CELLS["large"] if periodic else None, 13, 2, 0))]
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)  # a size would be frozen
        warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated")  # TorchScript as a whole
        traced = torch.jit.trace(flat, example, check_trace=False)
    names = (*FIELDS, "row_N", "position_A")
    return lambda *arrays: {
        name: value.numpy() for name, value in zip(names, traced(*map(torch.from_numpy, arrays)), strict=True)
    }


def in_tf_graph(layout, periodic):
    tf = pytest.importorskip("tensorflow")
    from deepmd.adapters.tf.namespace import xp

    with tf.Graph().as_default() as graph:
        kinds = ((tf.float64, [None, 3]), (tf.int64, [None]), (tf.int64, [None]), (tf.float64, [None, 3, 3]))
        inputs = [tf.compat.v1.placeholder(dtype, sizes) for dtype, sizes in kinds]
        outputs = find(*inputs, periodic, layout, xp=xp)  # type: ignore[call-arg]
    session = tf.compat.v1.Session(graph=graph)
    return lambda *arrays: session.run(outputs, dict(zip(inputs, arrays, strict=True)))


MAKERS = {"numpy": in_numpy, "torch trace": in_torch_trace, "tf graph": in_tf_graph}


@pytest.fixture(scope="module")
def runs():
    """One trace or graph for each framework, layout and boundary, used at all sizes."""
    made = {}

    def get(framework, layout, periodic):
        key = framework, layout, periodic
        if key not in made:
            made[key] = MAKERS[framework](LAYOUTS[layout], periodic)
        return made[key]

    return get


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", ATOMS)
def test_finds_what_all_pairs_finds(cell, size):
    frames = structures(CELLS[cell], *ATOMS[size], seed=1)
    coord, types, frame, cells = batch(frames)
    cells = cells if CELLS[cell] is not None else search.enclosing_cell(coord, RCUT, xp=plain) + 0.0 * cells
    found = search.candidates(coord, types, frame, cells, RCUT, xp=plain)
    assert np.array_equal(found.atom_N, np.arange(len(types)))
    row, column = np.nonzero(found.mask_NC)
    got = np.concatenate(
        [np.stack([row, found.index_NC[row, column]], axis=1), *(x[row, column, None] for x in found.disp)], axis=1
    )
    want = np.array(
        [(i + k * len(s.types), j + k * len(s.types), *d) for k, s in enumerate(frames) for i, j, d in brute(s, RCUT)]
    ).reshape(-1, 5)
    order = [rows[np.lexsort(np.round(rows, 6).T[::-1])] for rows in (got, want)]
    np.testing.assert_allclose(*order, rtol=0.0, atol=1e-12)


RUNS = [*product(CELLS, LAYOUTS, MAKERS)]
TRACED = ("overflow", "excluded", "mixed", "inner and typed")
"""Layouts of quick tests that torch traces, in half a second each: with and without each option."""


def is_quick(cell, layout, framework):
    """A graph of TensorFlow takes a second: of one mixed row for both boundaries, of sections for one."""
    in_graph = layout == "inner and typed" or (layout == "overflow" and cell != "open")
    return {"numpy": True, "torch trace": layout in TRACED, "tf graph": in_graph}[framework]


@pytest.mark.parametrize(("cell", "layout", "framework"), mark_slow(RUNS, [row for row in RUNS if is_quick(*row)]))
def test_packs_as_the_host_does(runs, framework, layout, cell):
    for seed, size in enumerate(ATOMS.values()):
        frames = structures(CELLS[cell], *size, seed=seed)
        found = runs(framework, layout, CELLS[cell] is not None)(*batch(frames))
        row, position = found.pop("row_N"), found.pop("position_A")
        got = unflatten_neighbours(found, xp=plain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelWarning)  # the layout with few slots is meant to overflow
            host = pack(find_neighbours(frames, RCUT), LAYOUTS[layout], 3)
        want = host.neighbours
        for name in SIZES:
            assert getattr(got, name) == getattr(want, name)
        for name in ("mask_NM", "type_N", "frame_N", "centre_N", "type_NM"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
        np.testing.assert_allclose(got.in_cell_N3, want.in_cell_N3, rtol=0.0, atol=1e-12)
        atoms = np.argsort(position)
        np.testing.assert_array_equal(atoms[: len(row)], host.atoms[: len(row)])
        np.testing.assert_array_equal(row, host.atoms[: len(row)])
        np.testing.assert_allclose(
            np.linalg.norm(got.disp_NM3, axis=2), np.linalg.norm(want.disp_NM3, axis=2), rtol=0.0, atol=1e-12
        )
        # an atom's own images at +d and -d are equally far: their order, and which one overflow drops, is free
        other = ~(got.mask_NM & (got.index_NM == got.centre_N[:, None]))
        np.testing.assert_allclose(got.disp_NM3[other], want.disp_NM3[other], rtol=0.0, atol=1e-12)
        owners = [
            np.where(got.mask_NM & other, table, -1) for table in (atoms[got.index_NM], host.atoms[want.index_NM])
        ]
        np.testing.assert_array_equal(*owners)


def test_the_cutoff_is_inclusive_and_atoms_on_a_border_are_found_once():
    coord = np.array([[0.0, 0.0, 0.0], [RCUT, 0.0, 0.0], [12.4, 0.0, 0.0]])  # the last is an image of the first
    zero = np.zeros(3, dtype=np.int64)
    found = search.candidates(coord, zero, zero, np.eye(3)[None] * 12.4, RCUT, xp=plain)
    np.testing.assert_array_equal(found.mask_NC.sum(axis=1), [2, 2, 2])


def test_atoms_far_apart_need_no_memory_for_the_space_between():
    coord = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [4e7, -3e7, 5e7], [4e7, -3e7, 5e7 + 1.0]])
    zero = np.zeros(4, dtype=np.int64)
    found = search.candidates(coord, zero, zero, search.enclosing_cell(coord, RCUT, xp=plain), RCUT, xp=plain)
    np.testing.assert_array_equal(found.mask_NC.sum(axis=1), [1, 1, 1, 1])


def test_what_rounding_could_hide_is_refused():
    cell = np.array([[[3e3, 0.0, 0.0], [3e7, 3e3, 0.0], [0.0, 0.0, 3e3]]])
    zero = np.zeros(2, dtype=np.int64)
    with pytest.raises(InputError, match="rounding hides its place"):
        search.candidates(np.eye(3)[:2], zero, zero, cell, RCUT, xp=plain)


def test_many_virtual_atoms_in_one_place_cost_nothing():
    coord, types = np.zeros((20000, 3)), np.full(20000, -1)
    types[:2], coord[1, 0] = 0, 1.0
    found = search.candidates(coord, types, np.zeros_like(types), np.eye(3)[None] * 10.0, RCUT, xp=plain)
    assert found.mask_NC.sum() == 2
    assert found.mask_NC.shape[1] == 1


def test_a_given_list_is_filtered_and_its_order_does_not_matter():
    rng = np.random.default_rng(5)
    coord, types, frame = rng.normal(0.0, 2.5, (17, 3)), rng.integers(-1, 3, 17), np.zeros(17, dtype=np.int64)
    wide = np.array([np.append(rng.permutation(np.delete(np.arange(17), i)), [-1, -1]) for i in range(11)])
    wide = rng.permuted(wide, axis=1)
    whole = search.candidates(coord, types, frame, search.enclosing_cell(coord, RCUT, xp=plain), RCUT, xp=plain)
    centres = search.Candidates(
        *(tuple(x[:11] for x in table) if isinstance(table, tuple) else table[:11] for table in vars(whole).values())
    )
    for layout in LAYOUTS.values():
        want = pack_candidates(centres, types, frame, layout, 3, xp=plain)
        got = pack_candidates(
            search.listed(coord, np.arange(11), wide, RCUT, xp=plain), types, frame, layout, 3, xp=plain
        )
        assert got.neighbours.widths == want.neighbours.widths
        np.testing.assert_allclose(got.neighbours.disp_NM3, want.neighbours.disp_NM3, rtol=0.0, atol=1e-13)
        np.testing.assert_array_equal(got.neighbours.index_NM, want.neighbours.index_NM)
        np.testing.assert_array_equal(got.position_A, want.position_A)

"""Packing against the definition, and its contract on any list of pairs."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmd.array_model.cut_neighbours import cut_neighbours, unite_layouts
from deepmd.array_model.neighbours import Layout, spans
from deepmd.data.neighbours import PairList, find_neighbours
from deepmd.data.packing import SelWarning, pack
from deepmd.host import plain
from deepmd.testing.samples import SYSTEMS, systems
from deepmd.testing.tolerances import assert_close

RCUT = 3.0
LAYOUTS = {
    "roomy": Layout(RCUT, (40, 40)),
    "overflow": Layout(RCUT, (3, 2)),
    "section overflow": Layout(RCUT, (40, 1)),
    "zero": Layout(RCUT, (4, 0)),
    "mixed": Layout(RCUT, (40,), mixed=True),
    "mixed overflow": Layout(RCUT, (3,), mixed=True),
    "mixed excluded": Layout(RCUT, (5,), mixed=True, excluded=((0, 1),)),
    "mixed and typed": Layout(RCUT, (40,), mixed=True, typed=(20, 20)),
    "mixed and typed overflow": Layout(RCUT, (6,), mixed=True, typed=(2, 1), excluded=((1, 1),)),
    "excluded": Layout(RCUT, (3, 2), excluded=((0, 1),)),
    "shorter": Layout(2.0, (40, 40)),
}


def slow_rows(neighbours, layout, centre):
    """Neighbours of one centre by section (numbers of pairs), nearest first (docs/theory/neighbours.md#selection)."""
    types = neighbours.types
    own = [p for p in range(len(neighbours.i)) if neighbours.i[p] == centre and neighbours.dist[p] <= layout.rcut]
    nearest = sorted(own, key=lambda p: neighbours.dist[p])[: sum(layout.sel)]
    hidden = {frozenset(pair) for pair in layout.excluded}
    seen = [p for p in nearest if frozenset((types[centre], types[neighbours.j[p]])) not in hidden]
    typed = layout.typed if layout.mixed else layout.sel
    sections = [[p for p in seen if types[neighbours.j[p]] == kind][:most] for kind, most in enumerate(typed)]
    return [*sections, seen] if layout.mixed else sections


def quiet_pack(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelWarning)
        return pack(*arguments)


def sort_rows(disp, atoms):
    """Neighbours in an order that does not depend on ties."""
    return np.array(sorted((*vector, atom) for vector, atom in zip(disp.tolist(), atoms.tolist(), strict=True)))


def check(packed, neighbours, layout, ntypes):
    """Compare a packing with the definition."""
    pairs, centres = packed.neighbours, packed.atoms[: len(packed.neighbours.type_N)]
    expected = [slow_rows(neighbours, layout, centre) for centre in centres]
    used = [max((len(rows[t]) for rows in expected), default=0) for t in range(len(layout.sections))]
    assert pairs.widths == (*used[:-1], used[-1] + layout.mixed)
    check_types(packed, neighbours, layout)
    assert np.array_equal(pairs.type_N, np.sort(pairs.type_N))
    assert np.array_equal(pairs.type_N, neighbours.types[centres])
    assert np.array_equal(pairs.frame_N, neighbours.frame[centres])
    assert pairs.counts == tuple((pairs.type_N == t).sum() for t in range(ntypes))
    for row, sections in enumerate(expected):
        for (start, _), section in zip(spans(pairs.widths), sections, strict=True):
            stop = start + len(section)
            disp, atoms = pairs.disp_NM3[row, start:stop], packed.atoms[pairs.index_NM[row, start:stop]]
            assert np.array_equal(sort_rows(disp, atoms), sort_rows(neighbours.disp[section], neighbours.j[section]))
            assert_close(np.linalg.norm(disp, axis=1), neighbours.dist[section], "order")
            assert pairs.mask_NM[row, start:stop].all()
        assert pairs.mask_NM[row].sum() == sum(map(len, sections))
    assert np.array_equal(
        np.unique(pairs.disp_NM3[~pairs.mask_NM], axis=0),
        [[2.0 * layout.rcut, 0.0, 0.0]] if (~pairs.mask_NM).any() else np.zeros((0, 3)),
    )
    assert not pairs.index_NM[~pairs.mask_NM].any()
    assert np.array_equal(pairs.centre_N, np.arange(len(centres)))


def check_types(packed, neighbours, layout):
    """A mixed row tells the type of every neighbour, and in its empty slots that of the first atom of the frame.

    The last slot is empty.
    """
    pairs = packed.neighbours
    if not layout.mixed:
        assert pairs.type_NM.shape == (len(pairs.type_N), 0)
        return
    assert not pairs.mask_NM[:, -1].any()
    first = [max(neighbours.types[neighbours.frame == frame][0], 0) for frame in pairs.frame_N]
    first_N1 = np.array(first, dtype=np.int64).reshape(-1, 1)
    expected = np.where(pairs.mask_NM, neighbours.types[packed.atoms][pairs.index_NM], first_N1)
    mixed = pairs.mask_NM | (np.arange(pairs.mask_NM.shape[1]) >= sum(pairs.widths[:-1]))
    assert np.array_equal(pairs.type_NM[mixed], expected[mixed])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_equals_slow_twin(system, layout):
    neighbours = find_neighbours([sample.structure for sample in systems(RCUT, 2)[system]], RCUT)
    packed = quiet_pack(neighbours, layout, 2)
    assert np.array_equal(np.sort(packed.atoms), np.flatnonzero(neighbours.types >= 0))
    check(packed, neighbours, layout, 2)


def test_some_centres_only():
    """Neighbours that are no centres follow them among the atoms, each once."""
    neighbours = find_neighbours([sample.structure for sample in systems(RCUT, 2)["several_frames"]], RCUT)
    centres = np.array([12, 1, 4])
    packed = pack(neighbours, LAYOUTS["roomy"], 2, centres)
    assert set(packed.atoms[:3]) == set(centres)
    assert len(np.unique(packed.atoms)) == len(packed.atoms)
    check(packed, neighbours, LAYOUTS["roomy"], 2)


def test_no_centres():
    neighbours = find_neighbours([sample.structure for sample in systems(RCUT, 2)["open"]], RCUT)
    packed = pack(neighbours, LAYOUTS["roomy"], 2, np.zeros(0, dtype=np.int64))
    assert packed.neighbours.disp_NM3.shape == (0, 0, 3)


@st.composite
def pair_lists(draw):
    """Any list of pairs, in any order, with distances that differ."""
    natoms = draw(st.integers(1, 6))
    types = np.array(draw(st.lists(st.integers(-1, 1), min_size=natoms, max_size=natoms)))
    real = [int(k) for k in np.flatnonzero(types >= 0)]
    each = st.tuples(st.sampled_from(real), st.sampled_from(real)) if real else st.nothing()
    found = draw(st.lists(each, max_size=25)) if real else []
    order = draw(st.permutations(range(len(found))))
    dist = 0.5 + 0.11 * np.array(order, dtype=np.float64)
    i, j = (np.array([pair[k] for pair in found], dtype=np.int64) for k in (0, 1))
    disp = dist[:, None] * np.array([[0.0, 0.6, 0.8]])
    return PairList(i, j, disp, dist, types, np.arange(natoms) // 4, 2, np.zeros((natoms, 3)))


@given(pair_lists(), st.sampled_from([(1, 1), (2, 0), (0, 3), (4, 4), (30, 30)]), st.booleans())
def test_any_pairs(neighbours, sel, mixed):
    layout = Layout(RCUT, sel[:1] if mixed and sel[0] else sel, mixed=mixed and sel[0] > 0)
    check(quiet_pack(neighbours, layout, 2), neighbours, layout, 2)


hidden_types = st.sampled_from([(), ((0, 1),), ((0, 0), (1, 1))])
leaves = st.one_of(
    st.builds(
        Layout,
        st.sampled_from([1.5, 2.0, RCUT]),
        st.sampled_from([(1, 1), (2, 0), (0, 3), (3, 1), (30, 30)]),
        excluded=hidden_types,
    ),
    st.builds(
        Layout,
        st.sampled_from([1.5, 2.0, RCUT]),
        st.sampled_from([(1,), (2,), (5,), (30,)]),
        mixed=st.just(True),
        excluded=hidden_types,
        needs_neighbour_features=st.booleans(),
    ),
)
"""Layouts of descriptors: with sections, or with one mixed row."""
members = st.one_of(leaves, st.builds(unite_layouts, st.lists(leaves, min_size=2, max_size=2), hidden_types))
"""Layouts of the members of a combination, hybrids among them."""


def slow_cut(neighbours, outer, inner, centre):
    """For each section of `inner` the neighbours of one centre that are left of a list that was packed for `outer`.

    The list has lost all but the nearest sum(sel) of each row. A pair of types that only `inner` excludes keeps its
    slot, and so does each excluded one where messages are passed.
    """
    types, own = neighbours.types, np.flatnonzero((neighbours.i == centre) & (neighbours.dist <= outer.rcut))
    nearest = own[np.argsort(neighbours.dist[own])][: sum(outer.sel)]

    def shown(found, layout):
        hidden = {frozenset(pair) for pair in layout.excluded}
        return [
            p
            for p in found
            if frozenset((types[centre], types[neighbours.j[p]])) not in hidden and neighbours.dist[p] <= layout.rcut
        ]

    seen = shown(nearest, outer)
    sections = [
        shown([p for p in seen if types[neighbours.j[p]] == kind][:most], inner)
        for kind, most in enumerate(inner.typed if inner.mixed else inner.sel)
    ]
    if not inner.mixed:
        return sections
    row = (nearest if outer.needs_neighbour_features else seen)[: inner.sel[0]]
    return [*sections, shown(shown(row, outer), inner)]


@settings(max_examples=300)
@given(pair_lists(), st.lists(members, min_size=1, max_size=3), hidden_types)
def test_what_is_cut_from_a_list_for_all_is_what_is_packed_for_each(neighbours, layouts, excluded):
    """`cut` gives each member what it would get from a list of its own, but for what the common one has lost."""
    outer = unite_layouts(layouts, excluded)
    packed = quiet_pack(neighbours, outer, 2)
    for inner in layouts:
        pairs = cut_neighbours(packed.neighbours, outer, inner, xp=plain)
        check_types(replace(packed, neighbours=pairs), neighbours, inner)
        assert len(pairs.widths) == len(inner.sections)
        for name in ("disp_NM3", "mask_NM", "index_NM"):
            assert getattr(pairs, name).shape[1] == sum(pairs.widths), name
        assert not pairs.index_NM[~pairs.mask_NM].any()
        lengths = np.linalg.norm(pairs.disp_NM3[~pairs.mask_NM], axis=1)
        assert np.all(lengths == 2.0 * inner.rcut)
        for row, centre in enumerate(packed.atoms[: len(pairs.type_N)]):
            expected = slow_cut(neighbours, outer, inner, centre)
            fits = np.count_nonzero(neighbours.i == centre) <= min(inner.sections)
            if fits and set(excluded) <= set(inner.excluded):
                assert expected == slow_rows(neighbours, inner, centre)
            for (start, stop), section in zip(spans(pairs.widths), expected, strict=True):
                own = start + np.flatnonzero(pairs.mask_NM[row, start:stop])
                found = sort_rows(pairs.disp_NM3[row, own], packed.atoms[pairs.index_NM[row, own]])
                assert np.array_equal(found, sort_rows(neighbours.disp[section], neighbours.j[section]))


def test_as_many_rows_as_do_not_fit_into_two_bytes():
    """Where the order in a section is of no account, rows and sections are sorted by a number of 16 bits if it fits."""
    natoms = 2**15 + 4  # times two sections
    rng = np.random.default_rng(0)
    i, types = rng.permutation(np.tile(np.arange(natoms), 2)), rng.integers(0, 2, natoms)
    j, dist = (i + rng.choice([1, 3], 2 * natoms)) % natoms, rng.uniform(1.0, 2.0, 2 * natoms)
    disp = dist[:, None] * np.array([[0.0, 0.6, 0.8]])
    neighbours = PairList(i, j, disp, dist, types, np.zeros(natoms, dtype=np.int64), 1, np.zeros((natoms, 3)))
    packed = pack(neighbours, Layout(RCUT, (3, 3)), 2, ordered=False)
    assert packed.neighbours.widths == (2, 2)
    rows, columns = np.nonzero(packed.neighbours.mask_NM)
    by_size = np.argsort(packed.neighbours.disp_NM3[rows, columns, 2])
    expected = np.argsort(dist)
    assert np.array_equal(packed.neighbours.disp_NM3[rows, columns][by_size], disp[expected])
    assert np.array_equal(packed.atoms[rows][by_size], i[expected])
    assert np.array_equal(packed.atoms[packed.neighbours.index_NM[rows, columns]][by_size], j[expected])
    assert np.array_equal(columns[by_size] // 2, types[j[expected]])


@pytest.mark.parametrize(
    ("sel", "told"), [((40, 40), None), ((3, 2), "sel = "), ((40, 1), r"sel = \[40, \d+\] would hold")]
)
def test_overflow_is_told(sel, told):
    neighbours = find_neighbours([sample.structure for sample in systems(RCUT, 2)["triclinic_small"]], RCUT)
    expectation = pytest.warns(SelWarning, match=told) if told else contextlib.nullcontext()
    with expectation:
        pack(neighbours, Layout(RCUT, sel), 2)


def test_recommended_sel_is_enough():
    neighbours = find_neighbours([sample.structure for sample in systems(RCUT, 2)["triclinic_small"]], RCUT)
    with pytest.warns(SelWarning) as caught:
        pack(neighbours, Layout(RCUT, (3, 2)), 2)
    assert len(caught) == 1
    numbers = str(caught[0].message).rpartition("sel = [")[2].partition("]")[0]
    pack(neighbours, Layout(RCUT, tuple(int(n) for n in numbers.split(", "))), 2)

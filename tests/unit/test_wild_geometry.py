"""Random cells and positions that nobody means: the result of a sum over all images, or an error that says why."""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import options, require

from deepmd import DeepPot
from deepmd.adapters.numpy.evaluate import evaluator
from deepmd.array_model.errors import InputError
from deepmd.data import search
from deepmd.data.limits import FARTHEST, FLATTEST, MOST_NEIGHBOURS
from deepmd.data.neighbours import PairList, Structure
from deepmd.data.packing import pack
from deepmd.host import plain
from deepmd.io import load_model
from deepmd.io.model_file import ModelFile
from deepmd.plan.plans import direct_plan

MODEL = Path(__file__).parent.parent / "golden/se_e2_a/model.dp"
RCUT = 4.0
BACKENDS = {"numpy": (70, 2000), "torch": (20, 200), "tf": (20, 200)}
"""Structures drawn in every run, and in the slow one."""

KINDS = ("ordinary", "flat", "tiny", "huge", "skewed", "long and thin", "open")


def drawn(seed: int) -> Structure:
    """A cell of one of `KINDS` with atoms near each other, some moved by images; in an open boundary anywhere."""
    rng = np.random.default_rng(seed)
    kind, atoms = KINDS[seed % len(KINDS)], rng.integers(1, 7)
    cell = rng.normal(size=(3, 3)) * rng.uniform(2.0, 8.0)
    if kind == "flat":
        cell[2] = rng.integers(-2, 3, 2) @ cell[:2] + cell[2] * 10 ** rng.uniform(-5, -0.3)
    if kind == "tiny":
        cell *= 10 ** rng.uniform(-3, -0.3)
    if kind == "huge":
        cell *= 10 ** rng.uniform(1, 12)
    if kind == "skewed":
        shear = 10 ** rng.integers(1, 6)
        cell = (np.eye(3) + np.triu(rng.integers(-shear, shear, (3, 3)), 1))[rng.permutation(3)] @ cell
    if kind == "long and thin":
        cell *= 10 ** rng.uniform(-2, 4, (3, 1))
    cell[0] *= rng.choice([-1.0, 1.0])  # either handedness
    coord = rng.normal(size=(atoms, 3)) * rng.uniform(0.7, 4.0)
    away = (
        (rng.random(atoms) < 0.4)[:, None]
        * rng.normal(size=(atoms, 3))
        * 10 ** rng.uniform(0, rng.choice([3, 7, 12]), (atoms, 1))
    )
    coord += away if kind == "open" else np.round(away @ np.linalg.inv(cell)) @ cell
    return Structure(coord, None if kind == "open" else cell, rng.integers(0, 2, atoms), f"seed {seed}")


# -- the definition ---------------------------------------------------------------------------------------------------


def summed_images(structure: Structure) -> PairList | str:
    """All pairs within the cutoff, in exact arithmetic; or the error that is due."""
    coord, cell = structure.coord, structure.cell
    if cell is not None and abs(np.linalg.det(cell / np.abs(cell).max(axis=1, keepdims=True))) < FLATTEST:
        return "no volume"
    if not np.all(np.abs(coord) < FARTHEST):
        return "far"
    atoms, pairs = range(len(coord)), []
    for i in atoms:
        own = 0
        for j in atoms:
            steps = np.zeros((1, 3)) if cell is None else steps_of(coord[j] - coord[i], cell, MOST_NEIGHBOURS - own)
            if steps is None:
                return "many"
            disp = exact_sum(coord[j], coord[i], steps, np.zeros((3, 3)) if cell is None else cell)
            near = (np.linalg.norm(disp, axis=1) <= RCUT) & ((i != j) | steps.any(axis=1))
            own += np.count_nonzero(near)
            pairs += [(i, j, d) for d in disp[near]]
        if own > MOST_NEIGHBOURS:
            return "many"
    first, second, disp = zip(*pairs, strict=True) if pairs else ((), (), np.zeros((0, 3)))
    i, j, disp = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64), np.array(disp)
    return PairList(i, j, disp, np.linalg.norm(disp, axis=1), structure.types, 0 * structure.types, 1, coord)


def steps_of(disp: np.ndarray, cell: np.ndarray, most: int) -> np.ndarray | None:
    """Numbers n for which disp + n cell may be within the cutoff, by directions of a triangular frame.

    None if more than `most`.
    """
    order = np.argsort(np.linalg.norm(cell, axis=1))
    frame, triangle = np.linalg.qr(cell[order].T)
    low, start, radius = triangle.T, disp @ frame, RCUT + 0.01

    def span(x: float, step: float) -> np.ndarray:
        ends = sorted(((-radius - x) / step, (radius - x) / step))
        numbers = np.arange(np.ceil(ends[0]), np.floor(ends[1]) + 1.0)
        return numbers[np.argsort(np.abs(x + numbers * step))]  # the middle first, where the most are

    found, inside = [], 0
    for c in span(start[2], low[2, 2]):
        for b in span(start[1] + c * low[2, 1], low[1, 1]):
            x = start[0] + c * low[2, 0] + b * low[1, 0]
            a = span(x, low[0, 0])
            found.append(np.stack([a, 0.0 * a + b, 0.0 * a + c], axis=1))
            square = (
                (x + a * low[0, 0]) ** 2
                + (start[1] + c * low[2, 1] + b * low[1, 1]) ** 2
                + (start[2] + c * low[2, 2]) ** 2
            )
            inside += np.count_nonzero(square < (RCUT - 0.01) ** 2)
            if inside > most + 1:
                return None
    return np.concatenate([np.zeros((0, 3)), *found])[:, np.argsort(order)]


def exact_sum(to: np.ndarray, origin: np.ndarray, steps: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """(to - origin) + steps cell with integers, rounded once."""
    numbers = np.array([to, origin, *cell])
    ratios = [float(x).as_integer_ratio() for x in numbers.ravel()]
    unit = max(below for _, below in ratios)
    whole = np.array([above * (unit // below) for above, below in ratios], dtype=object).reshape(5, 3)
    n = np.array([[int(x) for x in row] for row in steps], dtype=object).reshape(-1, 3)
    return ((whole[0] - whole[1] + n @ whole[2:]) / unit).astype(np.float64)


# -- energies and forces
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def roomy(monkeypatch):
    """A golden model with slots for every neighbour: which of equally far ones stay would be free."""
    content = load_model(MODEL)
    descriptor = replace(options(content.model).descriptor, sel=(MOST_NEIGHBOURS, MOST_NEIGHBOURS))
    statistics = {
        name: np.repeat(content.params["descriptor"][name][:, :1], 2 * MOST_NEIGHBOURS, axis=1)
        for name in ("davg", "dstd")
    }
    params = {**content.params, "descriptor": {**content.params["descriptor"], **statistics}}
    content = replace(content, model=replace(options(content.model), descriptor=descriptor), params=params)
    monkeypatch.setattr(
        "deepmd.infer.deep_pot.load_model", lambda path: content
    )  # no file of so few parameters has so many slots
    return content


def shaken(neighbours: PairList, by: float, copies: int) -> PairList:
    """A batch of the frame and of copies whose displacements are wrong by up to so much (Angstrom)."""
    atoms, frames = len(neighbours.types), copies + 1
    noise = by * np.random.default_rng(0).uniform(-1.0, 1.0, (frames, *neighbours.disp.shape))
    noise[0] = 0.0
    disp = (neighbours.disp + noise).reshape(-1, 3)
    i, j = ((number + atoms * np.arange(frames)[:, None]).ravel() for number in (neighbours.i, neighbours.j))
    types, frame = np.tile(neighbours.types, frames), np.repeat(np.arange(frames), atoms)
    return PairList(
        i, j, disp, np.linalg.norm(disp, axis=1), types, frame, frames, np.tile(neighbours.in_cell, (frames, 1))
    )


def check_evaluations(content: ModelFile, backend: str, seeds: range) -> Counter:
    model = content.model
    evaluate = evaluator(model, content.params, direct_plan(model))
    potential = DeepPot(MODEL, backend=backend, evaluation="direct")

    def reference(neighbours: PairList) -> tuple[np.ndarray, np.ndarray]:
        packed = pack(neighbours, model.layout(), model.ntypes)
        found = evaluate(
            packed.neighbours, {}, len(packed.atoms), neighbours.num_frames, frozenset({"energy", "force"})
        )
        return found["energy"].reshape(-1, 1), found["force"].reshape(-1, 3)[np.argsort(packed.atoms)].reshape(
            neighbours.num_frames, -1, 3
        )

    outcomes: Counter = Counter()
    slowest = 0.0
    for seed in seeds:
        structure = drawn(seed)
        expected = summed_images(structure)
        arguments = structure.coord[None], None if structure.cell is None else structure.cell[None], structure.types
        if isinstance(expected, str):
            text = {
                "far": "atom [0-9]+ is at",
                "no volume": "has no volume",
                "many": "has (at least )?[0-9.e+]+ neighbours within",
            }[expected]
            start = time.perf_counter()
            with pytest.raises(InputError, match=f"frame 0.*{text}"):
                potential.eval(*arguments)
            slowest = max(slowest, time.perf_counter() - start)
            outcomes[expected] += 1
            continue
        start = time.perf_counter()
        energy, force, _ = potential.eval(*arguments)
        slowest = max(slowest, time.perf_counter() - start)
        # displacements are known to the spacing of numbers at these positions; the model says what that makes of the
        # results
        energies, forces = reference(shaken(expected, 8.0 * np.spacing(np.abs(structure.coord).max()), copies=2))
        scale = max(1.0, np.abs(forces[0]).max())
        for got, values in ((energy, energies), (force[0], forces)):
            slope = np.abs(values[1:] - values[0]).max()
            np.testing.assert_allclose(
                got.ravel(), values[0].ravel(), rtol=1e-10, atol=1e-10 * scale + 4.0 * slope, err_msg=structure.where
            )
        outcomes["equal"] += 1
    assert slowest < 20.0
    return outcomes


@pytest.mark.parametrize("backend", BACKENDS)
def test_some_wild_structures(roomy, backend):
    require({"tf": "tensorflow"}.get(backend, backend))
    outcomes = check_evaluations(roomy, backend, range(BACKENDS[backend][0]))
    assert outcomes["equal"] > sum(outcomes.values()) // 3  # errors are no way out


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_many_wild_structures(roomy, backend):
    require({"tf": "tensorflow"}.get(backend, backend))
    outcomes = check_evaluations(roomy, backend, range(1000, 1000 + BACKENDS[backend][1]))
    assert outcomes["equal"] > sum(outcomes.values()) // 3


# -- the search of exported files
# -----------------------------------------------------------------------------------------


def searched(coord, types, frame, cell, periodic, *, xp):
    """What an exported file does with one frame: a table of displacements and of what is in it."""
    cell = cell if periodic else search.enclosing_cell(coord, RCUT, xp=xp)
    found = search.candidates(coord, types, frame, cell, RCUT, float(periodic), xp=xp)
    return (*found.disp, found.index_NC, found.mask_NC)


def in_trace():
    torch = require("torch")
    from deepmd.adapters.torch.namespace import xp

    made = {}
    for periodic in (False, True):
        example = [
            torch.from_numpy(each)
            for each in arguments_of(Structure(np.eye(3), 9.0 * np.eye(3), np.zeros(3, dtype=np.int64)))
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated")
            made[periodic] = torch.jit.trace(
                lambda *each, periodic=periodic: searched(*each, periodic, xp=xp), example, check_trace=False
            )
    return lambda periodic, *each: [
        out.numpy() for out in made[periodic](*(torch.from_numpy(x) for x in each))
    ], torch.jit.Error


def in_graph():
    tf = require("tensorflow")
    from deepmd.adapters.tf.namespace import xp

    made, kinds = {}, ((tf.float64, [None, 3]), (tf.int64, [None]), (tf.int64, [None]), (tf.float64, [None, 3, 3]))
    for periodic in (False, True):
        with tf.Graph().as_default() as graph:
            inputs = [tf.compat.v1.placeholder(dtype, sizes) for dtype, sizes in kinds]
            made[periodic] = tf.compat.v1.Session(graph=graph), inputs, searched(*inputs, periodic, xp=xp)

    def run(periodic, *each):
        session, inputs, outputs = made[periodic]
        return session.run(outputs, dict(zip(inputs, each, strict=True)))

    return run, tf.errors.InvalidArgumentError


SEARCHES = {
    "numpy": (lambda: (lambda periodic, *each: searched(*each, periodic, xp=plain), InputError), 150, 2000),
    "torch trace": (in_trace, 20, 200),
    "tf graph": (in_graph, 20, 200),
}


def arguments_of(structure: Structure) -> tuple[np.ndarray, ...]:
    types = structure.types.astype(np.int64)
    return (
        structure.coord,
        types,
        np.zeros_like(types),
        np.zeros((1, 3, 3)) if structure.cell is None else structure.cell[None],
    )


def check_searches(name: str, seeds: range) -> Counter:
    run, refusal = SEARCHES[name][0]()
    outcomes: Counter = Counter()
    for seed in seeds:
        structure = drawn(seed)
        start, refused = time.perf_counter(), ""
        try:
            *disp, index, mask = run(structure.cell is not None, *arguments_of(structure))
        except refusal as error:
            refused = str(error)
        assert time.perf_counter() - start < 20.0
        if refused:
            assert re.search("float64|no volume|too many|neighbours|rounding", refused), refused
            outcomes["refused"] += 1
            continue
        expected = summed_images(structure)
        assert not isinstance(expected, str), f"seed {seed}: {expected}"
        size, flatness = np.abs(structure.coord).max(), 1.0
        if structure.cell is not None:
            lengths = np.linalg.norm(structure.cell, axis=1)
            size, flatness = max(size, lengths.max()), abs(np.linalg.det(structure.cell)) / np.prod(lengths)
        tolerance = 8.0 * np.spacing(size / flatness)
        row, column = np.nonzero(mask)
        got = np.column_stack([row, index[row, column], np.stack([x[row, column] for x in disp], axis=1)])
        want = np.column_stack([expected.i, expected.j, expected.disp])
        near = [pairs[np.linalg.norm(pairs[:, 2:], axis=1) < RCUT - tolerance] for pairs in (got, want)]
        assert_same_pairs(near[0], near[1], tolerance)
        outcomes["equal"] += 1
    return outcomes


def assert_same_pairs(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Whatever the order of the neighbours of an atom."""
    assert len(got) == len(want)
    for pair in np.unique(want[:, :2], axis=0):
        one, other = (pairs[(pairs[:, :2] == pair).all(axis=1), 2:] for pairs in (got, want))
        distance = np.linalg.norm(one[:, None] - other, axis=2)
        assert len(one) == len(other)
        assert distance.min(axis=0).max() <= 2.0 * tolerance


@pytest.mark.parametrize("name", SEARCHES)
def test_exported_search_finds_the_same_or_refuses(name):
    outcomes = check_searches(name, range(SEARCHES[name][1]))
    assert outcomes["equal"] > sum(outcomes.values()) // 4


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_many_exported_searches(name):
    outcomes = check_searches(name, range(1000, 1000 + SEARCHES[name][2]))
    assert outcomes["equal"] > sum(outcomes.values()) // 4

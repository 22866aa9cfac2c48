"""Every conversion between the formats for every kind of model.

The programs inside native files give what DeePMD-kit has computed.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from golden.golden_cases import (
    BOUNDARIES,
    DIPOLE,
    FILES,
    KINDS,
    LONG_WALK,
    STORED,
    WALK,
    content_of,
    sample_of,
    stored_in,
)
from tolerances import assert_close
from unit.native_inputs import session_of

from deepmd import DeepPot
from deepmd.array_model.models.linear import LinearModel
from deepmd.array_model.tree import flatten
from deepmd.data.neighbours import Structure
from deepmd.io import convert, load_model, save_model
from deepmd.io.model_file import ModelFile
from deepmd.testing.samples import Sample

# torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"),
    pytest.mark.filterwarnings("ignore::deepmd.infer.inputs.OrderWarning"),
]


ROUND = [".dp", ".pth", ".pb", ".savedmodel", ".yaml", ".dp"]
"""A way through every format that all models can be written in."""

ENERGY = {name: name for name in ("energy", "force", "virial", "atom_energy", "atom_virial")}
IN_SAVEDMODEL = {
    "energy": "energy_redu",
    "force": "energy_derv_r",
    "virial": "energy_derv_c_redu",
    "atom_energy": "energy",
    "atom_virial": "energy_derv_c",
}
TENSOR = {"force": "force", "virial": "virial", "atom_virial": "atom_virial"}


@pytest.mark.parametrize("way", [WALK, LONG_WALK])
def test_a_way_has_every_ordered_pair_once(way):
    steps = list(pairwise(way))
    formats = set(way)
    assert sorted(steps) == sorted((a, b) for a in formats for b in formats if a != b)
    assert way[0] == way[-1]


def assert_same(content, wanted, what):
    """The same model, bit by bit."""
    assert (content.model, content.definition, content.min_nbor_dist) == (
        wanted.model,
        wanted.definition,
        wanted.min_nbor_dist,
    ), what
    leaves, expected = flatten(content.params), flatten(wanted.params)
    assert leaves.keys() == expected.keys(), what
    for name, leaf in expected.items():
        assert np.asarray(leaves[name]).dtype == np.asarray(leaf).dtype, f"{what}: {name}"
        assert np.asarray(leaves[name]).tobytes() == np.asarray(leaf).tobytes(), f"{what}: {name}"


def told(sample):
    """What a model is told besides the geometry."""
    return {name: value for name, value in sample.conditions.items() if value.size}


def run_pth(path, sample):
    """Results of TorchScript."""
    torch = pytest.importorskip("torch")
    structure = sample.structure
    given = {"coord": structure.coord[None], "atype": structure.types[None].astype(np.int64)}
    given |= {} if structure.cell is None else {"box": structure.cell.reshape(1, 9)}
    given |= {name: value[None] for name, value in told(sample).items()}
    out = torch.jit.load(str(path))(
        **{name: torch.from_numpy(value) for name, value in given.items()}, do_atomic_virial=True
    )
    return {name: value.detach().numpy() for name, value in out.items()}


@lru_cache(maxsize=1)
def session(path):
    """A session with the graph of a `.pb`; importing it takes a while."""
    return session_of(path)


def run_pb(path, sample):
    """Results of a graph, the component of a vector quantity behind the atom as elsewhere."""
    structure, running = sample.structure, session(path)
    periodic, natoms = structure.cell is not None, len(structure.types)
    feed = {
        "t_coord": structure.coord.reshape(1, -1),
        "t_type": structure.types[None],
        "t_natoms": [natoms, natoms, 0, 0],
    }
    feed |= {
        "t_box": (structure.cell if periodic else np.zeros((3, 3))).reshape(9),
        "t_mesh": [0] * (6 if periodic else 1),
    }
    feed |= {f"t_{name}": value.reshape(1, -1) for name, value in told(sample).items()}
    names = [node.name for node in running.graph.as_graph_def().node if node.name.startswith("o_")]
    out = running.run(
        {name.removeprefix("o_"): f"{name}:0" for name in names},
        {f"{name}:0": value for name, value in feed.items()},
    )
    if "dipole" in out:
        out |= {name: np.swapaxes(out[name].reshape(1, 3, natoms, -1), 1, 2) for name in ("force", "atom_virial")}
    return out


@lru_cache(maxsize=1)
def loaded(path):
    """Return a SavedModel; reading it takes seconds."""
    return pytest.importorskip("tensorflow").saved_model.load(str(path))


def run_savedmodel(path, sample):
    """Results of the functions of a SavedModel."""
    tf = pytest.importorskip("tensorflow")
    structure, natoms = sample.structure, len(sample.structure.types)
    box = np.zeros((1, 0, 0)) if structure.cell is None else structure.cell[None]
    given = [
        structure.coord[None],
        structure.types[None].astype(np.int32),
        box,
        sample.conditions.get("fparam", np.zeros(0))[None],
        sample.conditions.get("aparam", np.zeros((natoms, 0)))[None],
    ]
    given += [sample.conditions["charge_spin"][None]] if "charge_spin" in sample.conditions else []
    out = loaded(path).call_atomic_virial(*map(tf.constant, given))
    return {name: out[theirs].numpy() for name, theirs in IN_SAVEDMODEL.items()}


def names_in_file(case, suffix):
    """What the results of a case are called in native files: {name: our name}."""
    if case not in STORED:
        return ENERGY
    if case in ("dipole", "polar"):
        return {f"global_{case}": case, case: f"atom_{case}", **(TENSOR if case == "dipole" else {})}
    total = content_of(case).model.output.label if case == "property" and suffix == ".pth" else case
    return {total: case, f"atom_{total}": f"atom_{case}"}


def assert_program(path, case):
    """What a native file computes by itself is what DeePMD-kit has computed."""
    stored = stored_in(case)
    for boundary in BOUNDARIES:
        sample, expected = sample_of(stored, boundary)
        results = PROGRAMS[path.suffix](path, sample)
        for theirs, ours in names_in_file(case, path.suffix).items():
            key, shape = STORED.get(case, {}).get(ours, (ours, expected[ours].shape if ours in expected else None))
            assert_close(
                results[theirs].reshape(shape),
                expected[key].reshape(shape),
                "golden",
                floor=0.0,
                what=f"{path.suffix} {boundary}: {theirs}",
            )


PROGRAMS = {".pth": run_pth, ".pb": run_pb, ".savedmodel": run_savedmodel}


def go(folder, case, way):
    """Convert along a way.

    Every file holds the same model, and the last program of each kind computes what it should.
    """
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    wanted = content_of(case)
    path = folder / f"0{way[0]}"
    save_model(path, wanted)
    written = {}
    for number, suffix in enumerate(way[1:], start=1):
        written[suffix] = folder / f"{number}{suffix}"
        convert(path, written[suffix])
        path = written[suffix]
        assert_same(load_model(path), wanted, f"{way[number - 1]} to {suffix}")
    for suffix in PROGRAMS.keys() & written.keys():
        assert_program(written[suffix], case)


@pytest.mark.parametrize(("case", "suffix"), FILES)
def test_native_files_keep_the_model_and_compute_it(file_of, case, suffix):
    path = file_of(case, suffix)
    assert_same(load_model(path), content_of(case), suffix)
    assert_program(path, case)


def test_through_every_format(tmp_path):
    """Any kind will do, because what is converted is what the reader returns; tables are written soonest."""
    go(tmp_path, "pairtab", ROUND)


@pytest.mark.slow
class TestWays:
    @pytest.mark.parametrize("case", [name for number, name in enumerate(KINDS) if number % 2 == 0])
    def test_every_conversion(self, tmp_path, case):
        go(tmp_path, case, KINDS[case])


@pytest.mark.slow
class TestMoreWays:
    """A class of its own, which runs beside the other."""

    @pytest.mark.parametrize("case", [name for number, name in enumerate(KINDS) if number % 2])
    def test_every_conversion(self, tmp_path, case):
        go(tmp_path, case, KINDS[case])


@pytest.mark.parametrize(
    ("case", "suffix"),
    [
        pytest.param("zbl_tables", ".pb", marks=pytest.mark.slow),
        ("zbl_tables", ".pth"),
        ("zbl", ".pb"),
        ("zbl", ".pth"),
    ],
)
def test_an_atom_whose_neighbours_are_all_excluded(file_of, case, suffix):
    """TorchScript once took two tiny constants for one, so that such an atom got its energy from the table."""
    sample = Sample(Structure(np.diag([1.0, 0.0, 0.0])[:2], None, np.array([1, 1])), {})
    structure = sample.structure
    *_, expected, _ = DeepPot(file_of(case, ".dp")).eval(structure.coord[None], None, structure.types, atomic=True)
    found = PROGRAMS[suffix](file_of(case, suffix), sample)["atom_energy"]
    assert_close(found.reshape(-1), expected.reshape(-1), "golden", floor=0.0)


@pytest.mark.parametrize("run", [run_pth, pytest.param(run_pb, marks=pytest.mark.slow)])
def test_models_that_pass_messages_can_be_added(tmp_path, run):
    """Each takes its lists from one that suits all."""
    members = [content_of(case) for case in ("dpa2", "pairtab", "se_e2_a", "dpa3")]
    (type_map,) = {member.model.type_map for member in members}
    model = LinearModel(type_map, tuple(member.model for member in members), weights="sum")
    params = {"models": [member.params for member in members], "out_bias": np.zeros((1, len(type_map), 1))}
    path = tmp_path / f"model.{run.__name__.removeprefix('run_')}"
    save_model(path, ModelFile(model, {**params, "out_std": params["out_bias"] + 1.0}))
    for number, member in enumerate(members):
        save_model(tmp_path / f"{number}.dp", member)
    sample, _ = sample_of(stored_in("dpa2"), "pbc")
    structure = sample.structure
    each = [DeepPot(tmp_path / f"{number}.dp") for number in range(len(members))]
    alone = [
        dict(
            zip(
                ENERGY, one.eval(structure.coord[None], structure.cell[None], structure.types, atomic=True), strict=True
            )
        )
        for one in each
    ]
    results = run(path, sample)
    for name in ENERGY:
        expected = sum(own[name] for own in alone)
        assert_close(results[name].reshape(expected.shape), expected, "golden", floor=0.0, what=name)


def test_every_stored_quantity_is_compared():
    assert set(DIPOLE) == set(names_in_file("dipole", ".pth").values())

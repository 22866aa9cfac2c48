"""`.pth` and `.pb`: run in a process without this package against stored results, and read back without loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import differences, mark_slow, options
from tolerances import TOLERANCES, assert_close
from unit.native_inputs import GOLDEN, KEYS, extended, golden, lower, random_frames, session_of, whole

from deepmd import DeepPot
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.io.formats import convert, load_model, save_model
from deepmd.plan.expansions import choose_plan
from deepmd.plan.plans import map_tables

CASES = sorted(path.name for path in GOLDEN.glob("se_e2_a*"))
"""Stored cases, in slow tests. Models of quick tests say more and have the numbers of two of them (`SOURCE`)."""
PACKAGES = {".pth": "torch", ".pb": "tensorflow"}

# torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")


@pytest.fixture(params=PACKAGES)
def suffix(request):
    pytest.importorskip(PACKAGES[request.param])
    return request.param


# -- execution in a process of its own --------------------------------------------------------------------------------

RUN_PTH = """
import json, sys
import numpy as np, torch

torch.set_num_threads(1)

folder = sys.argv[1]
arrays, out, modules, called = np.load(f"{folder}/inputs.npz"), {}, {}, set()
for job in json.load(open(f"{folder}/jobs.json")):
    name = job["model"]
    if name not in modules:
        modules[name] = torch.jit.load(f"{folder}/{name}.pth")
    given = {key: torch.from_numpy(arrays[f"{job['name']}|{key}"]) for key in job["keys"]}
    kind = (name, "nlist" in given)
    for _ in range(1 if kind in called else 3):  # the executor optimises after the first calls
        if "nlist" in given:
            names = ("coord", "atype", "nlist", "mapping", "fparam", "aparam")
            result = modules[name].forward_lower(*(given.get(key) for key in names), True)
        else:
            names = ("coord", "atype", "box", "fparam", "aparam")
            result = modules[name](**{key: given.get(key) for key in names}, do_atomic_virial=True, charge_spin=None)
    called.add(kind)
    out.update({f"{job['name']}|{key}": value.numpy() for key, value in result.items()})
assert "deepmd" not in sys.modules
np.savez(f"{folder}/pth.npz", **out)
"""

RUN_PB = """
import json, sys
import numpy as np, tensorflow as tf

folder = sys.argv[1]
arrays, out, sessions = np.load(f"{folder}/inputs.npz"), {}, {}
for job in json.load(open(f"{folder}/jobs.json")):
    name = job["model"]
    if name not in sessions:
        graph = tf.Graph()
        definition = tf.compat.v1.GraphDef.FromString(open(f"{folder}/{name}.pb", "rb").read())
        with graph.as_default():
            tf.compat.v1.import_graph_def(definition, name="")
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = name == "compressed"  # its graph is the longest
        sessions[name] = tf.compat.v1.Session(graph=graph, config=config)
    given = {key: arrays[f"{job['name']}|{key}"] for key in job["keys"]}
    if "nlist" in given:
        continue
    frames, atoms = given["atype"].shape
    for flat in (False, True):
        rows = (-1,) if flat else (frames, -1)
        feed = {"t_coord:0": given["coord"].reshape(rows), "t_type:0": given["atype"].reshape(rows)}
        feed["t_natoms:0"] = [atoms, atoms, 0, 0]
        feed["t_box:0"] = given.get("box", np.zeros((frames, 9))).reshape(-1)
        feed["t_mesh:0"] = [0] * ((7 if flat else 6) if "box" in given else (1 if flat else 0))
        feed.update({f"t_{key}:0": given[key].reshape(rows) for key in ("fparam", "aparam") if key in given})
        keys = ("energy", "force", "virial", "atom_energy", "atom_virial", "descriptor")
        result = sessions[name].run({key: f"o_{key}:0" for key in keys}, feed)
        out.update({f"{job['name']}|{key}": value for key, value in result.items()})
assert "deepmd" not in sys.modules
np.savez(f"{folder}/pb.npz", **out)
"""


def near_frame() -> dict[str, np.ndarray]:
    """The first stored frame with two atoms nearer than expansions reach."""
    frame = whole("se_e2_a", "pbc")
    coord = frame["coord"].reshape(1, -1, 3).copy()
    coord[0, 1] = coord[0, 0] + [0.2, 0.0, 0.1]
    return {**frame, "coord": coord}


def first_frame(size: str, boundary: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Coordinates, types and cell of the first of some random frames."""
    inputs = random_frames(*SIZES[size], boundary == "pbc")
    return inputs["coord"][0], inputs["atype"][0], inputs["box"][0] if "box" in inputs else None


SIZES = {"3 atoms, 1 frame": (1, 3), "7 atoms, 2 frames": (2, 7), "1 atom": (1, 1)}
QUICK, SLOW = ("with_default", "direct", "compressed"), (*CASES, "two_side_direct")
"""Models of quick tests and, evaluated by another process, of slow tests."""

STORED = ["with_default", "direct", *CASES]
"""Models whose results DeePMD-kit has computed."""

SIZED = ["compressed", "se_e2_a", "se_e2_a_two_side", "two_side_direct"]
NEAR = ["compressed", "se_e2_a"]


def jobs(models: tuple[str, ...]) -> dict[str, tuple[str, dict[str, np.ndarray]]]:
    """Model and inputs of all that the other process is to evaluate."""
    both, stored = ("pbc", "nopbc"), [model for model in STORED if model in models]
    out = {f"{name} {b}": (name, whole(case_of(name), b)) for name in stored for b in both}
    out.update({f"{name} {b} lower": (name, lower(case_of(name), b)) for name in stored for b in both})
    for case in (each for each in SIZED if each in models):
        out.update(
            {f"{case} {b} {size}": (case, random_frames(*SIZES[size], b == "pbc")) for b in both for size in SIZES}
        )
        out.update(
            {f"{case} {b} {size} lower": (case, extended(*first_frame(size, b))) for b in both for size in SIZES}
        )
    for case in (each for each in NEAR if each in models):
        near = near_frame()
        out[f"{case} near"] = (case, near)
        out[f"{case} near lower"] = (case, extended(near["coord"][0], near["atype"][0], near["box"].reshape(3, 3)))
    if "with_default" in models:
        data = whole("se_e2_a_fparam", "pbc")
        out["default fparam"] = ("with_default", {key: value for key, value in data.items() if key != "fparam"})
    return out


def with_default():
    """A model that knows the frame parameters of the stored result as its default, and the shortest distance."""
    content = load_model(GOLDEN / "se_e2_a_fparam" / "model.dp")
    default = tuple(float(value) for value in golden("se_e2_a_fparam", "pbc")["fparam"].ravel())
    return replace(
        content,
        model=replace(options(content.model), fitting=replace(options(content.model).fitting, default_fparam=default)),
        min_nbor_dist=0.875,
    )


def direct(case: str = "se_e2_a_float32"):
    """A model whose input asked for direct evaluation."""
    return replace(load_model(GOLDEN / case / "model.dp"), definition={"descriptor": {"evaluation": "direct"}})


def two_side_direct():
    return direct("se_e2_a_two_side")


def compressed():
    """A compressed model whose stored coefficients are not those of its nets, so that one sees what is evaluated."""
    content = load_model(GOLDEN / "se_e2_a_two_side" / "model.dp")
    plan, _ = choose_plan(content.model, content.params, None, stored=True)

    def scale(tables):
        return {
            name: [1.25 * leaf for leaf in each] if isinstance(each, list) else each for name, each in tables.items()
        }

    return replace(content, plan=map_tables(scale, plan))


MADE = {"with_default": with_default, "direct": direct, "compressed": compressed, "two_side_direct": two_side_direct}
SOURCE = {"with_default": "se_e2_a_fparam", "direct": "se_e2_a_float32"}


def case_of(name: str) -> str:
    """The stored case whose numbers a model gives."""
    return SOURCE.get(name, name)


def stored_model(name: str):
    return MADE[name]() if name in MADE else load_model(GOLDEN / name / "model.dp")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model's file in a format, written once, all files of a format in one folder: written(name, suffix)."""
    folder_of = cache(lambda suffix: tmp_path_factory.mktemp("native"))

    @cache
    def write(name, suffix):
        path = folder_of(suffix) / f"{name}{suffix}"
        save_model(path, stored_model(name))
        return path

    return write


@pytest.fixture(scope="module")
def results(written):
    """Results of a model's jobs by job and key for a suffix: results(suffix, model).

    The models of quick tests are evaluated once in one process, the others in another.
    """

    @cache
    def evaluated(suffix, models):
        (folder,) = {written(name, suffix).parent for name in models}
        table = jobs(models)
        np.savez(
            folder / "inputs.npz",
            **{f"{name}|{key}": value for name, (_, given) in table.items() for key, value in given.items()},
        )
        (folder / "jobs.json").write_text(
            json.dumps([{"name": n, "model": m, "keys": list(g)} for n, (m, g) in table.items()])
        )
        script = RUN_PTH if suffix == ".pth" else RUN_PB
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [sys.executable, "-c", script, str(folder)]
        ran = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return dict(np.load(folder / f"{suffix[1:]}.npz"))

    return lambda suffix, model: evaluated(suffix, QUICK if model in QUICK else SLOW)


def dtype_of(name: str) -> str:
    return "float32" if "float32" in case_of(name) else "float64"


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("name", mark_slow(STORED, [name for name in STORED if name in QUICK]))
def test_agrees_with_stored_results(results, suffix, name, boundary):
    got, want = results(suffix, name), golden(case_of(name), boundary)
    for key in (*KEYS, "descriptor") if suffix == ".pb" else KEYS:
        values = got[f"{name} {boundary}|{key}"].reshape(want[key].shape)
        assert_close(values, want[key], "golden", dtype_of(name), what=key)


def folded(results, model: str, job: str, owner: np.ndarray, natoms: int) -> dict[str, np.ndarray]:
    """Results of `forward_lower` with those of images added to their owners."""
    got = {
        key: results(".pth", model)[f"{model} {job} lower|{key}"][0]
        for key in ("energy", "extended_force", "virial", "atom_energy", "extended_virial")
    }
    for key, extended_key in (("force", "extended_force"), ("atom_virial", "extended_virial")):
        got[key] = np.zeros((natoms, got[extended_key].shape[1]))
        np.add.at(got[key], owner, got[extended_key])
    return got


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("name", mark_slow(STORED, [name for name in STORED if name in QUICK]))
def test_a_neighbour_list_with_skin_gives_the_same(results, name, boundary):
    pytest.importorskip("torch")
    case, want = case_of(name), golden(case_of(name), boundary)
    got = folded(results, name, boundary, lower(case, boundary)["mapping"][0], len(want["type"]))
    for key in KEYS:
        assert_close(got[key].reshape(want[key].shape), want[key], "golden", dtype_of(name), what=key)


def reference(tmp_path: Path, case: str, evaluation: str | None = None) -> DeepPot:
    save_model(tmp_path / "m.dp", stored_model(case))
    return DeepPot(tmp_path / "m.dp", evaluation=evaluation)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("case", mark_slow(SIZED, ["compressed"]))
def test_one_file_at_all_sizes(results, tmp_path, suffix, case, boundary, size):
    """Few and no atoms of a type, virtual atoms, several frames with cells of their own, no neighbours."""
    inputs = random_frames(*SIZES[size], boundary == "pbc")
    with reference(tmp_path, case, None if case == "compressed" else "direct") as potential:
        values = potential.eval(inputs["coord"], inputs.get("box"), inputs["atype"], atomic=True, mixed_type=True)
    for key, want in zip(KEYS, values, strict=True):
        assert_close(
            results(suffix, case)[f"{case} {boundary} {size}|{key}"].reshape(want.shape), want, "spectral", what=key
        )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("case", mark_slow(SIZED, ["compressed"]))
def test_a_neighbour_list_at_all_sizes(results, tmp_path, case, boundary, size):
    pytest.importorskip("torch")
    coord, types, cell = first_frame(size, boundary)
    with reference(tmp_path, case, None if case == "compressed" else "direct") as potential:
        values = potential.eval(coord[None], None if cell is None else cell[None], types, atomic=True)
    got = folded(results, case, f"{boundary} {size}", extended(coord, types, cell)["mapping"][0], len(types))
    for key, want in zip(KEYS, values, strict=True):
        assert_close(got[key].reshape(want[0].shape), want[0], "spectral", what=key)


def test_a_missing_frame_parameter_takes_its_default(results, suffix):
    want = golden("se_e2_a_fparam", "pbc")
    for key in KEYS:
        values = results(suffix, "with_default")[f"default fparam|{key}"].reshape(want[key].shape)
        assert_close(values, want[key], "golden", what=key)


def test_stored_coefficients_are_what_a_file_evaluates(results, suffix, tmp_path):
    """Those of the compressed file here are not those of its nets."""
    inputs = random_frames(2, 7, True)
    with reference(tmp_path, "compressed", "direct") as potential:
        energy = potential.eval(inputs["coord"], inputs["box"], inputs["atype"], mixed_type=True)[0]
    got = results(suffix, "compressed")["compressed pbc 7 atoms, 2 frames|energy"]
    difference = np.abs(got.reshape(energy.shape) - energy)
    assert difference.min() > 1e3 * TOLERANCES["float64"]["spectral"] * np.abs(energy).max()


@pytest.mark.parametrize("case", mark_slow(NEAR, ["compressed"]))
def test_nets_are_what_a_file_evaluates_outside_of_the_domain(results, suffix, tmp_path, case):
    """By a pair of atoms nearer than the expansions reach.

    Those of the compressed file here are not those of its nets.
    """
    near = near_frame()
    with reference(tmp_path, case, "direct") as potential:
        values = potential.eval(near["coord"], near["box"], near["atype"][0], atomic=True)
    for key, want in zip(KEYS, values, strict=True):
        assert_close(results(suffix, case)[f"{case} near|{key}"].reshape(want.shape), want, "spectral", what=key)
    if suffix == ".pth":
        owner = extended(near["coord"][0], near["atype"][0], near["box"].reshape(3, 3))["mapping"][0]
        got = folded(results, case, "near", owner, near["atype"].size)
        assert_close(got["force"], values[1][0], "spectral", what="force")


def names_of_arrays(path: Path) -> set[str]:
    """Paths of the arrays that the graph of a native file holds."""
    if path.suffix == ".pth":
        torch = pytest.importorskip("torch")
        return {
            name.removeprefix("core.").replace("__", "/")
            for name, _ in torch.jit.load(str(path)).named_buffers()
            if name.startswith("core.")
        }
    tf = pytest.importorskip("tensorflow")
    nodes = tf.compat.v1.GraphDef.FromString(path.read_bytes()).node
    return {node.name.removeprefix("param/") for node in nodes if node.name.startswith("param/")}


@pytest.mark.parametrize(("name", "expanded"), [("with_default", True), ("compressed", True), ("direct", False)])
def test_the_graph_holds_the_expansion_and_the_nets(written, suffix, name, expanded):
    content, path = stored_model(name), written(name, suffix)
    tables = {"scale", "closest", *(f"{kind}/{centre}" for kind in ("coefficients", "starts") for centre in range(2))}
    assert names_of_arrays(path) == {
        *flatten(content.params),
        *(f"plan/0/{each}" for each in tables if expanded),
    }
    found = load_model(path)
    assert (found.plan is not None) == (name == "compressed")
    assert differences(flatten(found.arrays), flatten(content.arrays)) == []


# -- what a file says about itself
# --------------------------------------------------------------------------------------


def test_pth_getters(written):
    torch = pytest.importorskip("torch")
    content = with_default()
    module = torch.jit.load(str(written("with_default", ".pth")))
    facts = {
        name: getattr(module, name)()
        for name in ("get_ntypes", "get_dim_fparam", "get_dim_aparam", "get_dim_chg_spin", "get_nnei")
    }
    assert facts == {
        "get_ntypes": 2,
        "get_dim_fparam": 2,
        "get_dim_aparam": 1,
        "get_dim_chg_spin": 0,
        "get_nnei": sum(content.model.layout().sel),
    }
    assert module.get_type_map() == list(content.model.type_map)
    assert module.get_rcut() == content.model.layout().rcut
    assert module.get_sel() == list(content.model.layout().sel)
    assert module.get_sel_type() == []
    assert module.model_output_type() == ["energy"]
    assert module.has_default_fparam()
    assert not any(
        getattr(module, name)() for name in ("has_message_passing", "is_aparam_nall", "has_spin", "mixed_types")
    )
    assert json.loads(module.get_model_def_script()) == content.definition
    assert "model" in json.loads(module.get_definition())


def test_pb_attributes(written):
    tf = pytest.importorskip("tensorflow")
    content = with_default()
    graph = tf.compat.v1.GraphDef.FromString(written("with_default", ".pb").read_bytes())
    constants = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"}
    assert constants["descrpt_attr/rcut"].dtype == np.float64
    expected = {
        "descrpt_attr/rcut": 4.0,
        "descrpt_attr/ntypes": 2,
        "fitting_attr/dfparam": 2,
        "fitting_attr/daparam": 1,
        "fitting_attr/aparam_nall": False,
        "model_attr/tmap": b"O H",
        "model_attr/model_type": b"ener",
        "model_attr/model_version": b"1.1",
        "train_attr/min_nbor_dist": 0.875,
    }
    assert {name: constants[name].item() for name in expected} == expected
    assert json.loads(constants["train_attr/training_script"].item()) == {"model": content.definition}
    # two conditions, of the expansions and of the neighbour list, the list of LAMMPS, and nothing else
    assert sorted({each.signature.name[:9] for each in graph.library.function}) == [
        "cond_1_fa",
        "cond_1_tr",
        "cond_fals",
        "cond_true",
        "list_of_l",
    ]


# -- bad input of a run
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"fparam": None}, "fparam is missing"),
        ({"aparam": None}, "aparam is missing"),
        ({"fparam": np.zeros((1, 3))}, "fparam has 3 values"),
        ({"aparam": np.zeros((1, 4, 1))}, "aparam has 4 values"),
        ({"box": np.zeros((1, 9))}, "box has no volume"),
        ({"charge_spin": np.zeros((1, 2))}, "charge_spin is given"),
        ({"atype": np.full((1, 18), 2)}, "the model has 2 types"),
        ({"atype": np.zeros((1, 17), dtype=np.int64)}, "coord has 18 atoms"),
        ({"coord": np.full((1, 18, 3), np.nan)}, "not finite"),
        ({"coord": np.full((1, 18, 3), 1e8)}, "more than 1e-8 apart. Atom: 0"),
        ({"coord": np.zeros((1, 18, 3)), "box": 0.01 * np.eye(3).reshape(1, 9)}, "too many images are near"),
    ],
)
def test_pth_refuses_bad_input(pth_file, changes, text):
    torch = pytest.importorskip("torch")
    given = {**whole("se_e2_a_fparam", "pbc"), **changes}
    with pytest.raises(torch.jit.Error, match=text):
        torch.jit.load(str(pth_file))(
            **{key: None if value is None else torch.from_numpy(value) for key, value in given.items()}
        )


@pytest.fixture(scope="module")
def pth_file(file_of):
    pytest.importorskip("torch")
    return file_of("se_e2_a_fparam", ".pth")


def test_pth_answers_in_the_precision_of_the_coordinates(pth_file):
    torch = pytest.importorskip("torch")
    given = {key: torch.from_numpy(value) for key, value in whole("se_e2_a_fparam", "pbc").items()}
    out = torch.jit.load(str(pth_file))(**{**given, "coord": given["coord"].float()})
    assert {key: str(value.dtype) for key, value in out.items()} == {
        "energy": "torch.float64",
        "atom_energy": "torch.float64",
        "force": "torch.float32",
        "virial": "torch.float32",
    }


def test_pth_warns_once_of_atoms_nearer_than_its_expansions(pth_file):
    torch = pytest.importorskip("torch")
    module = torch.jit.load(str(pth_file))
    given = {key: torch.from_numpy(value) for key, value in whole("se_e2_a_fparam", "pbc").items()}
    module(**given)  # no warning, which would be an error
    near = given["coord"].reshape(1, -1, 3).clone()
    near[0, 1] = near[0, 0] + torch.tensor([0.3, 0.0, 0.0])
    with pytest.warns(UserWarning, match="nearer to each other than the expansions"):
        module(**{**given, "coord": near})
    module(**{**given, "coord": near})


def test_pth_under_the_names_of_deepmd_kit(pth_file):
    torch = pytest.importorskip("torch")
    module = torch.jit.load(str(pth_file))
    given = {
        key: torch.from_numpy(value) for key, value in whole("se_e2_a_fparam", "nopbc").items() if value is not None
    }
    coord, atype = given["coord"], given["atype"]
    n = atype.shape[1]
    nlist = torch.tensor([[[j for j in range(n) if j != i] for i in range(n)]])
    expected = module.forward_lower(coord, atype, nlist, None, given["fparam"], given["aparam"], True)
    out = module.forward_common_lower(coord, atype, nlist, None, given["fparam"], given["aparam"], comm_dict=None)
    names = {
        "energy": "atom_energy",
        "energy_redu": "energy",
        "energy_derv_r": "extended_force",
        "energy_derv_c": "extended_virial",
    }
    for name, other in {**names, "energy_derv_c_redu": "virial"}.items():
        assert torch.equal(out[name].reshape(-1), expected[other].reshape(-1)), name
        assert out[name].abs().max() > 0.0, name
    assert [tuple(out[name].shape) for name in ("energy_derv_r", "energy_derv_c", "energy_derv_c_redu")] == [
        (1, n, 1, 3),
        (1, n, 1, 9),
        (1, 1, 9),
    ]
    assert out["mask"].tolist() == [[1] * n]


def test_pth_runs_where_the_caller_wants_no_gradients(pth_file):
    torch = pytest.importorskip("torch")
    module = torch.jit.load(str(pth_file))
    with torch.no_grad():
        out = module(**{key: torch.from_numpy(value) for key, value in whole("se_e2_a_fparam", "pbc").items()})
        assert not torch.is_grad_enabled()
    assert not any(value.requires_grad for value in out.values())
    want = golden("se_e2_a_fparam", "pbc")["force"]
    assert_close(out["force"][0].numpy(), want, "golden")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"t_mesh": [0] * 15}, "t_mesh: accepted lengths"),
        ({"t_natoms": [3, 5, 0, 0]}, "ghost atoms"),
        ({"t_type": [0, 1, 2, 0, 1]}, "the model has 2 types"),
        ({"t_type": [0, 1, 0, 1]}, "t_coord: needs 3 values"),
        ({"t_coord": [np.inf] * 15}, "not finite"),
        ({"t_box": [0.0] * 9}, "no volume"),
        ({"t_coord": [1e8] * 15}, "more than 1e-8 apart"),
        ({"t_box": 0.01 * np.eye(3).ravel()}, "too many images are near"),
    ],
)
def test_pb_refuses_bad_input(pb_session, changes, text):
    tf = pytest.importorskip("tensorflow")
    given = {
        "t_coord": np.arange(15.0),
        "t_type": [0, 1, 0, 1, 1],
        "t_natoms": [5, 5, 0, 0],
        "t_box": 9.0 * np.eye(3).ravel(),
        "t_mesh": [0] * 6,
    }
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        pb_session.run("o_energy:0", {f"{key}:0": value for key, value in {**given, **changes}.items()})


def charged_feed(frame, charge_spin) -> dict[str, Any]:
    """What a graph of dpa3 with charge and spin is fed for a stored frame."""
    natoms, box = len(frame["type"]), frame.get("cell", np.zeros(0)).ravel()
    return {
        "t_coord:0": frame["coord"].ravel(),
        "t_type:0": frame["type"],
        "t_natoms:0": [natoms, natoms, 0, 0],
        "t_box:0": box,
        "t_mesh:0": [0] * (6 if box.size else 1),
        "t_charge_spin:0": charge_spin,
    }


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
def test_pb_of_messages_agrees_with_stored_results(charged_session, boundary):
    frame = golden("dpa3_charge_spin", boundary)
    found = charged_session.run({key: f"o_{key}:0" for key in KEYS}, charged_feed(frame, frame["charge_spin"].ravel()))
    for key in KEYS:
        assert_close(found[key].reshape(frame[key].shape), frame[key], "golden", what=key)


@pytest.mark.parametrize(
    ("given", "text"),
    [([100.0, 0.0], "for the charge: -100 to 99"), ([-1.0, -1.0], "for the spin: 0 to 99"), ([-100.9, 99.9], "")],
)
def test_pb_refuses_charge_and_spin_without_a_vector(charged_session, given, text):
    tf = pytest.importorskip("tensorflow")
    feed = charged_feed(golden("dpa3_charge_spin", "nopbc"), given)
    if not text:
        assert np.isfinite(charged_session.run("o_energy:0", feed)).all()
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        charged_session.run("o_energy:0", feed)


def test_pb_of_messages_refuses_a_neighbour_list(charged_session):
    tf = pytest.importorskip("tensorflow")
    names = {function.signature.name for function in charged_session.graph.as_graph_def().library.function}
    assert not any(name.startswith("list_of_lammps") for name in names)
    feed = {**charged_feed(golden("dpa3_charge_spin", "pbc"), [0.0, 0.0]), "t_mesh:0": [0] * 16}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"LAMMPS needs the \.pth"):
        charged_session.run("o_energy:0", feed)


@pytest.fixture(scope="module")
def charged_session(file_of):
    return session_of(file_of("dpa3_charge_spin", ".pb"))


@pytest.fixture(scope="module")
def pb_session(written):
    pytest.importorskip("tensorflow")
    return session_of(written("compressed", ".pb"))


# -- reading back -----------------------------------------------------------------------------------------------------


def of_precision(precision: str):
    content = load_model(GOLDEN / "se_e2_a_fparam" / "model.dp")
    model = replace(options(content.model), descriptor=replace(options(content.model).descriptor, precision=precision))
    return replace(content, model=model, min_nbor_dist=0.1 + 0.2)


PRECISIONS = ("float64", "float32", "float16", "bfloat16")


@pytest.mark.parametrize(("suffix", "precision"), mark_slow(product(PACKAGES, PRECISIONS), [(".pth", "bfloat16")]))
def test_nothing_is_lost(tmp_path, suffix, precision):
    pytest.importorskip(PACKAGES[suffix])
    save_model(tmp_path / "a.dp", of_precision(precision))
    convert(tmp_path / "a.dp", tmp_path / f"b{suffix}")
    convert(tmp_path / f"b{suffix}", tmp_path / "c.dp")
    first, last = load_model(tmp_path / "a.dp"), load_model(tmp_path / "c.dp")
    assert (last.model, last.definition, last.min_nbor_dist) == (first.model, first.definition, first.min_nbor_dist)
    before, after = flatten(first.params), flatten(last.params)
    assert list(after) == list(before)
    for path, leaf in before.items():
        assert after[path].dtype == leaf.dtype, path
        assert after[path].tobytes() == leaf.tobytes(), path


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_short(tmp_path, written, suffix, share):
    path, data = tmp_path / f"m{suffix}", written("compressed", suffix).read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"m\.p"):
        load_model(path)


@pytest.mark.parametrize("text", [b"", b"not a model\n" * 50, bytes(range(256)) * 20])
def test_something_else(tmp_path, suffix, text):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"m\.p"):
        load_model(path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_is_not_executed(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    for number, given in enumerate(({}, {"_use_new_zipfile_serialization": False})):
        torch.save({"state": Malicious()}, f"m{number}.pth", **given)
        with pytest.raises(InputError, match=r"asks for|not an archive of torch"):
            load_model(f"m{number}.pth")
    with zipfile.ZipFile("m1.pth", "w") as archive, zipfile.ZipFile("m0.pth") as pickled:
        archive.writestr("m1/constants.pkl", pickled.read("m0/data.pkl"))  # dressed up as TorchScript
        archive.writestr("m1/data.pkl", pickled.read("m0/data.pkl"))
    with pytest.raises(InputError, match="asks for"):
        load_model("m1.pth")
    assert not Path("executed").exists()


def test_torchscript_of_others(tmp_path):
    torch = pytest.importorskip("torch")
    torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)).save(str(tmp_path / "other.pth"))
    with pytest.raises(InputError, match="not a model of this program or of DeePMD-kit"):
        load_model(tmp_path / "other.pth")


def test_graphs_of_others(tmp_path):
    tf = pytest.importorskip("tensorflow")

    def save(*names: str) -> Path:
        with tf.Graph().as_default() as graph:
            for name in names:
                tf.constant(4.0, name=name)
        (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
        return tmp_path / "m.pb"

    with pytest.raises(InputError, match="but not a model"):
        load_model(save("something"))
    with pytest.raises(InputError, match="t_avg are missing: the file is cut short"):
        load_model(save("descrpt_attr/rcut"))
    with pytest.raises(InputError, match="description is damaged"):
        load_model(save("model_attr/definition"))


def test_a_constant_that_claims_to_be_huge_is_refused(tmp_path, written):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "m.pb"
    graph = tf.compat.v1.GraphDef.FromString(written("compressed", ".pb").read_bytes())
    node = next(node for node in graph.node if node.name == "param/out_bias")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.float64, [1]))
    node.attr["value"].tensor.tensor_shape.dim[0].size = 2**50
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(InputError, match=r"its arrays claim [0-9,]* bytes"):
        load_model(path)

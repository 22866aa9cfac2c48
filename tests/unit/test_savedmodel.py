"""`.savedmodel`: its functions give the stored results, and it is read back without loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tolerances import assert_close
from unit.native_inputs import GOLDEN, KEYS, golden, lower, whole

from deepmd import DeepPot
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.io.formats import convert, load_model, save_model
from deepmd.plan.expansions import choose_plan
from deepmd.train.main import freeze

CASES = ("se_e2_a_fparam", "dpa2", "dpa3")
NAMES = {
    "energy": "energy_redu",
    "force": "energy_derv_r",
    "virial": "energy_derv_c_redu",
    "atom_energy": "energy",
    "atom_virial": "energy_derv_c",
}

tensorflow = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow  # 20 s; quick: tests/golden/test_golden_conversions.py writes, runs and reads one


@pytest.fixture(scope="module", params=CASES)
def written(request, tmp_path_factory):
    """Case, path and functions; the file of nets with expansions stores them, as `dp compress` does."""
    path, content = (
        tmp_path_factory.mktemp("written") / "model.savedmodel",
        load_model(GOLDEN / request.param / "model.dp"),
    )
    path.mkdir()
    for name in ("saved_model.pb", "older"):
        (path / name).write_bytes(b"older")
    plan, _ = choose_plan(content.model, content.params, None, stored=True)
    save_model(path, replace(content, plan=plan if any(plan) else None))
    return request.param, path, tensorflow.saved_model.load(str(path))


def extras(inputs):
    atoms = inputs["nlist"].shape[1] if "nlist" in inputs else inputs["atype"].shape[1]
    fparam, aparam = inputs.get("fparam", np.zeros((1, 0))), inputs.get("aparam", np.zeros((1, atoms, 0)))
    return tensorflow.constant(fparam.reshape(1, -1)), tensorflow.constant(aparam.reshape(1, atoms, -1))


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("atomic", [False, True])
def test_whole_frames(written, boundary, atomic):
    case, _, module = written
    inputs, expected = whole(case, boundary), golden(case, boundary)
    box = inputs["box"].reshape(1, 3, 3) if "box" in inputs else np.zeros((1, 0, 0))
    call = module.call_atomic_virial if atomic else module.call
    out = call(
        tensorflow.constant(inputs["coord"]),
        tensorflow.constant(inputs["atype"].astype(np.int32)),
        tensorflow.constant(box),
        *extras(inputs),
    )
    for key in KEYS if atomic else KEYS[:4]:
        assert_close(out[NAMES[key]].numpy().reshape(expected[key].shape), expected[key], "golden", what=key)
    assert np.array_equal(out["mask"], np.ones_like(inputs["atype"]))


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("atomic", [False, True])
def test_neighbour_lists(written, boundary, atomic):
    case, _, module = written
    inputs, expected = lower(case, boundary), golden(case, boundary)
    given = [
        inputs["coord"],
        inputs["atype"].astype(np.int32),
        inputs["nlist"].astype(np.int64),
        inputs["mapping"].astype(np.int64),
    ]
    call = module.call_lower_atomic_virial if atomic else module.call_lower
    out = {key: value.numpy() for key, value in call(*map(tensorflow.constant, given), *extras(inputs)).items()}
    for key in KEYS if atomic else KEYS[:4]:
        value = out[NAMES[key]]
        if key in ("force", "atom_virial"):  # of images, to be added to their owners
            total = np.zeros((len(expected["type"]), value.shape[-1]))
            np.add.at(total, inputs["mapping"][0], value[0, :, 0])
            value = total
        assert_close(value.reshape(expected[key].shape), expected[key], "golden", what=key)


@pytest.mark.parametrize("written", ["se_e2_a_fparam"], indirect=True)
def test_nets_are_evaluated_outside_of_the_domain(written):
    """By a pair of atoms nearer than the expansions reach."""
    case, path, module = written
    inputs = whole(case, "pbc")
    coord = inputs["coord"].reshape(1, -1, 3).copy()
    coord[0, 1] = coord[0, 0] + [0.2, 0.0, 0.1]
    types, box = inputs["atype"].astype(np.int32), inputs["box"].reshape(1, 3, 3)
    out = module.call(*map(tensorflow.constant, (coord, types, box)), *extras(inputs))
    conditions = {key: inputs[key] for key in ("fparam", "aparam") if key in inputs}
    values = DeepPot(path, evaluation="direct").eval(coord, box, types[0], **conditions)
    for key, want in zip(KEYS, values, strict=False):
        assert_close(out[NAMES[key]].numpy().reshape(want.shape), want, "spectral", what=key)


def test_no_atoms(written):
    """An MPI rank without atoms of its own, and one without any."""
    _, _, module = written
    for ghosts in (0, 3):
        given = [
            np.zeros((1, ghosts, 3)),
            np.zeros((1, ghosts), dtype=np.int32),
            np.zeros((1, 0, 5), dtype=np.int64),
            np.zeros((1, ghosts), dtype=np.int64),
        ]
        width = int(module.get_dim_fparam()), int(module.get_dim_aparam())
        out = module.call_lower_atomic_virial(
            *map(tensorflow.constant, given),
            tensorflow.zeros((1, width[0]), "float64"),
            tensorflow.zeros((1, 0, width[1]), "float64"),
        )
        assert float(out["energy_redu"][0, 0]) == 0.0
        assert out["energy_derv_r"].shape == (1, ghosts, 1, 3)


REFUSED = [
    (1e8, np.zeros((1, 0, 0)), "more than 1e-8 apart"),
    (0.0, 0.01 * np.eye(3)[None], "too many images"),
    (0.0, np.ones((1, 3, 3)), "no volume"),
]


@pytest.mark.parametrize(("far", "box", "text"), REFUSED)
def test_refuses_what_cannot_be_searched(written, far, box, text):
    case, _, module = written
    inputs = whole(case, "nopbc")
    given = [inputs["coord"] + far, inputs["atype"].astype(np.int32), box]
    with pytest.raises(tensorflow.errors.InvalidArgumentError, match=text):
        module.call(*map(tensorflow.constant, given), *extras(inputs))


def test_facts(written):
    case, _, module = written
    layout = load_model(GOLDEN / case / "model.dp").model.layout()
    assert float(module.get_rcut()) == layout.rcut
    assert module.get_sel().numpy().tolist() == list(layout.sel)
    assert [name.decode() for name in module.get_type_map().numpy()] == ["O", "H"]
    assert bool(module.has_message_passing()) is layout.needs_neighbour_features


def test_functions_have_the_names_and_arguments_that_programs_look_up(written):
    """Found by `__inference_NAME_`.

    Their inputs are those that are passed, since nothing could pass a captured constant.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    _, path, _ = written
    graph = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    inputs = {
        function.signature.name.rsplit("_", 1)[0]: len(function.signature.input_arg)
        for function in graph.library.function
    }
    for name, count in {
        "call_lower_with_atomic_virial": 6,
        "call_without_atomic_virial": 5,
        "get_rcut": 0,
        "get_type_map": 0,
    }.items():
        assert inputs[f"__inference_{name}"] == count


def test_nothing_is_lost(written):
    case, path, _ = written
    before, after = load_model(GOLDEN / case / "model.dp"), load_model(path)
    assert before.model == after.model
    first, second = flatten(before.params), flatten(after.params)
    assert all(np.array_equal(first[name], second[name]) for name in {*first, *second})
    assert (after.plan is not None) == (case == "se_e2_a_fparam")


def test_it_is_no_folder_of_a_training(written, tmp_path):
    """`dp freeze -c`, `dp change-bias` and the options of `dp train` take it like any other model file."""
    case, path, _ = written
    assert (
        load_model(freeze(str(path), str(tmp_path / "model.dp"))).model == load_model(GOLDEN / case / "model.dp").model
    )


def test_what_was_there_is_replaced(written):
    """What was there looked like a SavedModel."""
    _, path, _ = written
    assert not (path / "older").exists()
    assert (path / "saved_model.pb").read_bytes() != b"older"
    assert [entry.name for entry in path.parent.iterdir()] == ["model.savedmodel"]


@pytest.mark.filterwarnings("ignore::deepmd.infer.inputs.OrderWarning")
def test_deep_pot_takes_it(written):
    case, path, _ = written
    expected, inputs = golden(case, "pbc"), whole(case, "pbc")
    given = {key: inputs[key] for key in ("fparam", "aparam") if key in inputs}
    energy, force, _ = DeepPot(str(path)).eval(inputs["coord"], inputs["box"], inputs["atype"][0], **given)
    assert_close(energy[0], expected["energy"], "golden")
    assert_close(force[0], expected["force"], "golden")


@pytest.mark.slow
def test_charge_and_spin_out_of_range(tmp_path):
    """Each of them has a vector for every integer between two limits.

    A program gets an error that tells them, and so does `DeepPot`.
    """
    path = tmp_path / "model.savedmodel"
    convert(GOLDEN / "dpa3_charge_spin" / "model.dp", path)
    module, inputs = tensorflow.saved_model.load(str(path)), whole("dpa3_charge_spin", "nopbc")
    given = inputs["coord"], inputs["atype"].astype(np.int32), np.zeros((1, 0, 0)), *map(np.array, extras(inputs))
    with DeepPot(path) as potential:
        for values, name, limits in (
            ([99.9, 0.0], "", ""),
            ([100.0, 0.0], "charge", "-100 to 99"),
            ([0.0, -1.0], "spin", "0 to 99"),
        ):
            arguments = inputs["coord"], None, inputs["atype"][0]
            if not name:
                energy = potential.eval(*arguments, charge_spin=values)[0]
                found = module.call(*map(tensorflow.constant, (*given, np.array([values]))))["energy_redu"]
                assert_close(found.numpy(), energy, "golden")
                continue
            with pytest.raises(
                tensorflow.errors.InvalidArgumentError, match=f"charge_spin: accepted for the {name}: {limits}. Given:"
            ):
                module.call(*map(tensorflow.constant, (*given, np.array([values]))))
            with pytest.raises(InputError, match=f"charge_spin, frame 0: the {name} is .*; accepted: {limits}"):
                potential.eval(*arguments, charge_spin=values)


def test_what_is_no_model_of_ours(written, tmp_path):
    (tmp_path / "empty.savedmodel").mkdir()
    with pytest.raises(InputError, match=r"no folder with a file saved_model\.pb"):
        load_model(tmp_path / "empty.savedmodel")
    with pytest.raises(InputError, match="it is a folder"):
        save_model(tmp_path / "empty.savedmodel", load_model(GOLDEN / "se_e2_a" / "model.dp"))
    (tmp_path / "empty.savedmodel/saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match="not one that this program wrote"):
        load_model(tmp_path / "empty.savedmodel")

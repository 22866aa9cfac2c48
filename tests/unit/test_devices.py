"""Devices: which one is chosen, and that models, trainings and exported programs stay on theirs.

torch's second device, `second_device.py`, needs no hardware. On array-api-strict's second device run all tests of
physics (`deepmd/testing/strict.py`).
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from golden.golden_cases import DIRECT, MODEL_CASES, content_of, sample_of, stored_in
from support import mark_slow, require
from tolerances import assert_close
from unit.native_inputs import golden, lower, whole

from deepmd import DeepPot, process
from deepmd.adapters.contracts import evaluate_module
from deepmd.adapters.training import Adam, Task
from deepmd.array_model.components import trainable_flags
from deepmd.array_model.errors import InputError
from deepmd.cli import main
from deepmd.data.batch import Batch
from deepmd.io.model_file import plan_evaluation
from deepmd.losses import LOSSES, Target, ener
from deepmd.plan.expansions import choose_plan
from deepmd.testing.samples import Subject
from deepmd.train.trainable import trainable_paths

# -- choice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "environment", "count", "chosen"),
    [
        (None, {}, 0, "cpu"),
        (None, {}, 2, "cuda:0"),
        (None, {"LOCAL_RANK": "1"}, 2, "cuda:1"),
        (None, {"LOCAL_RANK": "1"}, 0, "cpu"),
        (None, {"DEVICE": "cpu"}, 2, "cpu"),
        (None, {"DEVICE": "CUDA", "LOCAL_RANK": "1"}, 2, "cuda:1"),
        (None, {"DEVICE": "cuda:1"}, 2, "cuda:1"),
        ("cuda", {"DEVICE": "cpu"}, 2, "cuda:0"),
        ("cpu", {"DEVICE": "cuda"}, 2, "cpu"),
    ],
)
def test_argument_then_environment_then_hardware_choose(asked, environment, count, chosen, monkeypatch):
    set_environment(environment, monkeypatch)
    assert process.choose_device(asked, count) == chosen


@pytest.mark.parametrize(
    ("asked", "environment", "count", "message"),
    [
        (None, {"DEVICE": "gpu"}, 2, "environment variable DEVICE: is 'gpu', accepted: cpu, cuda:0, cuda:1, cuda"),
        (None, {"DEVICE": "cuda"}, 0, "DEVICE: is 'cuda', accepted: cpu, because no CUDA device is seen"),
        ("cuda:2", {}, 2, "device: is 'cuda:2', accepted: cpu, cuda:0, cuda:1, cuda"),
        (None, {"LOCAL_RANK": "2"}, 2, "LOCAL_RANK: is '2', accepted: 0 to 1, the number of a CUDA device"),
    ],
)
def test_other_devices_are_refused(asked, environment, count, message, monkeypatch):
    set_environment(environment, monkeypatch)
    with pytest.raises(InputError, match=message):
        process.choose_device(asked, count)


def set_environment(environment, monkeypatch):
    for name in ("DEVICE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("backend", "package"), [("numpy", "numpy"), ("torch", "torch"), ("tf", "tensorflow")])
def test_every_backend_checks_the_device_first(backend, package, file_of):
    require(package)
    path = file_of("se_e2_a", ".dp")
    with pytest.raises(InputError, match=r"device: is 'gpu', accepted.*: cpu"):
        DeepPot(path, backend=backend, device="gpu")
    assert DeepPot(path, backend=backend, device="cpu").device == "cpu"


@pytest.mark.parametrize(
    "command",
    [
        "--pt train input.json",
        "test -m model.pth -s water",
        "model-devi -m model.pth model.pth -s water",
        "change-bias model.pth -s water",
        "eval-desc -m model.pth -s water -o .",
    ],
)
def test_every_command_runs_on_the_device_of_the_environment(command, place, file_of, monkeypatch, capsys):
    """A device that is not there stops all of them, with one message."""
    require("torch")
    (place / "model.pth").symlink_to(file_of("se_e2_a", ".pth"))
    monkeypatch.chdir(place)
    set_environment({"DEVICE": "gpu"}, monkeypatch)
    assert main(command.split()) == 2
    assert "environment variable DEVICE: is 'gpu', accepted: cpu" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "hidden", "visible"), [("cpu", {"GPU": 0}, ""), ("cuda:1", {}, "1")])
def test_sessions_of_tensorflow_take_one_device_and_its_memory_as_needed(device, hidden, visible, monkeypatch):
    tf = require("tensorflow")
    from deepmd.adapters.tf import graph

    given = []
    monkeypatch.setattr(graph, "choose_device", lambda asked: device)
    monkeypatch.setattr(tf.compat.v1, "Session", lambda graph, config: given.append(config))
    graph.session(tf.Graph())
    assert dict(given[0].device_count) == hidden
    assert given[0].gpu_options.visible_device_list == visible
    assert given[0].gpu_options.allow_growth


# -- evaluation and training on torch's second device ----------------------------------------------------------------

KINDS = (
    *(
        "se_e2_a",
        "se_e2_a_float32",
        "se_e2_a_fparam",
        "se_e2_r",
        "se_e3",
        "se_atten",
        "se_atten_attn",
        "se_atten_strip",
    ),
    *("typed_se_e2_a", "se_e3_tebd", "hybrid", "loc_frame_rule", "dpa2", "dpa2_three_excluded", "dpa3"),
    *("dpa3_charge_spin", "dipole", "polar", "dos", "property", "pairtab", "linear_tables", "zbl_tables", "linear"),
    *("linear_pairtab", "zbl"),
)
"""Stored cases: every kind of descriptor, fitting net and model."""

QUICK = (
    "se_e2_a_fparam",
    "se_e3",
    "se_atten_attn",
    "hybrid",
    "loc_frame_rule",
    "dpa2",
    "dpa3_charge_spin",
    "dipole",
    "zbl",
)

TABLES = ("pairtab", "linear_tables", "zbl_tables")
"""Cases without anything to train."""


@contextmanager
def on_second_device():
    """torch's second device, chosen for everything that is made inside."""
    require("torch")
    from unit.second_device import DEVICE, second_device

    choose = process.choose_device
    process.choose_device = lambda asked, count: DEVICE
    try:
        with second_device() as device:
            yield device
    finally:
        process.choose_device = choose


def inputs_of(case, boundary="pbc"):
    """The model of a case, and its stored frame: packed, and its conditions."""
    content = content_of(case)
    subject = Subject(content.model, content.params, "torch")
    sample, _ = sample_of(stored_in(case), boundary)
    packed = subject.pack([sample])
    return content, packed, subject.conditions([sample], packed)


@pytest.mark.parametrize("case", mark_slow(KINDS, QUICK))
def test_evaluations_stay_on_their_device(case):
    """Arrays cross once each way, nothing waits for the device but the results, and they are those of the processor."""
    require("torch")
    content, packed, conditions = inputs_of(case)
    wanted = frozenset(content.model.output.names)
    plan, _ = plan_evaluation(content, None if case in (*DIRECT, *MODEL_CASES) else "spectral")
    make = evaluate_module("torch").evaluator
    arguments = packed.neighbours, conditions, len(packed.atoms), packed.num_frames, wanted
    expected = make(content.model, content.params, plan)(*arguments)
    with on_second_device() as device:
        evaluate = make(content.model, content.params, plan)
        before = device.sent
        found = evaluate(*arguments)
    from deepmd.array_model.neighbours import ARRAYS

    assert device.sent - before == len(ARRAYS) + len(conditions)
    assert device.waits == {"to_numpy": len(wanted)}
    for name in wanted:
        assert_close(found[name], expected[name], "energy", precision_of(case), what=name)


def precision_of(case):
    return "float32" if case.endswith("float32") else "float64"


@pytest.mark.parametrize("case", mark_slow([case for case in KINDS if case not in TABLES], QUICK))
def test_trainings_stay_on_their_device(case):
    """An update by every term of the loss, and another one with parameters and moments carried over, as by a restart.

    The moments are those of the processor. Parameters need not be: Adam divides gradients by their size, also those
    that only rounding keeps from zero.
    """
    require("torch")
    content, packed, conditions = inputs_of(case)
    model, params = content.model, content.params
    loss = loss_of(model, params)
    rng, neighbours = np.random.default_rng(1), packed.neighbours
    rows = {True: len(neighbours.type_N), False: packed.num_frames}
    labels = {name: rng.normal(size=(rows[each.per_atom], *each.sizes)) for name, each in loss.labels().items()}
    found = dict.fromkeys(loss.terms(), True)
    batch = Batch(neighbours, conditions, np.array([float(rows[True])]), labels, found, packed.closest)
    paths = tuple(trainable_paths(params, trainable_flags(model)))
    task = Task(model, paths, loss, Adam(weight_decay=0.01, max_norm=1.0))
    plan, _ = choose_plan(model, params, packed.closest, stored=False)

    def train():
        from deepmd.adapters.torch.trainer import TorchTrainer

        first = TorchTrainer(task, params, plan)
        first.step(batch, 1e-3, loss.prefactors(1.0), 1)
        moments = first.moments()
        again = TorchTrainer(task, first.params(), plan)
        again.restore(moments, 1)
        again.step(batch, 1e-3, loss.prefactors(1.0), 2)
        return [np.concatenate([moments[f"{name}/{path}"].ravel() for path in paths]) for name in "mv"]

    expected = train()
    with on_second_device() as device:
        actual = train()
    assert set(device.waits) == {"to_numpy"}  # the loss, and parameters for a checkpoint
    assert expected[0].any()
    for found, wanted in zip(actual, expected, strict=True):
        assert_close(found, wanted, "force", precision_of(case))


def test_silut_does_not_ask_the_device_for_its_branch():
    torch = require("torch")
    from deepmd.adapters.torch.namespace import xp

    x = 3.0 * torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = xp.silut(x, 1.5)
    with on_second_device() as device:
        found = xp.silut(x.to(device.name), 1.5)
        assert not device.waits
        assert_close(found.cpu(), expected, "function")


def loss_of(model, params):
    """The loss of a model with all its terms on."""
    kind = next(kind for kind in LOSSES.values() if model.output.name in kind.predicts)
    terms = {"ener": ener.TERMS, "dos": ("dos", "cdf", "ados", "acdf")}.get(kind.kind, ())
    on = {f"{side}_pref_{term}": 1.0 for side in ("start", "limit") for term in terms}
    return kind(**on, **({"pref": 1.0, "pref_atomic": 1.0} if kind.kind == "tensor" else {})).with_target(
        Target.of(model, params)
    )


# -- exported programs on torch's second device ----------------------------------------------------------------------

WAITS = {
    "Shell._atoms": (2, 2, "types and positions are checked, because compiled code would read out of bounds"),
    "Shell._evaluate": (1, 1, "pairs nearer than expansions reach choose between two programs"),
    "_as_tuple": (1, 1, "numbers of atoms and slots are sizes of the arrays of all blocks"),
    "_counting": (5, 2, "sizes of the search and of the packing"),
    "_placed": (2, 2, "sizes of the packing"),
    "_segment_sum": (2, 1, "sizes of the search and of the packing"),
    "pack_candidates": (1, 1, "number of real atoms"),
    "_refusing": (7, 0, "a search that would lose neighbours or take all memory stops"),
    "_unrolled": (1, 0, "number of pairs that are tried"),
    "candidates": (1, 0, "number of pairs within the cutoff"),
}
"""What an evaluation by an exported program waits for: waits with a search, waits with a neighbour list, reason.

Their number does not grow with atoms, blocks or the size of the model.
"""

CONDITION_WAITS = {"Shell._conditions": 2}
"""Charge and spin are checked, because they number rows of a table."""

PROGRAMS = [case for case in KINDS if case not in ("se_e2_a_float32", "linear_tables")]


def shell_of(content):
    """The program of a `.pth`, as Python runs it."""
    require("torch")
    import torch

    from deepmd.adapters.torch import export

    plan, _ = plan_evaluation(content)
    shell = export._shell(content, plan, {name: part for name, (part, _) in export._parts(content, plan).items()})
    for name, value in list(vars(shell).items()):
        if isinstance(value, torch.jit.Attribute):
            object.__setattr__(shell, name, value.value)
    return shell


def run_program(program, case, name="cpu", device=None):
    """Run a program with its search for neighbours and with a list: {method: {name: tensor}}, {method: its waits}."""
    import torch

    given = {key: array for key, array in golden(case, "pbc").items() if key == "charge_spin"}
    found, waits = {}, {}
    for method, inputs in (("forward", whole(case, "pbc")), ("forward_lower", lower(case, "pbc"))):
        if method == "forward_lower":
            inputs |= {f"extended_{key}": inputs.pop(key) for key in ("coord", "atype")}
        tensors = {key: torch.tensor(array).to(name) for key, array in {**inputs, **given}.items()}
        before = Counter(device.waits if device else {})
        found[method] = getattr(program, method)(**tensors, do_atomic_virial=True)
        waits[method] = dict((device.waits if device else before) - before)
    return found, waits


def compare_programs(found, expected):
    for method, values in expected.items():
        for name, value in values.items():
            assert found[method][name].device != value.device
            assert_close(found[method][name].cpu(), value.detach(), "energy", what=f"{method}: {name}")


@pytest.mark.parametrize("case", mark_slow(PROGRAMS, quick=("se_e2_a", "dpa3_charge_spin", "dipole", "zbl")))
def test_exported_programs_stay_on_their_device(case):
    content = content_of(case)
    expected = run_program(shell_of(content), case)
    program = shell_of(content)
    with on_second_device() as device:
        program.to(device.name)
        found, waits = run_program(program, case, device.name, device)
        compare_programs(found, expected[0])
    charged = CONDITION_WAITS if case == "dpa3_charge_spin" else {}
    for column, method in enumerate(("forward", "forward_lower")):
        assert waits[method] == {name: row[column] for name, row in WAITS.items() if row[column]} | charged


@pytest.mark.parametrize("case", mark_slow(PROGRAMS, quick=("dpa3", "zbl")))
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_files_stay_on_their_device(case, file_of):
    """What tracing has frozen into the file follows the atoms too, and makes the program wait no more often."""
    torch = require("torch")
    path = file_of(case, ".pth")
    expected, _ = run_program(torch.jit.load(path), case)
    program = torch.jit.load(path)
    with on_second_device() as device:
        found, waits = run_program(program.to(device.name), case, device.name, device)
        compare_programs(found, expected)
    charged = sum(CONDITION_WAITS.values()) if case == "dpa3_charge_spin" else 0
    for column, method in enumerate(("forward", "forward_lower")):
        assert sum(waits[method].values()) <= sum(row[column] for row in WAITS.values()) + charged


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["se_e2_a", "dpa3", "dipole"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_files_run_on_cuda(case, file_of):
    torch = require("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    path = file_of(case, ".pth")
    expected, _ = run_program(torch.jit.load(path), case)
    found, _ = run_program(torch.jit.load(path, map_location="cuda"), case, "cuda")
    compare_programs(found, expected)


def test_one_function_makes_numpy_arrays():
    """Everything else stays on the device of its tensors."""
    folder = Path(process.__file__).parent / "adapters" / "torch"
    counts = {path.name: path.read_text().count(".numpy()") for path in folder.glob("*.py")}
    assert {name: count for name, count in counts.items() if count} == {"arrays.py": 1}

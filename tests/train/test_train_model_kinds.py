"""Deep Potentials with pair tables, sums of models, frozen models: trained, converted, combined without training."""

from __future__ import annotations

import copy
import importlib
import re

import numpy as np
import pytest
from support import TF_LATER, mark_slow, require
from tolerances import assert_close
from train.small_training import WATER, largest_difference, largest_parameter_difference, run, small_input

from deepmd import DeepPot
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.data.systems import load_system
from deepmd.io import convert, load_model
from deepmd.io.model_file import plan_evaluation
from deepmd.io.train_input import parse_input
from deepmd.plan.plans import count_terms
from deepmd.train.main import freeze

KINDS = ("zbl", "linear")
FROZEN = {"torch": ".pth", "tf": ".pb"}


def write_table(path):
    r = np.arange(0.05, 4.51, 0.05)
    np.savetxt(
        path, np.column_stack([r, *(scale * np.exp(-2.0 * r) * (1.0 - r / 4.5) ** 3 for scale in (8.0, 4.0, 2.0))])
    )
    return str(path)


def input_of(kind, table):
    tree = small_input(numb_steps=4, save_freq=4)
    del tree["training"]["validation_data"]
    section = tree["model"]
    section["descriptor"]["neuron"] = [4]
    if kind == "zbl":
        tree["model"] = {**section, "use_srtab": table, "smin_alpha": 0.1, "sw_rmin": 0.8, "sw_rmax": 1.2}
    else:
        members = [section, {"type": "pairtab", "tab_file": table, "rcut": 4.5, "sel": 80}]
        members[0] = {key: value for key, value in section.items() if key in ("descriptor", "fitting_net")}
        tree["model"] = {
            "type": "linear_ener",
            "type_map": ["O", "H"],
            "data_stat_nbatch": 2,
            "weights": "sum",
            "models": members,
        }
    return tree


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    require("torch")
    require("tensorflow")
    folder = tmp_path_factory.mktemp("kinds")
    return folder, write_table(folder / "table.txt")


@pytest.fixture(scope="module", params=KINDS)
def trained(place, request):
    """A kind, its input, where torch trained it, and the rows of the learning curve."""
    folder, table = place
    tree = input_of(request.param, table)
    return request.param, tree, folder, run(folder / f"{request.param}_torch", tree, "torch")


@pytest.fixture(scope="module")
def frames():
    system = load_system(WATER / "water_330b", ["O", "H"])
    return system.coord[:1], system.cell[:1], system.types


def test_bias(trained):
    """The energies of the data are in the bias of the sum, its members have none."""
    kind, _, folder, _ = trained
    content = load_model(folder / f"{kind}_torch" / "model.ckpt.pt")
    assert np.abs(content.params["out_bias"]).min() > 0.0
    assert not any(own["out_bias"].any() for own in content.params["models"])


@pytest.mark.parametrize("trained", mark_slow(KINDS, ["zbl"]), indirect=True)
def test_same_curve(trained):
    kind, tree, folder, rows = trained
    assert largest_difference(rows, run(folder / f"{kind}_tf", tree, "tf")) < 1e-8
    files = folder / f"{kind}_torch" / "model.ckpt.pt", folder / f"{kind}_tf" / "model.ckpt"
    assert largest_parameter_difference(*files) < 1e-8


@pytest.mark.parametrize("trained", mark_slow(KINDS, []), indirect=True)
def test_files(trained, frames):
    kind, _, folder, _ = trained
    source = freeze(str(folder / f"{kind}_torch" / "model.ckpt.pt"), str(folder / f"{kind}.dp"))
    expected = DeepPot(source).eval(*frames)
    last = source
    for suffix in (".pth", ".pb", ".yaml", ".dp"):
        target = folder / f"{kind}_again{suffix}"
        convert(last, target)
        for name, found, wanted in zip(
            ("energy", "force", "virial"), DeepPot(target).eval(*frames), expected, strict=True
        ):
            assert_close(found, wanted, name, "float64", what=suffix)
        last = target
    first, again = load_model(source), load_model(last)
    assert first.model == again.model
    for path, leaf in flatten(first.params).items():
        assert np.array_equal(leaf, flatten(again.params)[path]), path


@pytest.mark.parametrize("backend", TF_LATER)
def test_frozen_models_are_added_without_training(place, frames, backend, tmp_path):
    folder, table = place
    if not (folder / "one" / "model.ckpt.pt").exists():
        run(folder / "one", small_input(numb_steps=1), "torch")
    one = freeze(str(folder / "one" / "model.ckpt.pt"), str(folder / "one.dp"))
    tree = small_input(numb_steps=0)
    members = [
        {"type": "frozen", "model_file": str(one)},
        {"type": "pairtab", "tab_file": table, "rcut": 4.5, "sel": 80},
    ]
    tree["model"] = {"type": "linear_ener", "type_map": ["O", "H"], "weights": [0.25, 2.0], "models": members}
    run(tmp_path / "sum", tree, backend)
    tree["model"] = {**members[1], "type_map": ["O", "H"]}
    run(tmp_path / "table", tree, backend)
    both, first, second = (
        DeepPot(path)
        for path in (
            freeze(str(tmp_path / "sum"), str(tmp_path / "sum.dp")),
            one,
            freeze(str(tmp_path / "table"), str(tmp_path / "table.dp")),
        )
    )
    for name, found, *parts in zip(
        ("energy", "force", "virial"), *(each.eval(*frames) for each in (both, first, second)), strict=True
    ):
        assert_close(found, 0.25 * parts[0] + 2.0 * parts[1], name, "float64")


@pytest.fixture
def evaluations(monkeypatch):
    """How the members of each model are evaluated that a backend gets to train."""
    seen = []
    for name in ("torch", "tf"):
        module = importlib.import_module(f"deepmd.adapters.{name}.trainer")

        def trainer(task, params, plan, make=module.trainer):
            seen.append(count_terms(plan))
            return make(task, params, plan)

        monkeypatch.setattr(module, "trainer", trainer)
    return seen


@pytest.mark.parametrize("backend", TF_LATER)
def test_a_member_stays_directly_evaluated(tmp_path, evaluations, backend):
    """Whatever training starts from, and in the file that comes out of it."""
    require("torch" if backend == "torch" else "tensorflow")
    tree = small_input(numb_steps=2, save_freq=2)
    section, checkpoint = tree["model"], tmp_path / f"model.ckpt{'.pt' if backend == 'torch' else ''}"
    members = [
        {"descriptor": {**section["descriptor"], **more}, "fitting_net": section["fitting_net"]}
        for more in ({"evaluation": "direct"}, {"seed": 3})
    ]
    tree["model"] = {
        "type": "linear_ener",
        "type_map": ["O", "H"],
        "data_stat_nbatch": 2,
        "weights": "mean",
        "models": members,
    }
    for number, start in enumerate(
        ({}, {"restart": str(checkpoint)}, {"init_model": str(checkpoint)}, {"restart": str(checkpoint)})
    ):
        tree["training"]["numb_steps"] = 2 * (number + 1)
        run(tmp_path, tree, backend, **start)
    assert len(evaluations) == 4
    for path in (checkpoint, freeze(str(checkpoint), str(tmp_path / f"frozen{FROZEN[backend]}"))):
        evaluations.append(count_terms(plan_evaluation(load_model(path))[0]))
    assert all(first == 0 < second for first, second in evaluations), evaluations


WRONG: dict[str, tuple[dict, str]] = {
    "no file": ({"type": "pairtab", "tab_file": "missing.txt", "rcut": 4.0, "sel": 20}, "missing.txt cannot be read"),
    "no key": ({"type": "pairtab", "rcut": 4.0, "sel": 20}, "model/tab_file: required, but missing"),
    "unknown key": (
        {"type": "linear_ener", "weights": "sum", "models": [], "weight": 1},
        "unknown key 'weight'. Did you mean 'weights'",
    ),
    "no models": ({"type": "linear_ener", "weights": "sum", "models": []}, "models is empty"),
    "weights": ({"type": "linear_ener", "weights": [1.0, 2.0], "models": [...]}, "weights is (1.0, 2.0)"),
    "word": ({"type": "linear_ener", "weights": "median", "models": [...]}, "weights is 'median'"),
    "member": (
        {"type": "linear_ener", "weights": "sum", "models": [{"descriptor": {}}]},
        "model/models/0: model/fitting_net: required",
    ),
    "frozen": ({"type": "frozen", "model_file": "missing.dp"}, "missing.dp"),
    "half": (
        {"use_srtab": "t.txt", "smin_alpha": 0.1, "sw_rmin": 0.8, ...: None},
        "model/sw_rmax: required with use_srtab",
    ),
    "order": (
        {"use_srtab": "t.txt", "smin_alpha": 0.1, "sw_rmin": 0.8, "sw_rmax": 0.7, ...: None},
        "needs 0 <= sw_rmin < sw_rmax",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "t.txt")
    section, message = copy.copy(WRONG[name])
    tree = small_input()
    plain = tree["model"]
    section = {**plain, **section} if section.pop(..., 0) is None else {"type_map": ["O", "H"], **section}
    section["models"] = [plain if each is ... else each for each in section["models"]] if "models" in section else None
    tree["model"] = {key: value for key, value in section.items() if value is not None}
    with pytest.raises(InputError, match=r"\A(?s:.*)" + re.escape(message)):
        parse_input(tree)


@pytest.mark.parametrize(
    "lines",
    [
        "0.1 1 2\n0.2 1 2\n0.3 1 2\n",
        "0.1 1 2 3\n0.2 1 2 3\n0.4 1 2 3\n",
        "0.1 a 2 3\n",
        "",
        "0.1 1 2 nan\n0.2 1 2 3\n0.3 1 2 3\n",
    ],
)
def test_wrong_table(lines, tmp_path):
    (tmp_path / "t.txt").write_text(lines)
    tree = small_input()
    tree["model"] = {
        "type": "pairtab",
        "tab_file": str(tmp_path / "t.txt"),
        "rcut": 4.0,
        "sel": 20,
        "type_map": ["O", "H"],
    }
    with pytest.raises(InputError, match="model/tab_file"):
        parse_input(tree)

"""Training with expansions equals training with the nets: growth, restarts, and where there is no expansion."""

import json
import logging
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support import TF_LATER, mark_slow
from train.small_training import largest_difference, largest_parameter_difference, run, small_input

from deepmd.adapters.contracts import checkpoint_module
from deepmd.array_model.errors import InputError
from deepmd.io import load_model
from deepmd.plan import chebyshev, expansions
from deepmd.train import planning

BACKENDS = ["torch", "tf"]
ENDING = {"torch": ".pt", "tf": ".index"}
SAME_PATH = 1e-6  # expansions and nets after many steps
UNBROKEN = 1e-10  # a restart


def input_with(evaluation, activation_function="tanh", *, large_steps=False, numb_steps=20):
    """The small input with another way to evaluate the embedding nets; None: without the key."""
    tree = small_input(numb_steps=numb_steps)
    del tree["training"]["validation_data"]
    tree["model"]["descriptor"].update(
        {"activation_function": activation_function, **({"evaluation": evaluation} if evaluation else {})}
    )
    if large_steps:
        tree["learning_rate"].update(start_lr=0.1, stop_lr=0.05)
        tree["model"]["descriptor"]["type_one_side"], tree["model"]["fitting_net"]["neuron"] = False, [6, 6]
    return tree


def terms_at(folder, step, backend):
    """What the checkpoint of a step says."""
    return max(checkpoint_module(backend).load_training(folder / f"model.ckpt-{step}{ENDING[backend]}")[1].terms)


def logged(caplog, level=logging.INFO):
    return [
        record.getMessage() for record in caplog.records if record.name == planning.__name__ and record.levelno >= level
    ]


@pytest.fixture(autouse=True)
def log_of_the_trainer(caplog):
    caplog.set_level(logging.INFO, logger=planning.__name__)


@pytest.mark.parametrize(
    ("backend", "numb_steps"), mark_slow([("torch", 20), ("torch", 200), ("tf", 200)], [("torch", 20)])
)
def test_expansions_and_nets_walk_the_same_path(tmp_path, backend, numb_steps):
    inputs = {evaluation: input_with(evaluation, numb_steps=numb_steps) for evaluation in ("direct", "spectral")}
    for tree in inputs.values():
        tree["learning_rate"]["decay_steps"] = numb_steps // 10
        tree["training"]["save_freq"] = numb_steps // 2
    rows = {evaluation: run(tmp_path / evaluation, tree, backend) for evaluation, tree in inputs.items()}
    assert len(rows["direct"]) == numb_steps // 2 + 1
    assert largest_difference(rows["direct"], rows["spectral"]) < SAME_PATH
    files = [tmp_path / evaluation / f"model.ckpt{ENDING[backend]}" for evaluation in rows]
    assert 0.0 < largest_parameter_difference(*files) < SAME_PATH
    assert terms_at(tmp_path / "direct", numb_steps, backend) == 0
    assert terms_at(tmp_path / "spectral", numb_steps, backend) > 0


@pytest.mark.parametrize("backend", TF_LATER)
def test_members_of_a_hybrid_are_expanded_unless_the_input_says_otherwise(tmp_path, backend):
    """The same path with expansions of both members, of one, and of none."""
    rows = {}
    for name, choices in {"both": (None, "auto"), "one": ("direct", None), "none": ("direct", "direct")}.items():
        tree = input_with(None, numb_steps=6)
        angles = tree["model"]["descriptor"]
        distances = {"type": "se_e2_r", "sel": [16, 32], "rcut": 3.5, "rcut_smth": 1.0, "neuron": [2, 4], "seed": 3}
        members = [
            {**each, **({"evaluation": how} if how else {})}
            for each, how in zip((angles, distances), choices, strict=True)
        ]
        tree["model"]["descriptor"] = {"type": "hybrid", "list": members}
        rows[name] = run(tmp_path / name, tree, backend)
        assert (terms_at(tmp_path / name, 6, backend) == 0) == (name == "none")
    assert largest_difference(rows["both"], rows["none"]) < SAME_PATH
    assert largest_difference(rows["one"], rows["none"]) < SAME_PATH
    assert rows["both"] != rows["one"] != rows["none"]


# -- weights that grow
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def no_headroom():
    """Every growth shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expansions, "HEADROOM", 1.0)
        yield


def growing(numb_steps=20):
    """Twenty steps or, because TensorFlow builds a graph for each growth, a few larger ones."""
    tree = input_with("spectral", large_steps=numb_steps == 20, numb_steps=numb_steps)
    if numb_steps < 20:
        tree["learning_rate"].update(start_lr=0.3, stop_lr=0.2)
        tree["training"].update(save_freq=2, disp_freq=1)
    return tree


@pytest.fixture(scope="module")
def grow(tmp_path_factory):
    """Train on a backend with steps so large that more terms are needed on the way; return folder and rows."""

    @cache
    def once(backend, numb_steps=20):
        folder = tmp_path_factory.mktemp(backend)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planning, "CHECK_FREQ", 2)
            return folder, run(folder, growing(numb_steps), backend)

    return once


@pytest.mark.parametrize("backend", TF_LATER)
def test_terms_are_added_when_the_weights_grow(grow, tmp_path, backend):
    folder, rows = grow(backend)
    terms = [terms_at(folder, step, backend) for step in (5, 10, 15, 20)]
    assert terms == sorted(terms)
    assert terms[0] < terms[1] < terms[3]
    direct = run(tmp_path, input_with("direct", large_steps=True), backend)
    assert largest_difference(rows, direct) < SAME_PATH


@pytest.mark.parametrize(
    ("backend", "step", "numb_steps"),
    mark_slow(
        [("torch", 5, 20), ("torch", 10, 20), ("torch", 15, 20), ("tf", 4, 5), ("tf", 10, 20)],
        [("torch", 5, 20), ("torch", 10, 20), ("torch", 15, 20)],  # of tf: a killed training, test_train.py
    ),
)
def test_a_restart_goes_on_as_if_unbroken(grow, tmp_path, monkeypatch, caplog, backend, step, numb_steps):
    monkeypatch.setattr(planning, "CHECK_FREQ", 2)
    folder, rows = grow(backend, numb_steps)
    caplog.clear()  # the first test of a backend has trained just now
    again = run(tmp_path, growing(numb_steps), backend, restart=str(folder / f"model.ckpt-{step}{ENDING[backend]}"))
    assert largest_difference(again, [row for row in rows if row[0] > step]) < UNBROKEN
    assert (
        largest_parameter_difference(tmp_path / f"model.ckpt{ENDING[backend]}", folder / f"model.ckpt{ENDING[backend]}")
        < UNBROKEN
    )
    assert f"expansions of {terms_at(folder, step, backend)} terms" in logged(caplog)[0]


def test_both_backends_grow_alike(grow):
    """The optimizer goes on with its moments in the graph of more terms."""
    (torch, torch_rows), (tf, tf_rows) = (grow(backend, 5) for backend in BACKENDS)
    assert terms_at(tf, 2, "tf") < terms_at(tf, 4, "tf") == terms_at(torch, 4, "torch")
    assert largest_difference(torch_rows, tf_rows) < UNBROKEN
    assert largest_parameter_difference(torch / "model.ckpt.pt", tf / "model.ckpt.index") < UNBROKEN


@pytest.mark.parametrize("more", [40, None])
def test_terms_of_a_restart_are_those_of_the_checkpoint(grow, tmp_path, caplog, more):
    """Even if fewer would do; and nets that were evaluated directly still are."""
    module: Any = checkpoint_module("torch")
    source = grow("torch")[0] / "model.ckpt-10.pt"
    content, progress = module.load_training(source)
    terms = max(progress.terms) + more if more else 0
    module.save_pt(tmp_path / "model.ckpt-10.pt", content, replace(progress, terms=(terms,)))
    run(tmp_path, growing(), "torch", restart=str(tmp_path / "model.ckpt-10.pt"))
    assert terms_at(tmp_path, 20, "torch") == terms
    assert [f"of {terms} terms" in text for text in logged(caplog)] == ([True] if more else [])


def test_nets_that_outgrow_every_expansion_are_evaluated_directly(grow, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(planning, "CHECK_FREQ", 2)
    most, needed = terms_at(grow("torch")[0], 5, "torch"), chebyshev.terms_needed

    def limited(*arguments, **options):
        count = needed(*arguments, **options)
        return count if count <= most else None

    monkeypatch.setattr(chebyshev, "terms_needed", limited)
    rows = {
        evaluation: run(tmp_path / evaluation, input_with(evaluation, large_steps=True), "torch")
        for evaluation in ("direct", "spectral")
    }
    assert [terms_at(tmp_path / "spectral", step, "torch") for step in (5, 20)] == [most, 0]
    assert any(
        "from here on embedding nets are evaluated directly: the embedding nets need more than" in text
        for text in logged(caplog)
    )
    assert largest_difference(rows["direct"], rows["spectral"]) < SAME_PATH


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((20, 20), (20, 0), ["from here on embedding nets are evaluated directly: too steep"]),
        ((20, 20), (24, 0), ["from here on embedding nets are evaluated directly: too steep", "more terms are needed"]),
        ((20, 0), (24, 0), ["more terms are needed"]),
    ],
)
def test_each_part_of_a_plan_that_changes_is_told(monkeypatch, caplog, before, after, told):
    """The first plan of two parts has the terms `before`, the next one `after`."""
    plans = iter(
        (tuple(terms and SimpleNamespace(terms=terms, tables={"closest": 0.5}) for terms in each), reason)
        for each, reason in ((before, ""), (after, "too steep"))
    )
    monkeypatch.setattr(planning, "choose_plan", lambda *_, **__: next(plans))
    planner = planning.Planner(cast(Any, None), {}, None)
    caplog.clear()
    planner.follow(cast(Any, SimpleNamespace(params=dict, replan=lambda plan: None)), planning.CHECK_FREQ)
    texts = [record.getMessage() for record in caplog.records]
    assert texts[: len(told)] == [f"step {planning.CHECK_FREQ}: {each}" for each in told]
    assert planner.terms == after


# -- what the user says, and is told
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("evaluation", "level"), [("spectral", "WARNING"), ("auto", "INFO"), (None, "INFO")])
def test_nets_without_expansion_are_trained_directly(tmp_path, caplog, evaluation, level):
    rows = run(tmp_path / "asked", input_with(evaluation, "relu", numb_steps=2), "torch")
    told = [record for record in caplog.records if record.name == planning.__name__]
    assert [(record.levelname, record.getMessage()) for record in told] == [
        (level, "embedding nets are evaluated directly: the embedding nets need more than 512 terms")
    ]
    assert terms_at(tmp_path / "asked", 2, "torch") == 0
    assert rows == run(tmp_path / "direct", input_with("direct", "relu", numb_steps=2), "torch")


def test_direct_evaluation_is_nothing_to_talk_about(tmp_path, caplog):
    run(tmp_path, input_with("direct", numb_steps=2), "torch")
    assert logged(caplog) == []


@pytest.mark.parametrize("evaluation", ["spektral", 1.5, ""])
def test_unknown_values_are_refused_before_anything_happens(tmp_path, evaluation):
    tree = small_input()
    tree["model"]["descriptor"]["evaluation"] = evaluation
    with pytest.raises(InputError, match="model/descriptor"):
        run(tmp_path, tree, "torch")
    assert [path.name for path in tmp_path.iterdir()] == ["input.json"]


@pytest.mark.parametrize(
    ("backend", "evaluation"),
    [
        *(("torch", each) for each in (None, "auto", "spectral", "direct")),
        pytest.param("tf", None, marks=pytest.mark.slow),  # both checkpoints store the same text
    ],
)
def test_files_have_the_key_only_where_it_says_something(tmp_path, backend, evaluation):
    """DeePMD-kit refuses inputs with keys that it does not know."""
    run(tmp_path, input_with(evaluation, numb_steps=0), backend)
    sections = (
        json.loads((tmp_path / "out.json").read_text())["model"],
        load_model(tmp_path / f"model.ckpt-0{ENDING[backend]}").definition,
    )
    for section in sections:
        assert section["descriptor"].get("evaluation") == (None if evaluation == "auto" else evaluation)
    assert load_model(tmp_path / f"model.ckpt-0{ENDING[backend]}").plan is None

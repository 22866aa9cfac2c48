"""Training and files of se_e2_a with a type embedding."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from support import TF_LATER, mark_slow, options
from tolerances import assert_close
from train.small_training import largest_difference, run, small_input

from deepmd.adapters.contracts import checkpoint_module
from deepmd.array_model.components import descriptors_of, exchange_descriptors
from deepmd.array_model.errors import InputError
from deepmd.array_model.models.linear import LinearModel
from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io import convert, load_model
from deepmd.io.train_input import parse_input
from deepmd.io.write_input import input_tree
from deepmd.train import prepare
from deepmd.train.trainable import find_copies, find_shared, tie_shared_vectors

# torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")


def input_with_types(kind):
    tree = small_input(numb_steps=4)
    del tree["training"]["validation_data"]
    model = tree["model"]
    model["descriptor"].update(neuron=[4], type_one_side=False)
    model["type_embedding"] = {"neuron": [2, 3], "seed": 4}
    if kind == "hybrid":
        model["descriptor"] = {
            "type": "hybrid",
            "list": [model["descriptor"], {**model["descriptor"], "rcut": 3.5, "seed": 3}],
        }
    return tree


@pytest.mark.parametrize("kind", mark_slow(["alone", "hybrid"], ["alone"]))
def test_backends_walk_the_same_path(tmp_path, kind):
    rows = {backend: run(tmp_path / backend, input_with_types(kind), backend) for backend in ("torch", "tf")}
    assert largest_difference(rows["torch"], rows["tf"]) < 1e-8
    sources = [tmp_path / "torch" / "model.ckpt.pt", tmp_path / "tf" / "model.ckpt.index"]
    assert all(load_model(source).definition["type_embedding"]["neuron"] == [2, 3] for source in sources)
    again = descriptors_of(parse_input({**input_with_types(kind), "model": load_model(sources[0]).definition}).model)
    assert [part.types.neuron for part in map(options, again)] == [
        part.types.neuron for part in map(options, descriptors_of(load_model(sources[0]).model))
    ]


@pytest.mark.parametrize(
    ("kind", "suffixes"),
    mark_slow(
        [(kind, suffixes) for kind in ("alone", "hybrid") for suffixes in ((".dp", ".yaml"), (".pth", ".pb"))],
        [("hybrid", (".dp", ".yaml"))],
    ),
)
def test_files_keep_the_model(tmp_path, kind, suffixes):
    tree = input_with_types(kind)
    tree["training"]["numb_steps"] = 1
    run(tmp_path, tree, "torch")
    source = tmp_path / "model.ckpt.pt"
    for suffix in suffixes:
        convert(source, tmp_path / f"model{suffix}")
        stored, trained = load_model(tmp_path / f"model{suffix}"), load_model(source)
        assert stored.model == trained.model
        assert all((leaf == flatten(stored.params)[path]).all() for path, leaf in flatten(trained.params).items())


def embeddings(params):
    return [flatten(member["type_embedding"]) for member in params["descriptor"]["members"]]


def moments_after_a_step(folder, tree, backend):
    """First moments of the embeddings, by member; there are none of what is not trained."""
    run(folder, tree, backend)
    found = (
        checkpoint_module(backend)
        .load_training(folder / f"model.ckpt-1{'.pt' if backend == 'torch' else ''}")[1]
        .moments
    )
    where = re.compile(r"m/descriptor/members/(\d)/type_embedding/(.*)")
    return {match.groups(): value for name, value in found.items() if (match := where.fullmatch(name))}


@pytest.mark.parametrize("backend", TF_LATER)
def test_members_of_a_hybrid_have_one_embedding(tmp_path, monkeypatch, backend):
    """The embedding is that of the model: its gradient is the sum over the members, and a restart goes on with it."""
    tree = input_with_types("hybrid")
    tree["training"].update(numb_steps=1, save_freq=1)
    one = moments_after_a_step(tmp_path / "one", tree, backend)
    with monkeypatch.context() as patched:
        patched.setattr(prepare, "find_shared", lambda model, params: {})
        each = moments_after_a_step(tmp_path / "each", tree, backend)
    assert {name for _, name in one} == {name for _, name in each}
    for member, name in one:
        assert member == "0"
        assert_close(one["0", name], each["0", name] + each["1", name], "gradient")
    tree["training"]["numb_steps"] = 4
    ending = ".pt" if backend == "torch" else ""
    run(tmp_path / "one", tree, backend, restart=str(tmp_path / "one" / f"model.ckpt-1{ending}"))
    start, end = (embeddings(load_model(tmp_path / "one" / f"model.ckpt-{step}{ending}").params) for step in (1, 4))
    assert all((leaf == end[1][path]).all() for path, leaf in end[0].items())
    assert any((leaf != start[0][path]).any() for path, leaf in end[0].items())


def test_copies_without_a_seed_are_equal_and_those_that_differ_are_trained_apart():
    model = parse_input(input_with_types("hybrid")).model
    model = exchange_descriptors(
        model, (replace(part, types=replace(part.types, seed=None)) for part in map(options, descriptors_of(model)))
    )
    params = model.init(np.random.default_rng, xp=plain)
    assert len(find_copies(model, params)) == len(embeddings(params)[0]) > 0
    assert find_shared(model, params) == {}
    first, second = embeddings(tie_shared_vectors(model, params))
    assert all((leaf == second[path]).all() for path, leaf in first.items())
    assert find_shared(model, tie_shared_vectors(model, params)) == find_copies(model, params)


def test_models_of_a_sum_have_their_own():
    model = parse_input(input_with_types("alone")).model
    both = LinearModel(model.type_map, (model, model))
    assert find_copies(both, both.init(np.random.default_rng, xp=plain)) == {}


@pytest.mark.parametrize("kinds", [["se_e2_r"], ["se_e2_a", "se_e3_tebd"]])
def test_descriptors_that_cannot_read_it(kinds):
    tree = input_with_types("alone")
    sizes = {"sel": [24, 40], "rcut": 4.0}
    tree["model"]["descriptor"] = {"type": "hybrid", "list": [{"type": kind, **sizes} for kind in kinds]}
    with pytest.raises(
        InputError, match=f"model/type_embedding: is for .* se_atten, and hybrids of these; not for {', '.join(kinds)}"
    ):
        parse_input(tree)


def test_se_atten_takes_the_width_of_the_net(caplog):
    """Its vectors come from a linear layer of its own, alone and beside se_e2_a."""
    tree = input_with_types("alone")
    sizes = {"sel": [24, 40], "rcut": 4.0}
    tree["model"]["descriptor"] = {"type": "se_atten_v2", **sizes}
    (part,) = map(options, descriptors_of(parse_input(tree).model))
    assert (part.tebd_dim, part.use_tebd_bias) == (3, False)
    assert "se_atten has a linear layer of its own" in caplog.text
    tree["model"]["type_embedding"].update(use_tebd_bias=True, activation_function="Linear", neuron=[5])
    tree["model"]["descriptor"] = {
        "type": "hybrid",
        "list": [{"type": kind, **sizes} for kind in ("se_e2_a", "se_atten", "se_e2_r")],
    }
    caplog.clear()
    given = parse_input(tree)
    parts = list(map(options, descriptors_of(given.model)))
    assert [part.kind for part in parts] == ["se_e2_a_typed", "se_atten", "se_e2_r"]
    assert (parts[1].tebd_dim, parts[1].use_tebd_bias) == (5, True)
    assert "linear layer" not in caplog.text
    assert parse_input(input_tree(given)) == given
    tree["model"]["type_embedding"]["trainable"] = False
    with pytest.raises(InputError, match="model/type_embedding: trainable is False; accepted: that of the descriptor"):
        parse_input(tree)

"""Training and files of se_e2_a with a type embedding."""

from __future__ import annotations

import pytest
from small_training import largest_difference, run, small_input

from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.io import convert, load_model
from deepmd.io.train_input import parse_input

# torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")


def input_with_types(kind):
    tree = small_input()
    model = tree["model"]
    model["type_embedding"] = {"neuron": [2, 3], "seed": 4}
    if kind == "hybrid":
        model["descriptor"] = {"type": "hybrid", "list": [model["descriptor"], {**model["descriptor"], "rcut": 3.5, "seed": 3}]}
    return tree


@pytest.mark.parametrize("kind", ["alone", "hybrid"])
def test_backends_walk_the_same_path_and_files_keep_the_model(tmp_path, kind):
    rows = {backend: run(tmp_path / backend, input_with_types(kind), backend) for backend in ("torch", "tf")}
    assert largest_difference(rows["torch"], rows["tf"]) < 1e-8
    sources = [tmp_path / "torch" / "model.ckpt.pt", tmp_path / "tf" / "model.ckpt.index"]
    assert all(load_model(source).definition["type_embedding"]["neuron"] == [2, 3] for source in sources)
    again = parse_input({**input_with_types(kind), "model": load_model(sources[0]).definition}).model.descriptor.parts()
    assert [part.types.neuron for part in again] == [part.types.neuron for part in load_model(sources[0]).model.descriptor.parts()]
    for suffix in (".dp", ".yaml", ".pth", ".pb"):
        convert(sources[0], tmp_path / f"model{suffix}")
        stored, trained = load_model(tmp_path / f"model{suffix}"), load_model(sources[0])
        assert stored.model == trained.model
        assert all((leaf == flatten(stored.params)[path]).all() for path, leaf in flatten(trained.params).items())


@pytest.mark.parametrize("kinds", [["se_e2_r"], ["se_e2_a", "se_atten"]])
def test_descriptors_that_cannot_read_it(kinds):
    tree = input_with_types("alone")
    sizes = {"sel": [24, 40], "rcut": 4.0}
    tree["model"]["descriptor"] = {"type": "hybrid", "list": [{"type": kind, **sizes} for kind in kinds]}
    with pytest.raises(InputError, match=f"model/type_embedding: is for .* se_e2_a, and hybrids of these; not for {', '.join(kinds)}"):
        parse_input(tree)

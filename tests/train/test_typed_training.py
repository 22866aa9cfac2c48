"""Training and files of se_e2_a with a type embedding."""

from __future__ import annotations

import pytest
from small_training import largest_difference, run, small_input

from deepmd.array_model.tree import flatten
from deepmd.io import convert, load_model

# torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")


def input_with_types(**options):
    tree = small_input()
    tree["model"]["type_embedding"] = {"neuron": [2, 3], "seed": 4, **options}
    return tree


def test_backends_walk_the_same_path_and_files_keep_the_model(tmp_path):
    rows = {backend: run(tmp_path / backend, input_with_types(), backend) for backend in ("torch", "tf")}
    assert largest_difference(rows["torch"], rows["tf"]) < 1e-8
    sources = [tmp_path / "torch" / "model.ckpt.pt", tmp_path / "tf" / "model.ckpt.index"]
    assert all(load_model(source).definition["type_embedding"]["neuron"] == [2, 3] for source in sources)
    for suffix in (".dp", ".yaml", ".pth", ".pb"):
        convert(sources[0], tmp_path / f"model{suffix}")
        stored, trained = load_model(tmp_path / f"model{suffix}"), load_model(sources[0])
        assert stored.model == trained.model
        assert all((leaf == flatten(stored.params)[path]).all() for path, leaf in flatten(trained.params).items())

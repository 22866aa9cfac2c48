"""The shipped example: fifty steps on torch and on TensorFlow are the same training."""

import json

import pytest
from train.small_training import WATER, largest_difference, largest_parameter_difference, run

SAME_PATH = 1e-8


@pytest.mark.slow
def test_fifty_steps_of_the_example_agree(tmp_path):
    tree = json.loads((WATER.parent / "input.json").read_text())
    tree["training"].update(numb_steps=50, disp_freq=5, save_freq=50)
    for section in ("training_data", "validation_data"):
        tree["training"][section]["systems"] = [
            str(WATER.parent / name) for name in tree["training"][section]["systems"]
        ]
    rows = {backend: run(tmp_path / backend, tree, backend) for backend in ("torch", "tf")}
    assert len(rows["torch"]) == 11
    assert largest_difference(rows["torch"], rows["tf"]) < SAME_PATH
    assert (
        largest_parameter_difference(tmp_path / "torch" / "model.ckpt.pt", tmp_path / "tf" / "model.ckpt.index")
        < SAME_PATH
    )

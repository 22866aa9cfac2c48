"""Fresh weights equal DeePMD-kit's from the same seeds, bit for bit (docs/theory/networks.md#fresh-weights)."""

import json
from pathlib import Path

import numpy as np
import pytest

from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io import load_model
from deepmd.io.train_input import parse_input

FOLDER = Path(__file__).parent
FITTED = ("davg", "dstd", "out_bias")
"""What has been changed after the weights were drawn."""


@pytest.mark.parametrize("case", ["se_e2_a", "se_e2_r", "se_e3", "hybrid", "se_e3_tebd"])
def test_equal_those_of_deepmd_kit(case):
    section = json.loads((FOLDER / case / "model.json").read_text())
    training = {"numb_steps": 1, "training_data": {"systems": "data"}}
    model = parse_input({"model": section, "learning_rate": {"start_lr": 1e-3}, "training": training}).model
    drawn, stored = (
        flatten(params)
        for params in (model.init(np.random.default_rng, xp=plain), load_model(FOLDER / case / "model.dp").params)
    )
    assert drawn.keys() == stored.keys()
    assert [
        path for path in stored if not path.endswith(FITTED) and not np.array_equal(drawn[path], stored[path])
    ] == []

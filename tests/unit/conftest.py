"""Fixtures of several files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
WATER = ROOT / "examples" / "water" / "data" / "water_330a"
MODEL = ROOT / "tests" / "golden" / "se_e2_a" / "model.dp"


@pytest.fixture
def place(tmp_path):
    """A folder with a good input, a good system of three frames and a good model."""
    system = tmp_path / "water" / "set.000"
    system.mkdir(parents=True)
    for name in ("type.raw", "type_map.raw"):
        shutil.copy(WATER / name, tmp_path / "water" / name)
    for name in ("box", "coord", "energy", "force", "virial"):
        np.save(system / f"{name}.npy", np.load(WATER / "set.000" / f"{name}.npy")[:3])
    tree = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [24, 40],
                "rcut": 4.0,
                "neuron": [2, 4],
                "axis_neuron": 2,
                "seed": 1,
            },
            "fitting_net": {"neuron": [4], "seed": 1},
        },
        "learning_rate": {"start_lr": 1e-3},
        "training": {"numb_steps": 1, "seed": 1, "training_data": {"systems": ["water"], "batch_size": 1}},
    }
    (tmp_path / "input.json").write_text(json.dumps(tree))
    shutil.copy(MODEL, tmp_path / "model.dp")
    return tmp_path

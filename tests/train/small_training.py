"""A small training on the water example, and readers of what it leaves."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np

from deepmd.array_model.tree import flatten
from deepmd.io import load_model
from deepmd.train.main import train

WATER = Path(__file__).parents[2] / "examples" / "water" / "data"


def small_input(**training):
    """An input that a step of takes a few milliseconds."""
    return {
        "model": {
            "type_map": ["O", "H"],
            "data_stat_nbatch": 2,
            "descriptor": {
                "type": "se_e2_a",
                "sel": [24, 40],
                "rcut": 4.0,
                "rcut_smth": 1.0,
                "neuron": [3, 6],
                "axis_neuron": 2,
                "type_one_side": True,
                "seed": 1,
            },
            "fitting_net": {"neuron": [6], "seed": 2},
        },
        "learning_rate": {"start_lr": 5e-3, "stop_lr": 1e-4, "decay_steps": 3},
        "loss": {"start_pref_v": 0.1, "limit_pref_v": 1.0},
        "training": {
            "numb_steps": 14,
            "seed": 5,
            "disp_freq": 2,
            "save_freq": 5,
            "training_data": {"systems": [str(WATER / "water_330a"), str(WATER / "water_600")], "batch_size": 1},
            "validation_data": {"systems": [str(WATER / "water_330b")], "batch_size": 1, "numb_btch": 2},
            **training,
        },
    }


def few_frames(folder, name, count):
    """Copy the first frames of a water system; return its path."""
    folder = Path(shutil.copytree(WATER / name, folder))
    for path in (folder / "set.000").glob("*.npy"):
        np.save(path, np.load(path)[:count])
    return str(folder)


def run(folder, tree, backend, **options):
    """Train in this process; return the unrounded rows of the learning curve."""
    folder.mkdir(exist_ok=True)
    (folder / "input.json").write_text(json.dumps(tree))
    rows = []
    with chdir(folder):
        options = {"skip_neighbor_stat": True, **options}
        train("input.json", backend=backend, on_row=lambda *row: rows.append(row), **options)
    return rows


def run_killed(folders, tree, backend):
    """Train in processes that kill themselves, {folder: where}; return the signals that ended them."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / "input.json").write_text(json.dumps(tree))
    task = {"backend": backend, "folders": {str(folder): die for folder, die in folders.items()}}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "driver.py"), json.dumps(task)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def largest_difference(rows, others):
    """Largest relative difference between two lists of rows; they must have the same steps and quantities."""
    assert [row[0] for row in rows] == [row[0] for row in others]
    worst = 0.0
    for (_, train_a, valid_a, lr_a), (_, train_b, valid_b, lr_b) in zip(rows, others, strict=True):
        a = [*train_a.values(), *(valid_a or {}).values(), lr_a]
        b = [*train_b.values(), *(valid_b or {}).values(), lr_b]
        worst = max(worst, float(np.max(np.abs(np.array(a) / np.array(b) - 1.0))))
    return worst


def largest_parameter_difference(path, other):
    """Largest difference between the parameters of two files, relative to the largest value of each parameter."""
    a, b = flatten(load_model(path).params), flatten(load_model(other).params)
    assert list(a) == list(b)
    return max(float(np.abs(a[key] - b[key]).max() / max(np.abs(a[key]).max(), 1e-30)) for key in a)

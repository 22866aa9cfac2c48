"""A small model of water, trained by us, and a structure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from interop.kit import ROOT, Frame

from deepmd.io import load_model, save_model

DATA = ROOT / "examples/water/data"


def run_dp(folder: Path, *words: str) -> str:
    """Run our `dp` in a folder and return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "deepmd", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def train_model(folder: Path, steps: int = 100, start_lr: float = 0.001) -> Path:
    """Train for some steps and write model.dp, .yaml, .pth and .pb; return the folder."""
    folder.mkdir()
    options = json.loads((ROOT / "examples/water/input.json").read_text())
    options["model"]["descriptor"].update(neuron=[8, 16], axis_neuron=4)
    options["model"]["fitting_net"].update(neuron=[24, 24])
    options["learning_rate"]["start_lr"] = start_lr
    training = options["training"]
    training["training_data"]["systems"] = [
        str(DATA / Path(path).name) for path in training["training_data"]["systems"]
    ]
    del training["validation_data"]
    training.update(numb_steps=steps, disp_freq=steps, save_freq=steps)
    (folder / "input.json").write_text(json.dumps(options))
    run_dp(folder, "--pt", "train", "input.json")
    run_dp(folder, "--pt", "freeze", "-o", "model.pth")
    content = load_model(folder / "model.pth")
    for suffix in ("dp", "yaml", "pb"):
        save_model(folder / f"model.{suffix}", content)
    return folder


def water_frame() -> Frame:
    """Return a frame of the training data, 96 atoms, wrapped into its cell."""
    folder = DATA / "water_330a"
    coord, cell = (np.load(folder / f"set.000/{name}.npy")[0].reshape(-1, 3) for name in ("coord", "box"))
    return Frame(coord @ np.linalg.inv(cell) % 1.0 @ cell, np.loadtxt(folder / "type.raw", dtype=int), cell)

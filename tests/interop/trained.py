"""Models that DeePMD-kit trains for a few steps: the variants, and how its programs are run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "examples" / "water" / "data" / "water_330a"

TYPES = ["O", "H"]
DESCRIPTOR = {
    "type": "se_e2_a",
    "sel": [16, 32],
    "rcut": 3.7,
    "rcut_smth": 0.6,
    "neuron": [4, 8, 16],
    "axis_neuron": 4,
    "seed": 1,
}
FITTING = {"neuron": [12, 12], "seed": 1}

VARIANTS: dict[str, tuple] = {
    # name: (changes of model, descriptor, fitting_net, backends of DeePMD-kit)
    "plain": ({}, {"type_one_side": True}, {}, "tf pt"),
    "two_side": (
        {},
        {"resnet_dt": True, "neuron": [6, 6, 12], "activation_function": "gelu"},
        {"resnet_dt": False},
        "tf pt",
    ),
    "two_side_excluded": (
        {},
        {"exclude_types": [[0, 1]], "set_davg_zero": True},
        {"activation_function": "softplus"},
        "tf pt",
    ),
    "excluded": ({}, {"exclude_types": [[0, 0]], "type_one_side": True, "activation_function": "sigmoid"}, {}, "tf pt"),
    "excluded_unlike": ({}, {"exclude_types": [[0, 1]], "type_one_side": True}, {}, "tf pt"),
    "parameters": (
        {},
        {"type_one_side": True},
        {"numb_fparam": 2, "numb_aparam": 1, "activation_function": "relu6"},
        "tf pt",
    ),
    "float32": ({}, {"type_one_side": True, "precision": "float32"}, {"precision": "float32"}, "tf pt"),
    "unseen": (
        {"type_map": ["O", "H", "Na"]},
        {"sel": [16, 32, 4]},
        {"atom_ener": [-1.0, None, 0.5], "neuron": [12, 12, 6]},
        "tf pt",
    ),
    "older": (
        {},
        {"type": "se_a", "neuron": [4, 8], "axis_neuron": None, "n_axis_neuron": 2},
        {"neuron": None, "n_neuron": [12]},
        "tf pt",
    ),
    "distances": ({}, {"type": "se_e2_r", "axis_neuron": None, "type_one_side": True, "resnet_dt": True}, {}, "tf"),
    "distances_excluded": (
        {},
        {"type": "se_e2_r", "axis_neuron": None, "type_one_side": True, "exclude_types": [[0, 1]]},
        {},
        "tf",
    ),
    "distances_two_side": ({}, {"type": "se_e2_r", "axis_neuron": None}, {}, "tf"),
    "distances_two_side_excluded": (
        {},
        {"type": "se_e2_r", "axis_neuron": None, "exclude_types": [[0, 1]], "resnet_dt": True},
        {},
        "tf",
    ),
    "triples": ({}, {"type": "se_e3", "axis_neuron": None, "sel": [8, 16], "rcut": 2.9}, {"numb_fparam": 1}, "tf"),
    "pair_excluded": (
        {"pair_exclude_types": [[1, 1]]},
        {"env_protection": 0.01, "activation_function": "silut"},
        {},
        "pt",
    ),
    "atom_excluded": (
        {"atom_exclude_types": [1]},
        {"type_one_side": True},
        {"numb_fparam": 1, "default_fparam": [0.3]},
        "pt",
    ),
}

SUFFIXES = {"tf": ("pb", ""), "pt": ("pth", ".pt")}
"""Suffix of frozen models and of checkpoints."""


def program(kit: Path, *words: str, cwd: Path) -> None:
    """Run a program of DeePMD-kit's environment."""
    library = next(kit.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib"), Path())
    own = {
        "OMP_NUM_THREADS": "1",
        "DP_INTRA_OP_PARALLELISM_THREADS": "1",
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    env = {**os.environ, **own, "LD_LIBRARY_PATH": str(library), "CUDA_VISIBLE_DEVICES": ""}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(kit / "bin" / words[0]), *words[1:]], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def model_section(name: str) -> dict:
    """Return the `model` section of a variant; a key that is changed to None is left out."""
    model, descriptor, fitting, _ = VARIANTS[name]
    parts = {"descriptor": {**DESCRIPTOR, **descriptor}, "fitting_net": {**FITTING, **fitting}}
    return {
        "type_map": TYPES,
        **model,
        **{key: {k: v for k, v in part.items() if v is not None} for key, part in parts.items()},
    }


def training_input(name: str, steps: int) -> dict:
    """Return a whole input."""
    loss = {
        "start_pref_e": 0.02,
        "limit_pref_e": 1,
        "start_pref_f": 1000,
        "limit_pref_f": 1,
        "start_pref_v": 0,
        "limit_pref_v": 0,
    }
    data = {"training_data": {"systems": ["data"], "batch_size": 1}}
    return {
        "model": model_section(name),
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-5, "decay_steps": 20},
        "loss": {"type": "ener", **loss},
        "training": {
            **data,
            "numb_steps": steps,
            "seed": 1,
            "disp_freq": steps,
            "save_freq": steps,
            "save_ckpt": "model.ckpt",
        },
    }


def prepare(folder: Path, name: str) -> None:
    """Copy data into a folder, with the frame and atomic parameters of a variant."""
    shutil.copytree(DATA, folder / "data")
    fitting, draw, frames = VARIANTS[name][2], np.random.default_rng(0), len(np.load(DATA / "set.000" / "energy.npy"))
    natoms = len(np.loadtxt(DATA / "type.raw"))
    for kind, count in (("fparam", 1), ("aparam", natoms)):
        if size := fitting.get(f"numb_{kind}", 0):
            np.save(folder / "data" / "set.000" / f"{kind}.npy", draw.normal(1.0, 0.5, (frames, count * size)))


def train(kit: Path, folder: Path, name: str, backend: str, steps: int) -> None:
    """Let DeePMD-kit train and freeze a variant in a folder of its own."""
    folder.mkdir(parents=True)
    prepare(folder, name)
    (folder / "input.json").write_text(json.dumps(training_input(name, steps)))
    program(kit, "dp", f"--{backend}", "train", "input.json", "--skip-neighbor-stat", cwd=folder)
    program(kit, "dp", f"--{backend}", "freeze", "-o", "frozen", cwd=folder)


EVALUATE = """
import json, sys
import numpy as np
from deepmd.infer import DeepPot

for model, given, out in json.load(open(sys.argv[1])):
    arrays = dict(np.load(given))
    coord, cell, types = arrays.pop("coord"), arrays.pop("cell", None), arrays.pop("type")
    values = DeepPot(model).eval(coord, cell, types, atomic=True, **arrays)
    np.savez(out, **dict(zip(("energy", "force", "virial", "atom_energy", "atom_virial"), values)))
"""


def evaluate(kit: Path, jobs: list[tuple[str, str, str]], folder: Path) -> None:
    """Let DeePMD-kit evaluate (model, file of inputs, file of outputs), all in one process."""
    (folder / "evaluate.py").write_text(EVALUATE)
    (folder / "jobs.json").write_text(json.dumps([[str(Path(part).resolve()) for part in job] for job in jobs]))
    program(kit, "python", "evaluate.py", "jobs.json", cwd=folder)


def frame(name: str) -> dict[str, np.ndarray]:
    """Return a periodic frame with the parameters that a variant needs."""
    draw, fitting = np.random.default_rng(5), VARIANTS[name][2]
    types = np.loadtxt(DATA / "type.raw", dtype=int)
    out = {
        "coord": np.load(DATA / "set.000" / "coord.npy")[-1:].astype(float),
        "cell": np.load(DATA / "set.000" / "box.npy")[-1:].astype(float),
    }
    out["type"] = types
    for kind, count in (("fparam", 1), ("aparam", len(types))):
        if size := fitting.get(f"numb_{kind}", 0):
            out[kind] = draw.normal(1.0, 0.5, (1, count * size))
    return out

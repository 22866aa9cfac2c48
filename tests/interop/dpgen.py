"""A small job of DP-GEN: water, models of a few neurons, exploration by LAMMPS, labels by GFN1-xTB."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from interop.kit import ROOT, Kit

MODELS, ITERATIONS, STEPS, SAVED = 2, 2, 300, 100
LABEL = Path(__file__).with_name("label.py")
MOLECULE = np.array([[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.2400, 0.9266, 0.0]])
"""O, H, H; Angstrom."""

SPACING, SIDE = 3.1, 2
"""Distance of the molecules in Angstrom, and molecules along an edge of the cell."""


def find_dpgen() -> Path | None:
    """Return the environment with DP-GEN that DPGEN_ENV names, or the one that `make interop` makes."""
    home = Path(os.environ.get("DPGEN_ENV", ROOT / ".venv-dpgen"))
    return home.absolute() if (home / "bin/dpgen").exists() else None


def write_poscar(path: Path, seed: int) -> None:
    """Write water molecules on a grid, each turned at random, O before H."""
    rng = np.random.default_rng(seed)
    corner = SPACING * np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in corner]
    atoms = corner + np.stack([MOLECULE @ turn for turn in turns]) + rng.normal(0.0, 0.03, (len(corner), 3, 3))
    ordered = np.concatenate([atoms[:, 0], atoms[:, 1:].reshape(-1, 3)])
    lines = ["water", "1.0", *(" ".join(map(str, row)) for row in SPACING * SIDE * np.eye(3))]
    lines += ["O H", f"{len(corner)} {2 * len(corner)}", "Cartesian", *(" ".join(map(str, row)) for row in ordered)]
    path.write_text("\n".join(lines) + "\n")


def prepare(folder: Path, home: Path, kit: Kit, backend: str | None) -> None:
    """Write the structures, a first data set, param.json and machine.json; `backend` None leaves DP-GEN's default."""
    for number in range(6):
        task = folder / f"init/task.{number}"
        task.mkdir(parents=True)
        write_poscar(task / "POSCAR", number)
        subprocess.run([home / "bin/python", LABEL], cwd=task, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    (folder / "structures").mkdir()
    write_poscar(folder / "structures/POSCAR", 99)
    (folder / "param.json").write_text(json.dumps(_param(backend), indent=1))
    (folder / "machine.json").write_text(json.dumps(_machine(home, kit), indent=1))


def _param(backend: str | None) -> dict[str, Any]:
    exploration = {"sys_idx": [0], "temps": [200], "trj_freq": 5, "nsteps": 40, "ensemble": "nvt"}
    training = {
        "model": {
            "descriptor": {
                "type": "se_a",
                "sel": [24, 48],
                "rcut": 4.0,
                "rcut_smth": 1.0,
                "neuron": [4, 8],
                "axis_neuron": 4,
            },
            "fitting_net": {"neuron": [16, 16]},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.005, "decay_steps": 50, "stop_lr": 1e-5},
        "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
        "training": {"numb_steps": STEPS, "disp_file": "lcurve.out", "disp_freq": SAVED, "save_freq": SAVED},
    }
    return {
        "type_map": ["O", "H"],
        "mass_map": [15.999, 1.008],
        "init_data_prefix": "init",
        "init_data_sys": [f"task.{number}/labelled" for number in range(6)],
        "sys_configs_prefix": "structures",
        "sys_configs": [["POSCAR"]],
        "numb_models": MODELS,
        "default_training_param": training,
        "dp_compress": True,
        "training_reuse_iter": 1,
        "training_reuse_numb_steps": STEPS,
        "model_devi_dt": 0.0005,
        "model_devi_skip": 0,
        "model_devi_f_trust_lo": 0.001,
        "model_devi_f_trust_hi": 100.0,
        "model_devi_jobs": [{**exploration, "_idx": f"{number:02d}"} for number in range(ITERATIONS)],
        "fp_style": "custom",
        "fp_task_max": 2,
        "fp_task_min": 1,
        "fp_params": {
            "input_fmt": "vasp/poscar",
            "input_fn": "POSCAR",
            "output_fmt": "deepmd/npy",
            "output_fn": "labelled",
        },
        **({} if backend is None else {"train_backend": backend}),
    }


def _machine(home: Path, kit: Kit) -> dict[str, Any]:
    commands = {
        "train": f"env PYTHONPATH={ROOT} {sys.executable} -m deepmd",
        "model_devi": str(kit.home / "bin/lmp"),
        "fp": f"{home / 'bin/python'} {LABEL}",
    }
    return {"api_version": "1.0", "deepmd_version": "3.0.0"} | {
        step: [
            {
                "command": shlex.join(shlex.split(command)),
                "machine": {
                    "batch_type": "Shell",
                    "context_type": "LocalContext",
                    "local_root": "./",
                    "remote_root": "./work",
                },
                "resources": {"number_node": 1, "cpu_per_node": 1, "gpu_per_node": 0, "group_size": 4},
            }
        ]
        for step, command in commands.items()
    }

"""DeePMD-kit in its own environment: how its processes are started, and what they are asked to do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent

NOT_INHERITED = ("MALLOC_", "OMP_", "OPENBLAS_", "MKL_", "TF_", "DP_", "TORCH", "PYTHONPATH", "LD_LIBRARY_PATH")

EVALUATE = """
import json, sys
import numpy as np
from deepmd.infer import DeepPot

out, models = {}, {}
arrays = np.load("inputs.npz")
for name, path in json.load(open("jobs.json")).items():
    names = ("coord", "types", "cell", "fparam", "aparam", "charge_spin")
    given = {key: arrays[f"{name}|{key}"] for key in names if f"{name}|{key}" in arrays}
    if path not in models:
        models = {path: DeepPot(path)}
    coord, types, cell = given.pop("coord"), given.pop("types"), given.pop("cell", None)
    values = models[path].eval(coord[None], None if cell is None else cell[None], types.tolist(), atomic=True, **given)
    for key, value in zip(("energy", "force", "virial", "atom_energy", "atom_virial"), values):
        out[f"{name}|{key}"] = value[0]
np.savez("outputs.npz", **out)
"""

MEASURE = """
import json, resource, sys
import numpy as np
from deepmd.infer import DeepPot

arrays = np.load(sys.argv[2])
DeepPot(sys.argv[1]).eval(arrays["coord"][None], arrays["cell"][None], arrays["types"].tolist())
print(json.dumps({"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


@dataclass(frozen=True)
class Frame:
    """One structure: coord (n, 3) and cell (3, 3) in Angstrom, or None for an open boundary; types (n,).

    Parameters of the frame and atoms.
    """

    coord: np.ndarray
    types: np.ndarray
    cell: np.ndarray | None = None
    fparam: np.ndarray | None = None
    aparam: np.ndarray | None = None
    charge_spin: np.ndarray | None = None

    def fields(self) -> dict[str, np.ndarray]:
        """Return what is there."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Kit:
    """DeePMD-kit with LAMMPS in the environment at `home`."""

    home: Path

    def run(self, command: Sequence[Any], folder: Path, limit: float = 900.0) -> str:
        """Run a program of the environment in a folder, on one thread, and return what it printed.

        Raises
        ------
        AssertionError
            It failed; the message is the end of what it printed.
        """
        libraries = self.home.glob(
            "lib/python*/site-packages/nvidia/cuda_runtime/lib"
        )  # its torch operators are linked to it
        threads = ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)
        } | dict.fromkeys(threads, "1")
        environment |= {
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
            "CUDA_VISIBLE_DEVICES": "",
        }
        done = subprocess.run(
            [str(self.home / "bin" / str(command[0])), *map(str, command[1:])],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
        )
        assert done.returncode == 0, (
            f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-4000:]}"
        )
        return done.stdout

    def evaluate(self, jobs: dict[str, tuple[Path, Frame]], folder: Path) -> dict[str, dict[str, np.ndarray]]:
        """Return what its DeepPot gives for {name: (model file, structure)}.

        Everything in one process, but for SavedModels: its reader of `.pb` switches off what its reader of those needs.
        """
        outputs: dict[str, dict[str, np.ndarray]] = {name: {} for name in jobs}
        for part in (True, False):
            some = {name: job for name, job in jobs.items() if (job[0].suffix == ".savedmodeltf") is part}
            if some:
                self._evaluate(some, folder / ("savedmodels" if part else "files"), outputs)
        return outputs

    def _evaluate(
        self, jobs: dict[str, tuple[Path, Frame]], folder: Path, outputs: dict[str, dict[str, np.ndarray]]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        inputs = {f"{name}|{key}": value for name, (_, frame) in jobs.items() for key, value in frame.fields().items()}
        np.savez(folder / "inputs.npz", **inputs)
        (folder / "jobs.json").write_text(json.dumps({name: str(path) for name, (path, _) in jobs.items()}))
        self.run(["python", "-c", EVALUATE], folder)
        for key, value in np.load(folder / "outputs.npz").items():
            name, quantity = key.split("|")
            outputs[name][quantity] = value

    def peak_memory(self, model: Path, structure: Path) -> int:
        """Return the largest memory in bytes of a process that evaluates one structure."""
        printed = self.run(["python", "-c", MEASURE, model, structure], structure.parent)
        return int(json.loads(printed.splitlines()[-1])["peak"])


def find_kit() -> Kit | None:
    """Return the environment that DEEPMD_KIT_ENV names, or the one that make has made in the checkout."""
    home = Path(os.environ.get("DEEPMD_KIT_ENV") or ROOT / ".venv-deepmd-kit").absolute()
    return Kit(home) if (home / "bin/dp").exists() else None

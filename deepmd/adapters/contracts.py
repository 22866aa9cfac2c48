"""Contracts of an adapter: protocols of its modules `evaluate`, `trainer` and `checkpoint`, which mypy checks.

Arguments and results are NumPy arrays. `evaluate_module`, `trainer_module` and `checkpoint_module` import the framework
of a backend when the backend is used. Contracts of the physics: `deepmd/array_model/contracts.py`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np

from deepmd.adapters.training import Progress, Task
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.spectral import Plan
from deepmd.backends import framework
from deepmd.data.batch import Batch
from deepmd.io.model_file import ModelFile


class Evaluator(Protocol):
    """Outputs of a model on one backend. Atoms have the order of `neighbours`, centres first.

    `wanted` is a subset of `model.output.names`. Energy models: `atom_energy` (N,), `energy` (F,), `force` (A, 3),
    `virial` (F, 9), `atom_virial` (A, 9), `descriptor` (N, D). Other models with d components: `atom_NAME` (N, d),
    `NAME` (F, d), and of differentiable outputs `force` (A, d, 3), `virial` (F, d, 9), `atom_virial` (A, d, 9).
    """

    def __call__(
        self,
        neighbours: Neighbours,
        conditions: Conditions,
        num_atoms: int,
        num_frames: int,
        wanted: frozenset[str],
        /,
    ) -> dict[str, np.ndarray]:
        """Return the wanted outputs."""


class MakeEvaluator(Protocol):
    """Function `evaluator` of a module `evaluate`."""

    def __call__(self, model: Model, params: Params, plan: Plan, /, device: str | None = None) -> Evaluator:
        """Return the evaluator of a model on a device; None: as the environment says (`choose_device`)."""


class Trainer(Protocol):
    """A model in training, made by `trainer(task, params, plan)` of an adapter."""

    def replan(self, plan: Plan) -> None:
        """Replace the plan of the embedding nets; parameters and state of the optimizer stay."""

    def step(self, batch: Batch, lr: float, prefactors: dict[str, float], number: int) -> None:
        """Make update `number` (from 1), without waiting for its result."""

    def failure(self) -> tuple[int, float] | None:
        """Return number and loss of the first update whose loss was not finite; None if all were. Waits for updates."""

    def errors(self, batch: Batch, prefactors: dict[str, float]) -> dict[str, float]:
        """Return `loss` and the mean shown for each term (see `Loss.errors`)."""

    def params(self) -> Params:
        """Return a copy of the parameters."""

    def moments(self) -> dict[str, np.ndarray]:
        """Return a copy of the state of the optimizer."""

    def restore(self, moments: dict[str, np.ndarray], number: int) -> None:
        """Set the state of the optimizer to that after `number` updates."""

    def save(self, prefix: Path, content: ModelFile, progress: Progress) -> str:
        """Write a native checkpoint `PREFIX-STEP` atomically; return its name in the `checkpoint` file."""


class EvaluateModule(Protocol):
    """Module `evaluate` of an adapter."""

    FEWEST_ATOMS: int
    """Break-even: atoms per worker from which a system is cut into blocks that run side by side."""

    OUT_OF_MEMORY: tuple[type[Exception], ...]
    """Exceptions of an evaluation whose block does not fit on its device; smaller blocks are tried then."""

    evaluator: MakeEvaluator

    def choose_device(self, asked: str | None = None) -> str:
        """Return the device that evaluations run on, "cpu" or "cuda:N" (see `deepmd.process.choose_device`)."""

    def workers(self, device: str) -> int:
        """Return the number of blocks of atoms to evaluate side by side."""

    def side_by_side(self) -> AbstractContextManager[None]:
        """Return the context in which blocks are evaluated side by side, each on one thread."""


class TrainerModule(Protocol):
    """Module `trainer` of an adapter."""

    def trainer(self, task: Task, params: Params, plan: Plan) -> Trainer:
        """Return the trainer of a task."""


class CheckpointModule(Protocol):
    """Module `checkpoint` of an adapter."""

    ENDINGS: tuple[str, ...]
    """Endings of the files of one checkpoint. A checkpoint is complete when the file with the last ending exists."""

    def load_training(self, path: Path) -> tuple[ModelFile, Progress]:
        """Read a checkpoint."""

    def state_text(self, name: str) -> str:
        """Return the content of a `checkpoint` file that names this checkpoint."""


def evaluate_module(backend: str) -> EvaluateModule:
    """Import the module of a backend that evaluates."""
    module: EvaluateModule = framework(f"deepmd.adapters.{backend}.evaluate", backend)
    return module


def trainer_module(backend: str) -> TrainerModule:
    """Import the module of a backend that trains."""
    module: TrainerModule = framework(f"deepmd.adapters.{backend}.trainer", backend)
    return module


def checkpoint_module(backend: str) -> CheckpointModule:
    """Import the module of a backend that reads and names checkpoints."""
    module: CheckpointModule = framework(f"deepmd.adapters.{backend}.checkpoint", backend)
    return module

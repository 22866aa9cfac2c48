"""Training in torch: gradients by autograd, updates by torch's own Adam, fused where the precision allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from deepmd.adapters.torch.arrays import (
    cast_bfloat16,
    conditions_to_torch,
    neighbours_to_torch,
    params_to_torch,
    to_numpy,
    to_torch,
)
from deepmd.adapters.torch.checkpoint import save_pt
from deepmd.adapters.torch.device import CPU, choose_device
from deepmd.adapters.torch.evaluate import honour_threads, predict
from deepmd.adapters.torch.namespace import xp
from deepmd.adapters.training import Progress, Task
from deepmd.array_model.namespace import Params
from deepmd.array_model.spectral import Plan
from deepmd.array_model.tree import flatten, map_leaves, replace_leaves
from deepmd.data.batch import Batch
from deepmd.io.model_file import ModelFile
from deepmd.losses import TermErrors, total
from deepmd.plan.plans import map_tables
from deepmd.process import keep_memory


class TorchTrainer:
    """See `deepmd.adapters.contracts.Trainer`."""

    def __init__(self, task: Task, params: Params, plan: Plan) -> None:
        self._task, self._device = task, torch.device(choose_device())
        self.replan(plan)
        self._wanted = task.loss.needed()
        leaves = flatten(params_to_torch(params, self._device))
        self._params = replace_leaves(params, {path: leaves[task.shared.get(path, path)] for path in leaves})
        self._trained = {path: leaves[path].requires_grad_() for path in task.trainable}
        wide = all(leaf.dtype in (torch.float32, torch.float64) for leaf in self._trained.values())
        self._failure = torch.zeros(2, dtype=torch.float64, device=self._device)
        adam = task.adam
        kind = torch.optim.AdamW if adam.decoupled else torch.optim.Adam
        self._optimizer = kind(
            # a group may be empty, a list of parameters not: pair tables and frozen models have nothing to train
            [{"params": list(self._trained.values())}],
            lr=0.0,
            betas=(adam.beta1, adam.beta2),
            eps=adam.epsilon,
            weight_decay=adam.weight_decay,
            fused=wide,
        )

    def replan(self, plan: Plan) -> None:
        """Replace the plan of the embedding nets."""
        self._plan = map_tables(partial(params_to_torch, device=self._device), plan)

    def step(self, batch: Batch, lr: float, prefactors: dict[str, float], number: int) -> None:
        """Make one update."""
        loss, _ = self._evaluate(batch, prefactors)
        gradients = torch.autograd.grad(loss, list(self._trained.values()), allow_unused=True, materialize_grads=True)
        gradients = self._task.world.sums(gradients)
        for leaf, gradient in zip(self._trained.values(), gradients, strict=True):
            leaf.grad = gradient
        if self._task.adam.max_norm > 0.0:
            torch.nn.utils.clip_grad_norm_(self._trained.values(), self._task.adam.max_norm)
        self._optimizer.param_groups[0]["lr"] = lr
        self._optimizer.step()
        loss = loss.detach().to(torch.float64)
        first = torch.isfinite(self._failure[1]) & ~torch.isfinite(loss)
        self._failure = torch.where(first, torch.stack([loss.new_full((), number), loss]), self._failure)

    def failure(self) -> tuple[int, float] | None:
        """Return the first update whose loss was not finite."""
        number, loss = self._failure.tolist()
        return (int(number), loss) if number else None

    def errors(self, batch: Batch, prefactors: dict[str, float]) -> dict[str, float]:
        """Return the loss and the mean shown for each term."""
        loss, errors = self._evaluate(batch, prefactors)
        return {
            "loss": float(loss.detach()),
            **{term: float(values["shown"].detach()) for term, values in errors.items()},
        }

    def params(self) -> Params:
        """Return a copy of the parameters."""
        out: Params = map_leaves(lambda leaf: to_numpy(leaf).copy(), self._params)
        return out

    def moments(self) -> dict[str, np.ndarray]:
        """Return a copy of the optimizer's moments."""
        out = {}
        for path, leaf in self._trained.items():
            state = self._optimizer.state.get(leaf)
            if state:
                out[f"m/{path}"], out[f"v/{path}"] = (
                    to_numpy(state["exp_avg"]).copy(),
                    to_numpy(state["exp_avg_sq"]).copy(),
                )
        return out

    def restore(self, moments: dict[str, np.ndarray], number: int) -> None:
        """Continue from stored moments."""
        if not moments:
            return
        for path, leaf in self._trained.items():
            m, v = (torch.tensor(moments[f"{name}/{path}"], device=self._device) for name in "mv")
            counter = self._device if self._optimizer.defaults["fused"] else CPU  # where the kernel looks for it
            self._optimizer.state[leaf] = {
                "step": torch.full((), float(number), dtype=torch.float32, device=counter),
                "exp_avg": m,
                "exp_avg_sq": v,
            }

    def save(self, prefix: Path, content: ModelFile, progress: Progress) -> str:
        """Write `PREFIX-STEP.pt`."""
        path = prefix.with_name(f"{prefix.name}-{progress.step}.pt")
        save_pt(path, content, progress)
        return path.name

    def _evaluate(
        self, batch: Batch, prefactors: dict[str, float]
    ) -> tuple[torch.Tensor, dict[str, dict[str, torch.Tensor]]]:
        device = self._device
        neighbours = neighbours_to_torch(batch.neighbours, device)
        conditions = conditions_to_torch(batch.conditions, device)
        labels = {name: to_torch(array, device) for name, array in batch.labels.items()}
        natoms = to_torch(batch.natoms_F, device)
        sizes = len(batch.neighbours.type_N), len(batch.natoms_F)
        params = cast_bfloat16(self._task.model, self._params)
        prediction = predict(
            self._task.model, params, neighbours, conditions, self._plan, *sizes, self._wanted, training=True
        )
        errors = self._over_processes(
            partial(self._task.loss.errors, prediction, labels, neighbours, natoms), batch.weight
        )
        return total(errors, prefactors), errors

    def _over_processes(self, errors: Callable[..., TermErrors], weight: float) -> TermErrors:
        """Return the errors of a loss whose sums over the batch (`xp.sum` without axis) run over all processes.

        The loss is evaluated twice: for the sums of this process, which go to the others in one message, and with the
        sums of all. The loss of a step depends on this process by its own sums, so their derivatives are its share.
        """
        if self._task.world.size == 1:
            return errors(xp=xp)
        own: list[torch.Tensor] = []

        def note(x: torch.Tensor, **axis: Any) -> torch.Tensor:
            total: torch.Tensor = xp.sum(x, **axis)
            if not axis:
                own.append(weight * total.to(torch.float64))
            return total

        with torch.no_grad():
            errors(xp=SimpleNamespace(**{**vars(xp), "sum": note}))
        (totals,) = self._task.world.sums([torch.stack(own)])
        following = iter(totals)

        def replaced(x: torch.Tensor, **axis: Any) -> torch.Tensor:
            total: torch.Tensor = xp.sum(x, **axis)
            return total if axis else _Replaced.apply(weight * total, next(following).to(total.dtype))

        return errors(xp=SimpleNamespace(**{**vars(xp), "sum": replaced}))


class _Replaced(torch.autograd.Function):  # type: ignore[misc]
    """The second argument, with the derivatives of the first."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad, None


def trainer(task: Task, params: Params, plan: Plan) -> TorchTrainer:
    """Return the trainer of a task."""
    keep_memory()
    honour_threads()
    return TorchTrainer(task, params, plan)

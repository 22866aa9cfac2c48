"""A trainer whose expansions follow its weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepmd.adapters.training import Progress, Task, Trainer
from deepmd.array_model.namespace import Params
from deepmd.data.batch import Batch
from deepmd.io.model_file import ModelFile
from deepmd.plan.expansions import domain_start, evaluation_of, expanded, without_tables

log = logging.getLogger(__name__)

CHECK_FREQ = 50
"""Updates between two looks at whether the expansions still represent the nets."""


class ExpandingTrainer:
    """A trainer of an adapter, and the plan of the expansions that it evaluates (see `deepmd.adapters.training.Trainer`).

    Parameters
    ----------
    make : `trainer(task, params)` of the adapter
    task : what is to be trained; its model asks for direct or spectral evaluation
    params : parameters to start from
    closest : shortest distance in the training data and in the file to start from, Angstrom, if it is known

    Attributes
    ----------
    closest : the same, or the shortest distance of a batch if that was shorter than the expansions reached
    """

    def __init__(
        self, make: Callable[[Task, Params], Trainer], task: Task, params: Params, closest: float | None
    ) -> None:
        self._make, self._task, self.closest = make, task, closest
        self._done = 0
        model, params, reason = expanded(task.model, params, closest, stored=False)
        if reason:
            level = logging.WARNING if evaluation_of(task.model) == "spectral" else logging.INFO
            log.log(level, "embedding nets are evaluated directly: %s", reason)
        self._begin(model, params)

    @property
    def evaluation(self) -> str | int:
        """How the descriptor is evaluated at present."""
        return evaluation_of(self._task.model)

    def step(self, batch: Batch, lr: float, prefactors: dict[str, float], number: int) -> float:
        """Make an update; now and then plan the expansions anew."""
        self._cover(batch)
        loss = self._trainer.step(batch, lr, prefactors, number)
        self._done = number
        if number % CHECK_FREQ == 0 and self.evaluation != "direct":
            self._plan_anew()
        return loss

    def errors(self, batch: Batch, prefactors: dict[str, float]) -> dict[str, float]:
        """Return the loss and what is shown of each term."""
        self._cover(batch)
        return self._trainer.errors(batch, prefactors)

    def params(self) -> Params:
        """Return a copy of the parameters, without expansions."""
        return without_tables(self._task.model, self._trainer.params())

    def moments(self) -> dict[str, np.ndarray]:
        """Return a copy of the state of the optimizer."""
        return self._trainer.moments()

    def restore(self, moments: dict[str, np.ndarray], number: int) -> None:
        """Continue from this state of the optimizer after `number` updates."""
        self._trainer.restore(moments, number)
        self._done = number

    def save(self, prefix: Path, content: ModelFile, progress: Progress) -> str:
        """Write a native checkpoint."""
        return self._trainer.save(prefix, content, progress)

    def _begin(self, model: object, params: Params) -> None:
        self._task = replace(self._task, model=model)
        self._start = domain_start(self._task.model, params)
        self._trainer = self._make(self._task, params)
        if self.evaluation != "direct":
            log.info(
                "embedding nets as expansions of %s terms, for distances from %.3f Angstrom",
                self.evaluation,
                self._start,
            )

    def _cover(self, batch: Batch) -> None:
        """Extend the domain of the expansions to all pairs of a batch."""
        if batch.closest < self._start:
            text = "step %d: two atoms are %.3f Angstrom apart, nearer than the expansions of the embedding nets reach (%.3f)"
            log.info(text, self._done, batch.closest, self._start)
            self.closest = batch.closest
            self._plan_anew()

    def _plan_anew(self) -> None:
        """Plan the expansions for the present parameters and distances.

        Start another graph if the plan is another one.
        """
        model, params, reason = expanded(self._task.model, self.params(), self.closest, stored=False)
        if model == self._task.model and domain_start(model, params) == self._start:
            return
        if evaluation_of(model) == "direct":
            log.info("step %d: from here on embedding nets are evaluated directly: %s", self._done, reason)
        elif model != self._task.model:
            log.info("step %d: more terms are needed", self._done)
        moments = self._trainer.moments()
        self._begin(model, params)
        self._trainer.restore(moments, self._done)

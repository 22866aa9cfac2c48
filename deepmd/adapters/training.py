"""What the training loop asks of a framework, and what both sides share of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.spectral import Plan
from deepmd.data.batch import Batch
from deepmd.io.checking import check_finite
from deepmd.io.model_file import ModelFile
from deepmd.losses import Loss


@dataclass(frozen=True)
class Adam:
    """Adam's constants (Kingma and Ba, 2015).

    `weight_decay` times the parameter is added to its gradient or, if `decoupled` (AdamW: Loshchilov and Hutter, 2019),
    times lr taken away from the parameter. Before that, gradients whose common norm exceeds `max_norm` are scaled down
    to it (0: no limit).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    epsilon: float = 1e-8
    decoupled: bool = False
    max_norm: float = 0.0


@dataclass(frozen=True)
class Task:
    """What is to be trained.

    Attributes
    ----------
    model : its configuration
    trainable : paths of its trainable parameters
    loss, adam : the loss and the optimizer
    shared : {path: path} of parameters that are always equal to another one, which is trained for both
    """

    model: Model
    trainable: tuple[str, ...]
    loss: Loss
    adam: Adam
    shared: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where a training stands; stored in every checkpoint.

    Attributes
    ----------
    step : finished updates
    seed : of the sampler, so that a restart goes on through the same batches
    moments : state of the optimizer, `m/PATH` and `v/PATH` for each trainable parameter; {} before the first update
    terms : of the plan (`count_terms`), because a restart goes on with the same expansions; None before there is one
    """

    step: int
    seed: int
    moments: dict[str, np.ndarray]
    terms: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what no training can go on from.

        Raises
        ------
        InputError
            A number is negative, or the state of the optimizer is not finite.
        """
        if min(self.step, self.seed) < 0:
            raise InputError(f"step is {self.step}, seed {self.seed}; neither can be negative")
        check_finite({"optimizer": self.moments})


FORMATS = 1, 2
"""Versions of checkpoints that are read; the last is written."""


def read_progress(stored: dict[str, Any], version: int, moments: dict[str, np.ndarray], model: Model) -> Progress:
    """Return the progress of a checkpoint from its numbers and texts.

    Raises
    ------
    KeyError, TypeError, ValueError
        An entry is missing or has a value that no checkpoint has.
    """
    terms = upgrade_evaluation(stored.get("evaluation", "direct"), model) if version == 1 else stored["terms"]
    if terms is not None and (len(terms) != len(descriptors_of(model)) or not all(type(each) is int for each in terms)):
        raise ValueError(f"terms are {terms!r}; needed: a number for each of {len(descriptors_of(model))} descriptors")
    return Progress(int(stored["step"]), int(stored["seed"]), moments, None if terms is None else tuple(terms))


def upgrade_evaluation(evaluation: str | int, model: Model) -> list[int] | None:
    """Return the terms of each part from a checkpoint of version 1: one number for all, "direct" or "auto"."""
    return (
        None
        if evaluation == "auto"
        else [0 if evaluation == "direct" else int(evaluation)] * len(descriptors_of(model))
    )


class Trainer(Protocol):
    """A model in training. NumPy in, NumPy out. Made by `trainer(task, params, plan)` of an adapter."""

    def replan(self, plan: Plan) -> None:
        """Evaluate the embedding nets by another plan from now on; parameters and optimizer stay as they are."""

    def step(self, batch: Batch, lr: float, prefactors: dict[str, float], number: int) -> float:
        """Make the update number `number` (from 1) and return the loss before it."""

    def errors(self, batch: Batch, prefactors: dict[str, float]) -> dict[str, float]:
        """Return `loss` and the mean shown for each term (see `Loss.errors`)."""

    def params(self) -> Params:
        """Return a copy of the parameters."""

    def moments(self) -> dict[str, np.ndarray]:
        """Return a copy of the state of the optimizer."""

    def restore(self, moments: dict[str, np.ndarray], number: int) -> None:
        """Continue from this state of the optimizer after `number` updates."""

    def save(self, prefix: Path, content: ModelFile, progress: Progress) -> str:
        """Write a native checkpoint `PREFIX-STEP` in one step and return the name of what was written."""


SMALLEST_NORM = 1e-6
"""Added to a norm of gradients before the division by it."""


def adam_epsilon(adam: Adam, number: int) -> float:
    """Return the epsilon that makes a kernel which adds it to the uncorrected second moment equal the original Adam."""
    return adam.epsilon * math.sqrt(1.0 - adam.beta2**number)

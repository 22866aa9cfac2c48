"""What the training loop asks of a framework, and what both sides share of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.io.checking import check_finite
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


SMALLEST_NORM = 1e-6
"""Added to a norm of gradients before the division by it."""


def adam_epsilon(adam: Adam, number: int) -> float:
    """Return the epsilon that makes a kernel which adds it to the uncorrected second moment equal the original Adam."""
    return adam.epsilon * math.sqrt(1.0 - adam.beta2**number)

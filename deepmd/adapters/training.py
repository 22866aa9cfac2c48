"""Records shared by the training loop and the trainers: task, constants of Adam, progress of a checkpoint.

Imports no framework. Trainers: `deepmd/adapters/*/trainer.py`; the loop: `deepmd/train/loop.py`.
"""

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
from deepmd.world import ALONE, World


@dataclass(frozen=True)
class Adam:
    """Constants of Adam (Kingma and Ba, 2015).

    Attributes
    ----------
    beta1, beta2, epsilon : decay rates of the two moments, and epsilon of the denominator
    weight_decay : w. The gradient of a parameter p gains w p; if `decoupled`, p loses lr w p instead
    decoupled : AdamW (Loshchilov and Hutter, 2019)
    max_norm : gradient clipping by the global norm, before weight decay; 0: off
    """

    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    epsilon: float = 1e-8
    decoupled: bool = False
    max_norm: float = 0.0


@dataclass(frozen=True)
class Task:
    """Training task: model, trainable parameters, loss and optimizer.

    Attributes
    ----------
    model : configuration of the model
    trainable : paths of the trainable parameters
    loss, adam : the loss and the constants of the optimizer
    shared : {copy: original} of tied parameters, by path. Only the original is trained, with the sum of all gradients
    world : the processes that train the model together
    """

    model: Model
    trainable: tuple[str, ...]
    loss: Loss
    adam: Adam
    shared: dict[str, str] = field(default_factory=dict)
    world: World = ALONE


@dataclass(frozen=True)
class Progress:
    """State of a training beside its model; stored in every checkpoint.

    Attributes
    ----------
    step : finished updates
    seed : seed of the sampler, so that a restart continues the same sequence of batches
    moments : state of the optimizer, `m/PATH` and `v/PATH` for each trainable parameter; {} before the first update
    terms : terms of the plan (`count_terms`), so that a restart continues with the same expansions; None: a restart
        chooses them anew
    """

    step: int
    seed: int
    moments: dict[str, np.ndarray]
    terms: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Check that step and seed are not negative and the moments finite."""
        if min(self.step, self.seed) < 0:
            raise InputError(f"step is {self.step}, seed {self.seed}; neither can be negative")
        check_finite({"optimizer": self.moments})


FORMATS = 1, 2
"""Versions of checkpoints that are read; the last is written."""


def read_progress(stored: dict[str, Any], version: int, moments: dict[str, np.ndarray], model: Model) -> Progress:
    """Return the progress of a checkpoint from its stored entries.

    Parameters
    ----------
    stored : entries of the checkpoint
    version : its format, one of `FORMATS`
    moments, model : state of the optimizer, and the model of the checkpoint

    Raises
    ------
    KeyError, TypeError, ValueError
        An entry is missing or invalid. Callers name the file in an InputError.
    """
    terms = upgrade_evaluation(stored.get("evaluation", "direct"), model) if version == 1 else stored["terms"]
    if terms is not None and (len(terms) != len(descriptors_of(model)) or not all(type(each) is int for each in terms)):
        raise ValueError(f"terms are {terms!r}; needed: a number for each of {len(descriptors_of(model))} descriptors")
    return Progress(int(stored["step"]), int(stored["seed"]), moments, None if terms is None else tuple(terms))


def upgrade_evaluation(evaluation: str | int, model: Model) -> list[int] | None:
    """Return the terms of each descriptor from `evaluation` of format 1: one number for all, "direct" or "auto"."""
    return (
        None
        if evaluation == "auto"
        else [0 if evaluation == "direct" else int(evaluation)] * len(descriptors_of(model))
    )


SMALLEST_NORM = 1e-6
"""Added to the global norm of the gradients before the division, as torch's `clip_grad_norm_` does."""


def adam_epsilon(adam: Adam, number: int) -> float:
    """Return epsilon sqrt(1 - beta2^t) of update t, for kernels that add epsilon to the uncorrected second moment.

    With this value such a kernel equals Adam as published.
    """
    return adam.epsilon * math.sqrt(1.0 - adam.beta2**number)

"""What the training loop asks of a framework, and what both sides share of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deepmd.array_model.losses import EnerLoss
from deepmd.array_model.namespace import Params
from deepmd.array_model.pairs import Conditions, Pairs


@dataclass(frozen=True)
class Batch:
    """One batch on the host, ready for any framework.

    Attributes
    ----------
    pairs, conditions : the input; every atom of the batch is a centre
    natoms_F : real atoms of each frame, float64
    labels : for each name of `EnerLoss.labels()` an array in the order of `pairs`; zeros where the data lack it
    found : which of the terms of the loss the data have labels for
    """

    pairs: Pairs
    conditions: Conditions
    natoms_F: np.ndarray
    labels: dict[str, np.ndarray]
    found: dict[str, bool]


@dataclass(frozen=True)
class Adam:
    """Adam's constants (Kingma and Ba, 2015; decay of the weights added to the gradient, or decoupled as in AdamW)."""

    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Task:
    """What is to be trained: the model, its trainable parameters by path, the loss, the optimizer."""

    model: Any
    trainable: tuple[str, ...]
    loss: EnerLoss
    adam: Adam


State = dict[str, np.ndarray]
"""Optimizer state: `m/PATH`, `v/PATH` for each trainable parameter."""


class Trainer(Protocol):
    """A model in training. NumPy in, NumPy out."""

    def step(self, batch: Batch, lr: float, prefactors: dict[str, float], number: int) -> float:
        """Make the update number `number` (from 1) and return the loss before it."""

    def errors(self, batch: Batch, prefactors: dict[str, float]) -> dict[str, float]:
        """Return `loss` and the mean shown for each term (see `EnerLoss.errors`)."""

    def params(self) -> Params:
        """Return the parameters."""

    def state(self) -> State:
        """Return the state of the optimizer."""

    def restore(self, params: Params, state: State | None) -> None:
        """Continue from these parameters, and from this state of the optimizer if given."""

    def save(self, path: Any, content: Any, step: int) -> None:
        """Write a native checkpoint of `content` (a ModelFile), the optimizer's state and the step."""

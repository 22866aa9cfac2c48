"""Evaluation and derivatives in a TensorFlow graph, built once per evaluator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from deepmd.adapters.contracts import Evaluator
from deepmd.adapters.tf.graph import (
    check_process,
    choose_device,
    constant,
    feed,
    in_graph,
    placeholders,
    predictions,
    session,
    threads,
)
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.spectral import Plan
from deepmd.process import CPU, keep_memory

__all__ = ["FEWEST_ATOMS", "OUT_OF_MEMORY", "choose_device", "evaluator", "side_by_side", "workers"]

FEWEST_ATOMS = 64
"""Break-even: atoms per worker from which a system is cut into blocks that run side by side."""


OUT_OF_MEMORY = (tf.errors.ResourceExhaustedError,)
"""What an evaluation raises if its block does not fit on its device."""


def workers(device: str) -> int:
    """Return the number of blocks of atoms to run side by side; blocks share the session, a device is busy with one."""
    check_process()
    return (threads() or os.cpu_count() or 1) if device == CPU else 1


@contextmanager
def side_by_side() -> Iterator[None]:
    """Do nothing, because blocks share the threads of the session anyway."""
    yield


def evaluator(model: Model, params: Params, plan: Plan, device: str | None = None) -> Evaluator:
    """Return the evaluator of a model (see `deepmd.adapters.contracts.Evaluator`)."""
    check_process()
    keep_memory()
    graph = tf.Graph()
    with graph.as_default():
        inputs = placeholders(model)
        outputs = predictions(model, *in_graph(model, params, plan, constant), inputs, training=False)
    running = session(graph, blocks=True, device=device)

    def evaluate(
        neighbours: Neighbours, conditions: Conditions, num_atoms: int, num_frames: int, wanted: frozenset[str]
    ) -> dict[str, np.ndarray]:
        fetched: dict[str, np.ndarray] = running.run(
            {name: outputs[name] for name in outputs if name in wanted},
            feed(inputs, neighbours, conditions, num_atoms, num_frames),
        )
        return fetched

    return evaluate

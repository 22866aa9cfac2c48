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
from deepmd.process import keep_memory

FEWEST_ATOMS = 64
"""Break-even: atoms per worker from which a system is cut into blocks that run side by side."""


def workers() -> int:
    """Return the number of blocks of atoms to run side by side; blocks share the threads of the session."""
    check_process()
    return threads() or os.cpu_count() or 1


@contextmanager
def side_by_side() -> Iterator[None]:
    """Do nothing, because blocks share the threads of the session anyway."""
    yield


def evaluator(model: Model, params: Params, plan: Plan) -> Evaluator:
    """Return the evaluator of a model (see `deepmd.adapters.contracts.Evaluator`)."""
    check_process()
    keep_memory()
    graph = tf.Graph()
    with graph.as_default():
        inputs = placeholders(model)
        outputs = predictions(model, *in_graph(model, params, plan, constant), inputs, training=False)
    running = session(graph, blocks=True)

    def evaluate(
        neighbours: Neighbours, conditions: Conditions, num_atoms: int, num_frames: int, wanted: frozenset[str]
    ) -> dict[str, np.ndarray]:
        fetched: dict[str, np.ndarray] = running.run(
            {name: outputs[name] for name in outputs if name in wanted},
            feed(inputs, neighbours, conditions, num_atoms, num_frames),
        )
        return fetched

    return evaluate

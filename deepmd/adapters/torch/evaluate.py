"""Evaluation and derivatives in torch, and its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from deepmd import forks
from deepmd.adapters.contracts import Evaluator
from deepmd.adapters.evaluation import NEEDS_GRADIENT, assemble, components
from deepmd.adapters.torch.arrays import (
    cast_bfloat16,
    conditions_to_torch,
    neighbours_to_torch,
    params_to_torch,
    to_numpy,
)
from deepmd.adapters.torch.device import CPU, choose_device
from deepmd.adapters.torch.namespace import inference, xp
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.spectral import Plan
from deepmd.plan.plans import map_tables
from deepmd.process import INTER, INTRA, keep_memory, threads


def predict(
    model: Model,
    params: Params,
    neighbours: Neighbours,
    conditions: Conditions,
    plan: Plan,
    num_atoms: int,
    num_frames: int,
    wanted: frozenset[str],
    *,
    training: bool,
) -> dict[str, torch.Tensor]:
    """Return the wanted outputs; in training they can be differentiated once more, by the parameters."""
    space, needs_gradient = xp if training else inference, bool(wanted & NEEDS_GRADIENT)
    grads: list[torch.Tensor] = []
    with torch.set_grad_enabled(training or needs_gradient):
        if needs_gradient:
            neighbours = replace(neighbours, disp_NM3=neighbours.disp_NM3.requires_grad_())
        value_Nd, descriptor_ND = model.atomic_output(params, neighbours, conditions, plan, xp=space)
        if needs_gradient:
            totals = components(model, value_Nd, neighbours, wanted, xp=xp)
            for number, total in enumerate(totals, start=1):
                keep = training or number < len(totals)  # the last derivative frees the graph
                grads += torch.autograd.grad(total, neighbours.disp_NM3, create_graph=training, retain_graph=keep)
            if not training:
                neighbours = replace(neighbours, disp_NM3=neighbours.disp_NM3.detach())
    with torch.set_grad_enabled(training):
        return assemble(model, value_Nd, descriptor_ND, grads, neighbours, num_atoms, num_frames, wanted, xp=space)


FEWEST_ATOMS = 256
"""Break-even: atoms per worker from which blocks on one thread each are faster than one block on all threads.

At 96 atoms both take the same time (docs/benchmarks.md#where-the-time-goes).
"""


def honour_threads() -> None:
    """Set the thread counts of the environment (`INTRA`, `INTER`); torch itself follows OMP_NUM_THREADS.

    A process forked from one that had loaded torch keeps one thread (see `deepmd.forks`).
    """
    intra, inter = threads(INTRA), threads(INTER)
    if intra and "torch" not in forks.left_behind:
        torch.set_num_threads(intra)
    if inter:
        with suppress(RuntimeError):  # torch accepts no other number once operations have run side by side
            torch.set_num_interop_threads(inter)


OUT_OF_MEMORY = (torch.OutOfMemoryError,)
"""What an evaluation raises if its block does not fit on its device."""


def workers(device: str) -> int:
    """Return the number of blocks of atoms to evaluate side by side; a device is busy with one."""
    return int(torch.get_num_threads()) if device == CPU.type else 1


@contextmanager
def side_by_side() -> Iterator[None]:
    """Set torch to one thread per operation, because each of `workers()` Python threads evaluates a block of atoms.

    Blocks side by side keep the processor busier: small operations of one block use no second thread
    (docs/design.md#blocks).
    """
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(number)


def evaluator(model: Model, params: Params, plan: Plan, device: str | None = None) -> Evaluator:
    """Return the evaluator of a model (see `deepmd.adapters.contracts.Evaluator`)."""
    keep_memory()
    honour_threads()
    place = torch.device(choose_device(device))
    to_device = partial(params_to_torch, device=place)
    tensors, plan = cast_bfloat16(model, to_device(params)), map_tables(to_device, plan)

    def evaluate(
        neighbours: Neighbours, conditions: Conditions, num_atoms: int, num_frames: int, wanted: frozenset[str]
    ) -> dict[str, np.ndarray]:
        inputs = neighbours_to_torch(neighbours, place), conditions_to_torch(conditions, place)
        outputs = predict(model, tensors, *inputs, plan, num_atoms, num_frames, wanted, training=False)
        return {name: to_numpy(value) for name, value in outputs.items()}

    return evaluate

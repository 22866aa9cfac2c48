"""Reference evaluation in NumPy, with derivatives by reverse mode of the `autograd` package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from autograd.core import make_vjp

from deepmd.adapters.contracts import Evaluator
from deepmd.adapters.evaluation import NEEDS_GRADIENT, assemble
from deepmd.adapters.numpy.namespace import differentiable
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.spectral import Plan
from deepmd.host import plain
from deepmd.process import CPU, keep_memory

FEWEST_ATOMS = 1
OUT_OF_MEMORY: tuple[type[Exception], ...] = ()


def choose_device(asked: str | None = None) -> str:
    """Return "cpu"; the environment variable DEVICE is for the other backends."""
    if asked not in (None, CPU):
        raise InputError(f"device: is {asked!r}, accepted by the numpy backend: {CPU}")
    return CPU


def workers(device: str) -> int:
    """Return 1 block of atoms at once, because the linear algebra has threads of its own."""
    return 1


@contextmanager
def side_by_side() -> Iterator[None]:
    """Do nothing."""
    yield


def evaluator(model: Model, params: Params, plan: Plan, device: str | None = None) -> Evaluator:
    """Return the evaluator of a model (see `deepmd.adapters.contracts.Evaluator`)."""
    choose_device(device)
    keep_memory()

    def evaluate(
        neighbours: Neighbours, conditions: Conditions, num_atoms: int, num_frames: int, wanted: frozenset[str]
    ) -> dict[str, np.ndarray]:
        grads: list[Any] = []
        if wanted & NEEDS_GRADIENT:
            features: list[Any] = []

            def values(disp_NM3: Any) -> Any:
                value_Nd, descriptor_ND = model.atomic_output(
                    params, replace(neighbours, disp_NM3=disp_NM3), conditions, plan, xp=differentiable
                )
                features.append(getattr(descriptor_ND, "_value", descriptor_ND))  # unboxed from autograd's tracer
                return value_Nd

            backward, value_Nd = make_vjp(values, neighbours.disp_NM3)
            # vector-Jacobian products with these weights are the derivatives of `evaluation.components`
            weights = [np.ones_like(value_Nd) * row for row in np.eye(model.output.width)]
            if model.layout().needs_neighbour_features and "atom_virial" in wanted:
                weights += [
                    place_N[:, None] * row for row in np.eye(model.output.width) for place_N in neighbours.in_cell_N3.T
                ]
            grads += [backward(weight) for weight in weights]
            descriptor_ND = features[0]
        else:
            value_Nd, descriptor_ND = model.atomic_output(params, neighbours, conditions, plan, xp=plain)
        return assemble(model, value_Nd, descriptor_ND, grads, neighbours, num_atoms, num_frames, wanted, xp=plain)

    return evaluate

"""The array API standard and nothing else, by array-api-strict: what passes here runs on any conforming framework.

Arrays are on a device that is not the default one, and an operation with arrays of both raises: physics makes every
array on the device of its inputs.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any

import array_api_strict as standard
import numpy as np

from deepmd.adapters.evaluation import NEEDS_GRADIENT, assemble
from deepmd.array_model.attention import composed_softmax
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import STANDARD, Params
from deepmd.array_model.neighbours import Neighbours, spans
from deepmd.array_model.networks import composed_silut
from deepmd.array_model.spectral import Plan
from deepmd.array_model.tree import map_leaves
from deepmd.host import plain
from deepmd.plan.plans import map_tables

# array-api-strict moves arrays between devices with NumPy 2 only
DEVICE = standard.Device("device1" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "CPU_DEVICE")


def from_numpy(array: np.ndarray) -> Any:
    """Return an array of the device."""
    return standard.asarray(array, device=DEVICE)


def to_numpy(array: Any) -> np.ndarray:
    """Return the NumPy array of an array of the device."""
    assert array.device == DEVICE, f"an array is on {array.device}"
    return np.asarray(array.to_device(standard.Device("CPU_DEVICE")))


def _segment_sum(rows: Any, segments: Any, num: int) -> Any:
    return from_numpy(plain.segment_sum(to_numpy(rows), to_numpy(segments), num))


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1.0 + standard.tanh(0.5 * x))


def _split(x: Any, sizes: tuple[int, ...], *, axis: int) -> list[Any]:
    return [x[(*(slice(None),) * axis, slice(start, stop), ...)] for start, stop in spans(sizes)]


def _chebyshev_rows(first: Any, second: Any, factor: Any, count: int) -> Any:
    terms = [first, second]
    while len(terms) < count:
        terms.append(factor * terms[-1] - terms[-2])
    return standard.stack(terms[:count], axis=1)


xp: Any = SimpleNamespace(
    **{name: getattr(standard, name) for name in STANDARD},
    float16=standard.float32,
    bfloat16=standard.float32,
    halo_exchange=lambda x: x,
    chebyshev_rows=_chebyshev_rows,
    shape=lambda x: x.shape,
    segment_sum=_segment_sum,
    sigmoid=_sigmoid,
    silut=lambda x, threshold: composed_silut(x, threshold, xp=xp),
    softmax=lambda x: composed_softmax(x, xp=xp),
    split=_split,
    stop_gradient=lambda x: x,
    with_adjoint=None,
)
"""Every name of `deepmd.array_model.namespace.REQUIRED`; half precisions, which the standard lacks, are float32."""


def flags() -> Any:
    """Return a context that refuses options of the standard: boolean masks, data-dependent shapes, extensions."""
    return standard.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=())


def to_strict(tree: Any) -> Any:
    """Return a tree, or a dataclass like Neighbours, with its NumPy arrays as arrays of array-api-strict."""
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{field.name: to_strict(getattr(tree, field.name)) for field in fields(tree)})
    if isinstance(tree, dict | list):
        return map_leaves(to_strict, tree)
    return from_numpy(tree) if isinstance(tree, np.ndarray) else tree


def evaluate(
    model: Model,
    params: Params,
    plan: Plan,
    neighbours: Neighbours,
    conditions: Conditions,
    num_frames: int,
    wanted: frozenset[str],
) -> dict[str, np.ndarray]:
    """Return the wanted outputs, without derivatives, which the standard does not have."""
    with flags():
        inputs = to_strict(neighbours), to_strict(conditions)
        value_Nd, descriptor_ND = model.atomic_output(to_strict(params), *inputs, map_tables(to_strict, plan), xp=xp)
        outputs = assemble(model, value_Nd, descriptor_ND, [], inputs[0], 0, num_frames, wanted - NEEDS_GRADIENT, xp=xp)
    return {name: to_numpy(value) for name, value in outputs.items()}

"""Conversion between NumPy and torch: arrays, parameters, neighbours, conditions."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from deepmd.adapters.torch.device import CPU, send
from deepmd.array_model.components import narrow_bfloat16
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import ARRAYS, Neighbours
from deepmd.array_model.tree import map_leaves


def to_torch(array: np.ndarray, device: torch.device = CPU) -> torch.Tensor:
    """Return a tensor; on the processor it shares memory with a writable array and copies a read-only one."""
    array = np.ascontiguousarray(array)
    return send(torch.from_numpy(array if array.flags.writeable else array.copy()), device)


def params_to_torch(params: Params, device: torch.device = CPU) -> Params:
    """Return the parameters as tensors that own their memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of read-only arrays, which are copied here
        tensors: Params = map_leaves(partial(torch.tensor, device=device), params)
    return tensors


def cast_bfloat16(model: Model, params: Params) -> Params:
    """Cast the parameters of parts in bfloat16, which are stored in float32 because NumPy has no bfloat16."""

    def narrow(part: Any) -> Any:
        return map_leaves(lambda leaf: leaf.to(torch.bfloat16) if leaf.dtype == torch.float32 else leaf, part)

    out: Params = narrow_bfloat16(model, params, narrow)
    return out


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a NumPy array (bfloat16 as float32); it shares memory with a tensor of the processor."""
    tensor = tensor.detach()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
    return array


def neighbours_to_torch(neighbours: Neighbours, device: torch.device = CPU) -> Neighbours:
    """Return the neighbours as tensors; sizes stay integers."""
    return replace(neighbours, **{name: to_torch(getattr(neighbours, name), device) for name in ARRAYS})


def conditions_to_torch(conditions: Conditions, device: torch.device = CPU) -> Conditions:
    """Return the conditions as tensors."""
    return {name: to_torch(np.asarray(values, dtype=np.float64), device) for name, values in conditions.items()}

"""Between NumPy and torch."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from deepmd.array_model.namespace import Params
from deepmd.array_model.pairs import Conditions, Pairs
from deepmd.array_model.tree import map_leaves


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Return a tensor; it shares memory with a writable array and copies a read-only one."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def params_to_torch(params: Params) -> Params:
    """Return the parameters as tensors of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only arrays are copied, not written to
        tensors: Params = map_leaves(torch.tensor, params)
    return tensors


def narrowed(model: Any, params: Params) -> Params:
    """Return the parameters as physics sees them: parts in bfloat16, which NumPy lacks, are kept in float32 and cast."""

    def narrow(part: Any) -> Any:
        return map_leaves(lambda leaf: leaf.to(torch.bfloat16) if leaf.dtype == torch.float32 else leaf, part)

    out: Params = model.narrowed(params, narrow)
    return out


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a NumPy array (bfloat16 as float32)."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def pairs_to_torch(pairs: Pairs) -> Pairs:
    """Return the pairs as tensors; counts and widths stay integers."""
    names = ("disp_NM3", "mask_NM", "index_NM", "centre_N", "type_N", "frame_N", "type_NM", "place_N3")
    return replace(pairs, **{name: to_torch(getattr(pairs, name)) for name in names})


def conditions_to_torch(conditions: Conditions) -> Conditions:
    """Return the conditions as tensors."""
    given = {name: value for name, value in vars(conditions).items() if value is not None}
    return Conditions(**{name: to_torch(np.asarray(value, dtype=np.float64)) for name, value in given.items()})

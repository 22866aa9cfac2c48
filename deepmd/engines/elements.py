"""Types of a model by atomic number, for engines that name elements so."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError

UNKNOWN = -1
"""Type of an element that the model does not know."""


def types_by_number(type_map: list[str], name: str) -> np.ndarray:
    """Return the type of each atomic number (119,), `UNKNOWN` where the model has none; `name` names it in errors.

    Raises InputError unless an entry of the type_map is an element.
    """
    from ase.data import atomic_numbers

    out = np.full(119, UNKNOWN)
    for kind, element in enumerate(type_map):
        if element in atomic_numbers:
            out[atomic_numbers[element]] = kind
    if (out == UNKNOWN).all():
        raise InputError(f"{name}: its type_map {type_map} names no element, and the engine knows elements only")
    return out


def missing(package: str, error: ModuleNotFoundError) -> Any:
    """Return the error for an engine whose package is not installed."""
    return InputError(f"deepmd.engines needs {package} ({error}): pip install 'deepmd[engines]'")

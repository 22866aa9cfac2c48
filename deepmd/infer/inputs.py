"""Checks of arguments and results of an evaluation. NumPy only. Split into blocks: blocks.py."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmd.array_model.components import first_atom_matters
from deepmd.array_model.conditions import CONDITIONS, find_problem
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.data.neighbours import Structure, check_cell


class OrderWarning(UserWarning):
    """Results depend on the order of the atoms."""


def warn_of_order(model: Model, params: Any, path: str) -> None:
    """Warn of models of other programs with davg != 0, whose results depend on the first atom of a frame."""
    if first_atom_matters(model, params):
        text = (
            f"{path}: stored with a mean of its environment rows (davg), so that results depend on the type of the "
            "first atom of a frame; that is how DeePMD-kit evaluates such models too"
        )
        warnings.warn(text, OrderWarning, stacklevel=3)


@dataclass(frozen=True)
class EvalInput:
    """Checked input of one call: F frames of n atoms.

    Attributes
    ----------
    coord : (F, n, 3), Angstrom
    cell : (F, 3, 3), Angstrom, or None
    types : (F, n)
    conditions : entries of `CONDITIONS` that the model asks for: (F, K) of frames, (F, n, K) of atoms
    """

    coord: np.ndarray
    cell: np.ndarray | None
    types: np.ndarray
    conditions: dict[str, np.ndarray]

    def structure(self, frame: int) -> Structure:
        """Return one frame."""
        return Structure(
            self.coord[frame], None if self.cell is None else self.cell[frame], self.types[frame], f"frame {frame}"
        )


@contextmanager
def name_place(where: str) -> Iterator[None]:
    """Prefix the text of an InputError with a place."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def check_numbers(name: str, values: Any) -> np.ndarray:
    """Return an argument as an array of finite float64 numbers, or raise InputError."""
    try:
        given = np.asarray(values)
        array = given.real.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: cannot be read as an array of numbers: {error}") from error
    if given.dtype.kind == "c":
        raise InputError(f"{name}: holds complex numbers; accepted: real ones")
    if not np.all(np.isfinite(array)):
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name}: holds {array[where]} at position {where}; accepted: finite numbers")
    return array


def check_coords(coords: Any, natoms: int) -> np.ndarray:
    """Return the coordinates of frames of `natoms` atoms (F, n, 3); raise InputError for other shapes."""
    array = check_numbers("coords", coords)
    if array.shape[1:] not in ((natoms, 3), (3 * natoms,)) and array.shape not in ((natoms, 3), (3 * natoms,)):
        accepted = f"(frames, {natoms}, 3) or (frames, {3 * natoms}) for the {natoms} atoms of atom_types"
        raise InputError(f"coords: has shape {array.shape}, accepted: {accepted}")
    return array.reshape(-1, natoms, 3)


def check_cells(cells: Any, count: int) -> np.ndarray | None:
    """Return the cells of `count` frames (F, 3, 3), or None for an open boundary; raise InputError for other values."""
    if cells is None:
        return None
    array = check_numbers("cells", cells)
    single = ((3, 3), (9,)) if count == 1 else ()
    if array.shape not in ((count, 3, 3), (count, 9), *single):
        raise InputError(
            f"cells: has shape {array.shape}, accepted: ({count}, 3, 3) or ({count}, 9), or None for an open boundary"
        )
    array = array.reshape(count, 3, 3)
    for number, cell in enumerate(array):
        check_cell(cell, f"cells, frame {number}")
    return array


def check_types(atom_types: Any, mixed_type: bool, type_map: Sequence[str]) -> np.ndarray:
    """Return the types of the atoms (n,), or (F, n) with `mixed_type`.

    Raise InputError for types beyond the type map.
    """
    types = np.asarray(atom_types)
    dimensions, accepted = (
        1 + mixed_type,
        f"{'' if mixed_type else '(atoms,), or '}(frames, atoms) with mixed_type=True",
    )
    if types.ndim != dimensions or types.shape[-1] == 0:
        raise InputError(f"atom_types: has shape {types.shape}, accepted: {accepted}, at least one atom")
    if types.dtype.kind not in "iu":
        raise InputError(
            f"atom_types: holds {types.dtype} values, accepted: integers, positions in the type_map {type_map}"
        )
    if types.max(initial=-1) >= len(type_map):
        known = f"the type_map {type_map} has types 0 to {len(type_map) - 1}; a negative type is a virtual atom"
        raise InputError(f"atom_types: holds type {types.max()}, but {known}")
    return types.astype(np.int64)


def check_conditions(
    model: Model, path: str, count: int, natoms: int, given: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the conditions that a model asks for, of `count` frames in full shapes; `path` names the file."""
    out = {}
    for name, (width, default) in model.conditions.items():
        leading: list[tuple[int, ...]] = [(count, natoms), (natoms,)] if CONDITIONS[name].per_atom else [(count,)]
        values = _full_condition(name, given.get(name), leading, width, default, path)
        if values is None:
            continue
        out[name] = values
        for frame, rows in enumerate(values.reshape(count, -1, width).tolist() if CONDITIONS[name].limits else ()):
            if text := next(filter(None, (find_problem(name, row) for row in rows)), ""):
                raise InputError(f"{name}, frame {frame}: {text}")
    return out


def _full_condition(
    name: str, values: Any, leading: list[tuple[int, ...]], width: int, default: Sequence[float] | None, path: str
) -> np.ndarray | None:
    """Return parameters in their full shape; `leading` lists the accepted leading shapes, the full one first."""
    if width == 0:
        if values is not None:
            raise InputError(f"{name}: given, but the model {path} takes none; leave it out")
        return None
    values = default if values is None else values
    full = (*leading[0], width)
    accepted = ", ".join(str((*sizes, width)) for sizes in [*leading, ()])
    if values is None:
        raise InputError(f"{name}: missing, and the model {path} needs it; accepted shapes: {accepted}")
    array = np.atleast_1d(check_numbers(name, values))  # a plain number is a list of one
    for sizes in (*leading, ()):
        shape = (*sizes, width)  # accepted also flat, and flat within each frame
        if (
            array.shape == shape
            or array.shape == (int(np.prod(shape)),)
            or (sizes and array.shape == (sizes[0], int(np.prod(shape[1:]))))
        ):
            return np.broadcast_to(array.reshape(shape), full)
    raise InputError(f"{name}: has shape {np.shape(values)}, accepted: {accepted}")


def check_results(results: dict[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """Return the results (one row a frame) of the model at `path`.

    Raise InputError for results that are not finite, because finite parameters may overflow in an evaluation.
    """
    for name, values in results.items():
        if not np.all(np.isfinite(values)):
            frame = int(np.argmin(np.isfinite(values.reshape(len(values), -1)).all(axis=1)))
            raise InputError(
                f"{path}: {name} of frame {frame} is evaluated to NaN or infinity: "
                "the file is damaged, or its numbers are out of range"
            )
    return results

"""Pair tables: text files of pair energies by distance, continued to a cutoff, as cubic splines. NumPy and SciPy."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.models.pairtab import PairTabModel
from deepmd.array_model.namespace import Params


def sum_slots(sel: int | tuple[int, ...]) -> int:
    """Return the slots of all types from the option `sel`: one number, or a number for each type."""
    return sel if isinstance(sel, int) else sum(sel)


def read_table(
    path: str | Path, rcut: float, sel: int, type_map: tuple[str, ...], where: str, **options: Any
) -> tuple[PairTabModel, Params]:
    """Return the model of a table file, and its parameters.

    Columns of the file, which `numpy.loadtxt` reads: distance (Angstrom, evenly spaced), then energies (eV) of the
    pairs of types 0-0, 0-1, ..., 0-N, 1-1, ..., N-N.

    Parameters
    ----------
    where : path of the section in the input, for errors
    options : options of the model
    """
    rows, ntypes = _rows(path, where), len(type_map)
    columns = 1 + ntypes * (ntypes + 1) // 2
    if rows.shape[1] != columns or len(rows) < 3:
        raise InputError(
            f"{where}: {path} has {rows.shape[0]} rows of {rows.shape[1]} columns; "
            f"accepted: at least 3 rows of {columns}, "
            f"a distance and one energy for each pair of the {ntypes} types"
        )
    steps = np.diff(rows[:, 0])
    if not np.all(steps > 0.0) or np.ptp(steps) > 1e-6 * steps[0] or rows[0, 0] < 0.0:
        raise InputError(
            f"{where}: the distances (first column) of {path} must grow evenly from 0 or more; "
            f"steps are {steps.min()} to {steps.max()}"
        )
    if not rcut > rows[0, 0] + steps[0]:
        raise InputError(f"{where}: rcut is {rcut}, but {path} begins at {rows[0, 0]} Angstrom")
    start, stop, step = float(rows[0, 0]), float(rows[-1, 0]), float(steps[0])
    rows = continued(rows, rcut)
    table = {
        "vdata": rows,
        "tab_info": np.array([start, step, len(rows) - 1, ntypes], dtype=np.float64),
        "tab_data": splines(rows[:, 1:], ntypes).reshape(-1),
    }
    bias = np.zeros((1, ntypes, 1))
    model = PairTabModel(type_map, rcut, sel, start, stop, step, len(rows) - 1, **options)
    return model, {**table, "out_bias": bias, "out_std": bias + 1.0}


def continued(rows: np.ndarray, rcut: float) -> np.ndarray:
    """Return a table (rows, 1 + pairs) that ends before the cutoff, with rows that continue it, as DeePMD-kit does.

    A last row of zero energies is continued by zeros. Other energies follow a cubic Hermite polynomial to value and
    slope zero, in n steps to the last multiple of the spacing before the cutoff. The polynomial starts at the last
    value, with a slope (eV/Angstrom) equal to the last difference of two rows (eV). That is the true slope times the
    spacing, kept because tables have always been continued so.
    """
    step, last, before = rows[1, 0] - rows[0, 0], rows[-1], rows[-2]
    missing = math.ceil((rcut - last[0]) / step - 1e-6)
    if missing <= 0:
        return rows
    flat = not np.any(last[1:])
    if not flat:
        missing = max(missing - 1, 1)
    # Hermite basis on u in (0, 1]: 2u^3 - 3u^2 + 1 for the value, u^3 - 2u^2 + u for dE/du at the start
    u = (np.arange(1, missing + 1) / missing)[:, None]
    slope = (last - before)[1:] * missing * step
    energies = last[1:] * (2.0 * u**3 - 3.0 * u**2 + 1.0) + slope * (u**3 - 2.0 * u**2 + u)
    distances = last[0] + step * np.arange(1, missing + 1)[:, None]
    return np.concatenate([rows, np.concatenate([distances, 0.0 * energies if flat else energies], axis=1)])


def splines(energies: np.ndarray, ntypes: int) -> np.ndarray:
    """Return clamped cubic splines (T, T, intervals, 4) of the energies, highest power first, in units of the spacing.

    First and second derivatives are continuous; the first derivative is zero at both ends.
    """
    from scipy.interpolate import CubicSpline  # imported on use, because the import is slow and few models have tables

    each = CubicSpline(np.arange(len(energies)), energies, bc_type="clamped").c.T  # (pairs, intervals, powers)
    first, second = np.triu_indices(ntypes)
    out = np.zeros((ntypes, ntypes, *each.shape[1:]))
    out[first, second] = out[second, first] = each
    return out


def of_splines(
    info: np.ndarray, coefficients: np.ndarray, rcut: float, sel: int, type_map: tuple[str, ...]
) -> tuple[PairTabModel, Params]:
    """Return the model and the parameters of stored splines; the rows of the table are computed from the splines.

    Parameters
    ----------
    info : start and spacing (Angstrom), intervals, types (4,)
    coefficients : as `splines` returns them, in any shape
    """
    if info.shape != (4,) or not np.all(np.isfinite(info)):
        raise InputError(f"a table is described by {info!r}; expected: start, spacing, intervals, types")
    start, step, intervals, ntypes = float(info[0]), float(info[1]), int(info[2]), len(type_map)
    if int(info[3]) != ntypes or intervals < 1 or coefficients.size != ntypes**2 * intervals * 4 or not step > 0.0:
        raise InputError(
            f"a table of {intervals} intervals of {step} Angstrom, {int(info[3])} types and {coefficients.size} "
            f"numbers; "
            f"types: {ntypes}"
        )
    each = coefficients.reshape(ntypes, ntypes, intervals, 4)[np.triu_indices(ntypes)]
    # value at a node: the constant term of its interval; at the last node the sum of all powers (u = 1)
    energies = np.concatenate([each[:, :, 3], each[:, -1:, :].sum(axis=-1)], axis=1).T
    distances = start + step * np.arange(intervals + 1)[:, None]
    table = {
        "vdata": np.concatenate([distances, energies], axis=1),
        "tab_info": info,
        "tab_data": coefficients.reshape(-1),
    }
    bias = np.zeros((1, ntypes, 1))
    model = PairTabModel(type_map, rcut, sel, start, float(distances[-1, 0]), step, intervals)
    return model, {**table, "out_bias": bias, "out_std": bias + 1.0}


def _rows(path: str | Path, where: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty file
            rows: np.ndarray = np.loadtxt(path, ndmin=2, dtype=np.float64)
    except OSError as error:
        place = "" if Path(path).is_absolute() else f"; names are relative to the working folder, {Path.cwd()}"
        raise InputError(f"{where}: {path} cannot be read: {error.strerror or error}{place}") from error
    except (ValueError, UserWarning, UnicodeDecodeError) as error:
        raise InputError(f"{where}: {path} is not a table of numbers: {error}") from error
    if not np.all(np.isfinite(rows)):
        raise InputError(f"{where}: {path} holds numbers that are not finite")
    return rows

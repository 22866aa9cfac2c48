"""`dp test`: errors of predictions against the labels of systems (docs/commands.md#errors-of-dp-test)."""

from __future__ import annotations

import glob
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.batch import data_of
from deepmd.data.selection import systems_of
from deepmd.data.systems import WIDTHS, System, load_system
from deepmd.infer import other_accuracy
from deepmd.infer.deep_pot import DeepEval, DeepPot
from deepmd.infer.measures import Details, Errors, mean_errors
from deepmd.io.atomic import check_output

log = logging.getLogger(__name__)

LINES = {
    # quantity: (label of the mean absolute error, of the root mean square error, unit)
    "energy": ("Energy MAE         ", "Energy RMSE        ", "eV"),
    "energy/natoms": ("Energy MAE/Natoms  ", "Energy RMSE/Natoms ", "eV"),
    "force": ("Force  MAE         ", "Force  RMSE        ", "eV/Å"),
    "force weighted": ("Force weighted MAE ", "Force weighted RMSE", "eV/Å"),
    "virial": ("Virial MAE         ", "Virial RMSE        ", "eV"),
    "virial/natoms": ("Virial MAE/Natoms  ", "Virial RMSE/Natoms ", "eV"),
    "stress": ("Stress MAE         ", "Stress RMSE        ", "eV/Å³"),
    "atomic energy": ("Atomic ener MAE    ", "Atomic ener RMSE   ", "eV"),
    **other_accuracy.LINES,
}
"""What is printed, in this order."""

COMPONENTS = ("xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz")


def measure_errors(
    model: str | os.PathLike[str],
    *,
    system: str | None = None,
    datafile: str | None = None,
    train_data: str | None = None,
    valid_data: str | None = None,
    numb_test: int = 0,
    rand_seed: int | None = None,
    shuffle_test: bool = False,
    detail_file: str | None = None,
    atomic: bool = False,
    head: str | None = None,
    backend: str | None = None,
) -> Errors:
    """Compare a model with the labels of systems, log the errors, and return their averages over the systems.

    Parameters
    ----------
    model : model file
    system, datafile, train_data, valid_data : where the systems are, one of: a folder that is searched, a file with one path a line,
        an input.json whose training or validation data are meant. Default: the current folder
    numb_test : at most so many frames of each system, 0 for all
    rand_seed, shuffle_test : take random frames instead of the first
    detail_file : prefix of files with labels and predictions of every frame (`PREFIX.e.out`, `PREFIX.f.out`, ...)
    atomic : compare atomic energies too
    head, backend : see `DeepPot`

    Returns
    -------
    for each quantity of `LINES` with labels its mean absolute and root mean square error, systems weighted by their
    frames

    Raises
    ------
    InputError
        The model or the data cannot be read, or the systems hold no frame.
    """
    if numb_test < 0:
        raise InputError(f"numb_test is {numb_test}; accepted: a number of frames, or 0 for all")
    if detail_file is not None and not Path(detail_file).parent.is_dir():
        raise InputError(f"{detail_file}: the folder {Path(detail_file).parent} for the detail files does not exist")
    if detail_file is not None:
        for place in Path(detail_file).parent.glob(f"{glob.escape(Path(detail_file).name)}.*out"):
            check_output(place, "detail_file", reads=() if datafile is None else (datafile,), text=True)
    folders = systems_of(system=system, datafile=datafile, train_data=train_data, valid_data=valid_data)
    rng = np.random.default_rng(rand_seed) if shuffle_test else None
    found: list[tuple[int, Errors]] = []
    written: set[str] = set()
    with DeepEval(model, head=head, backend=backend) as potential:
        for folder in folders:
            log.info("# ---------------output of dp test--------------- ")
            log.info("# testing system : %s", folder)
            data = _read(potential, folder, atomic, shuffle_test)
            frames = _chosen(data.num_frames, numb_test, rng)
            log.info("# number of test data : %d ", len(frames))
            errors, details = _compared(potential, data, frames, atomic)
            if atomic and f"atomic {potential.output.name}" not in errors:
                log.warning(
                    "%s: holds no %s.npy; atomic values are not compared", folder, potential.output.atomic_label
                )
            if not errors:
                missing = _missing(potential, folder, atomic)
                raise InputError(f"{folder}: holds no label of what the model predicts {missing}")
            _report(errors)
            found.append((len(frames), errors))
            if detail_file is not None and not details:
                log.warning("%s: there are no detail files of what was compared", folder)
            if detail_file is not None:
                _write_details(detail_file, folder, details, written)
    average = weighted_average(found)
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", len(found))
    _report(average)
    return average


def _read(potential: DeepEval, folder: str, atomic: bool, shuffled: bool) -> System:
    """Read a system with what is compared. Copies of frames are drawn among shuffled frames only, as in DeePMD-kit."""
    names = data_of(potential.output)
    if not atomic:
        del names[potential.output.atomic_label]
    if isinstance(potential, DeepPot):
        names |= {name: WIDTHS[name] for name in ("force", "virial", "atom_pref")}
    if shuffled:
        names["numb_copy"] = WIDTHS["numb_copy"]
    return load_system(folder, potential.get_type_map(), names, potential.types_without_output)


def _missing(potential: DeepEval, folder: str, atomic: bool) -> str:
    """Return which labels are missing, and whether there are others, which are compared with or without `atomic`."""
    label, of_atoms = potential.output.label, potential.output.atomic_label
    others = _read(potential, folder, not atomic, shuffled=False).data
    hint = ""
    if atomic and label in others:
        hint = "; those of whole frames are compared without -a"
    elif not atomic and of_atoms in others:
        hint = "; those of single atoms are compared with -a"
    return f"({label}.npy, or with -a {of_atoms}.npy){hint}"


def _compared(potential: DeepEval, system: System, frames: np.ndarray, atomic: bool) -> tuple[Errors, Details]:
    """Compare whatever the model predicts."""
    if isinstance(potential, DeepPot):
        return compare(potential, system, frames, atomic)
    try:
        return other_accuracy.compare(potential, potential.output, system, frames, atomic)
    except InputError as error:
        raise InputError(f"{system.path}: {error}") from error


def _chosen(available: int, wanted: int, rng: np.random.Generator | None) -> np.ndarray:
    order = np.arange(available) if rng is None else rng.permutation(available)
    return order[: wanted or available]


def compare(
    potential: DeepPot, system: System, frames: Sequence[int] | np.ndarray, atomic: bool = False
) -> tuple[Errors, Details]:
    """Compare the predictions for some frames of a system with its labels.

    Virtual atoms count neither as atoms nor in the errors. Virials are compared if there is a cell.

    Raises
    ------
    InputError
        The system lacks parameters that the model needs, or has wrong ones.
    """
    data = {name: values[frames] for name, values in system.data.items()}
    cell = None if system.cell is None else system.cell[frames]
    parameters = potential.conditions_in(data)
    try:
        types = system.types[frames] if system.mixed else system.types
        out = potential.eval(system.coord[frames], cell, types, atomic=atomic, mixed_type=system.mixed, **parameters)
    except InputError as error:
        raise InputError(f"{system.path}: {error}") from error
    real = np.broadcast_to(types >= 0, (len(frames), system.num_atoms))
    natoms = np.maximum(np.count_nonzero(real, axis=1), 1)[:, None]
    errors: Errors = {}
    details: Details = {}
    if "energy" in data:
        pair = data["energy"][:, None], out[0]
        errors["energy"] = mean_errors(*pair)
        errors["energy/natoms"] = mean_errors(pair[0] / natoms, pair[1] / natoms)
        details["e"] = ("data_e pred_e", np.hstack(pair))
        details["e_peratom"] = ("data_e pred_e", np.hstack(pair) / natoms)
    if "force" in data:
        label, predicted = data["force"][real], out[1][real]
        errors["force"] = mean_errors(label, predicted)
        if "atom_pref" in data:
            errors["force weighted"] = mean_errors(label, predicted, data["atom_pref"][real][:, None])
        details["f"] = (_columns("f", "xyz"), np.concatenate([data["force"], out[1]], axis=2).reshape(-1, 6))
    if "virial" in data and cell is not None:
        label, predicted = data["virial"], out[2]
        volume = np.abs(np.linalg.det(cell))[:, None]
        errors["virial"] = mean_errors(label, predicted)
        errors["virial/natoms"] = mean_errors(label / natoms, predicted / natoms)
        errors["stress"] = mean_errors(label / volume, predicted / volume)
        details["v"] = (_columns("v", COMPONENTS), np.hstack([label, predicted]))
        details["v_peratom"] = (_columns("v", COMPONENTS), np.hstack([label, predicted]) / natoms)
        details["s"] = (_columns("s", COMPONENTS), -np.hstack([label / volume, predicted / volume]))
    if "atom_ener" in data:
        errors["atomic energy"] = mean_errors(data["atom_ener"][real], out[3][real][:, 0])
    return errors, details


def _columns(letter: str, components: Sequence[str]) -> str:
    return " ".join(f"{source}_{letter}{component}" for source in ("data", "pred") for component in components)


def weighted_average(found: Sequence[tuple[int, Errors]]) -> Errors:
    """Average errors over systems weighted by their frames, each quantity over the systems that have labels for it."""
    average: Errors = {}
    for quantity in LINES:
        rows = [(frames, *errors[quantity]) for frames, errors in found if quantity in errors]
        total = sum(frames for frames, _, _ in rows)
        if total:
            mae = sum(frames * mae for frames, mae, _ in rows) / total
            average[quantity] = mae, math.sqrt(sum(frames * rmse**2 for frames, _, rmse in rows) / total)
    return average


def _report(errors: Errors) -> None:
    for quantity, (mae_label, rmse_label, unit) in LINES.items():
        if quantity in errors:
            for title, value in zip((mae_label, rmse_label), errors[quantity], strict=True):
                if title:
                    log.info("%s", f"{title}: {value:e} {unit}".rstrip())
    if any(not LINES[quantity][2] for quantity in errors):
        log.info("The unit of error is the same as the unit of provided label.")
    log.info("# ----------------------------------------------- ")


def _write_details(prefix: str, folder: str, details: Details, written: set[str]) -> None:
    """Append the rows of one system to the detail files; the first system of a file starts it anew."""
    for name, (columns, rows) in details.items():
        unit = " (eV/Å³)" if name == "s" else f" - {name.rpartition('.')[2]}" if ".out." in name else ""
        path = f"{prefix}.{name}" if "out" in name.split(".") else f"{prefix}.{name}.out"
        with Path(path).open("a" if name in written else "w", encoding="utf-8") as file:
            np.savetxt(file, rows, header=f"{folder}{unit}: {columns}")
        written.add(name)

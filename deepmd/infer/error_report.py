"""`dp test`: errors of predictions against the labels of systems (docs/commands.md#errors-of-dp-test)."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.batch import data_of
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.prediction_errors import QUANTITIES, MeanErrors, Pair, average_errors, compare, errors_of, labels_of
from deepmd.data.selection import Selection, select_systems
from deepmd.data.systems import WIDTHS, System, load_system
from deepmd.infer.deep_pot import GLOBAL, DeepEval, DeepPot
from deepmd.io.atomic import check_output
from deepmd.io.formats import find_frozen

log = logging.getLogger(__name__)

Details = dict[str, tuple[str, np.ndarray]]
"""Column names and rows (labels, then predictions) by name of the detail file."""

VECTOR = ("x", "y", "z")
TENSOR = tuple(a + b for a in VECTOR for b in VECTOR)
COMPONENTS = {"force": VECTOR, "virial": TENSOR, "dipole": VECTOR, "polar": tuple(f"p{each}" for each in TENSOR)}
"""Names of components in the columns of detail files, by output."""


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of frames of a system.

    Attributes
    ----------
    path : the system
    type_map : element names of the model
    frames : numbers of the frames in the system, (F,)
    types : types of the atoms, (F, n)
    counted : mask of the atoms that count, (F, n)
    pairs : labels and predictions by quantity, (F, d) or (F, n, d), as `deepmd.data.prediction_errors.compare` returns
    errors : mean errors by quantity
    """

    path: str
    type_map: tuple[str, ...]
    frames: np.ndarray
    types: np.ndarray
    counted: np.ndarray
    pairs: dict[str, Pair]
    errors: MeanErrors


def measure_errors(
    model: str | os.PathLike[str],
    *,
    system: str | Sequence[str] | None = None,
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
    on_system: Callable[[Comparison], None] | None = None,
    keys: LabelKeys = DETECTED,
) -> MeanErrors:
    """Compare a model with the labels of systems, log the errors, and return their averages over the systems.

    Parameters
    ----------
    model : model file, with or without suffix (`deepmd.io.formats.find_frozen`)
    system, datafile, train_data, valid_data : systems, by one of: a folder that is searched or a file (or several of
        them), a file with one path a line, an input.json whose training or validation data are meant. Default: the
        current folder
    numb_test : largest number of frames of each system, 0 for all
    rand_seed, shuffle_test : take random frames instead of the first
    detail_file : prefix of files with labels and predictions of every frame (`PREFIX.e.out`, `PREFIX.f.out`, ...)
    atomic : compare atomic values too; of tensors only atomic values
    head, backend : see `DeepPot`
    on_system : called with the labels and predictions of each system
    keys : names of the labels in files that ASE reads; default: those of the input, or detected

    Returns
    -------
    mean absolute and root mean square error of each of `QUANTITIES` with labels, systems weighted by their frames
    """
    if numb_test < 0:
        raise InputError(f"numb_test is {numb_test}; accepted: a number of frames, or 0 for all")
    if detail_file is not None:
        folder, name = Path(detail_file).parent, Path(detail_file).name
        if not folder.is_dir():
            raise InputError(f"{detail_file}: the folder {folder} for the detail files does not exist")
        for place in folder.glob(f"{glob.escape(name)}.*out"):
            check_output(place, "detail_file", reads=() if datafile is None else (datafile,), text=True)
    selection = select_systems(
        system=system, datafile=datafile, train_data=train_data, valid_data=valid_data, keys=keys
    )
    rng = np.random.default_rng(rand_seed) if shuffle_test else None
    found: list[tuple[int, MeanErrors]] = []
    written: set[str] = set()
    with DeepEval(find_frozen(model, backend), head=head, backend=backend) as potential:
        for path in selection.paths:
            log.info("# ---------------output of dp test--------------- ")
            log.info("# testing system : %s", path)
            data = read_labels(potential, path, atomic, shuffle_test, selection)
            order = np.arange(data.num_frames) if rng is None else rng.permutation(data.num_frames)
            frames = order[: numb_test or data.num_frames]
            log.info("# number of test data : %d ", len(frames))
            comparison = compare_system(potential, data, frames, atomic)
            errors = comparison.errors
            if atomic and f"atomic {potential.output.name}" not in errors:
                log.warning("%s: holds no %s.npy; atomic values are not compared", path, potential.output.atomic_label)
            if not errors:
                missing = _missing(potential, selection, path, atomic)
                raise InputError(f"{path}: holds no label of what the model predicts {missing}")
            _log_errors(errors)
            found.append((len(frames), errors))
            if on_system is not None:
                on_system(comparison)
            if detail_file is not None:
                details = _details(potential, comparison, data.mixed)
                if not details:
                    log.warning("%s: there are no detail files of what was compared", path)
                _write_details(detail_file, path, details, written)
    average = average_errors(found)
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", len(found))
    _log_errors(average)
    return average


def read_labels(
    potential: DeepEval,
    path: str,
    atomic: bool = False,
    shuffled: bool = False,
    selection: Selection | None = None,
) -> System:
    """Read a system with the labels to compare.

    `numb_copy` is read (and refused by `load_system`) with shuffled frames only, because DeePMD-kit repeats frames only
    then.
    """
    names = data_of(potential.model)
    if not atomic:
        del names[potential.output.atomic_label]
    if isinstance(potential, DeepPot):
        names |= {name: WIDTHS[name] for name in ("force", "virial", "atom_pref")}
    if shuffled:
        names["numb_copy"] = WIDTHS["numb_copy"]
    load = load_system if selection is None else selection.load
    return load(path, potential.get_type_map(), names, potential.types_without_output)


def _missing(potential: DeepEval, selection: Selection, path: str, atomic: bool) -> str:
    """Return the end of a message: the missing labels, and a hint if total or atomic labels are there instead."""
    label, of_atoms = potential.output.label, potential.output.atomic_label
    others = read_labels(potential, path, not atomic, selection=selection).data
    hint = ""
    if atomic and label in others:
        hint = "; those of whole frames are compared without -a"
    elif not atomic and of_atoms in others:
        hint = "; those of single atoms are compared with -a"
    return f"({label}.npy, or with -a {of_atoms}.npy){hint}"


def compare_system(potential: DeepEval, system: System, frames: np.ndarray, atomic: bool = False) -> Comparison:
    """Compare the predictions for some frames of a system with its labels.

    Atoms that count: all but virtual atoms for energy models, atoms whose type has an output for other models. Tensors
    are compared in total or, with `atomic`, atom by atom. Other outputs are compared in total and, with `atomic`, also
    atom by atom. Virials are compared if there is a cell.
    """
    output = potential.output
    tensor = output.name in COMPONENTS
    data = {name: values[frames] for name, values in system.data.items()}
    cell = None if system.cell is None else system.cell[frames]
    label = labels_of(output, data)
    if cell is None:
        label.pop("virial", None)
    if atomic and tensor:
        label.pop(output.name, None)
    if isinstance(potential, DeepPot):
        wanted = GLOBAL | label.keys()
    else:
        wanted = frozenset({output.atomic} if tensor else {output.name, output.atomic})
    predicted = potential.evaluate_system(system, frames, wanted)
    if tensor:
        predicted[output.name] = predicted[output.atomic].sum(axis=1)
    types = np.broadcast_to(system.types[frames] if system.mixed else system.types, (len(frames), system.num_atoms))
    counted = types >= 0 if isinstance(potential, DeepPot) else np.isin(types, potential.get_sel_type())
    if output.atomic in label and not counted.any():
        raise InputError(
            f"{system.path}: no atom has a type with a {output.name}; types with one: {potential.get_sel_type()}"
        )
    pairs = compare(label, predicted, counted, cell)
    errors = errors_of(pairs, counted, data.get("atom_pref"))
    numbers = np.array([system.number(frame) for frame in frames])
    return Comparison(system.path, tuple(potential.get_type_map()), numbers, types, counted, pairs, errors)


def _log_errors(errors: MeanErrors) -> None:
    for name, quantity in QUANTITIES.items():
        if name in errors:
            for kind, value in zip(("MAE", "RMSE"), errors[name], strict=True):
                if quantity.unit or kind == "RMSE":
                    title = quantity.title.format(kind)
                    log.info("%s", f"{title:{quantity.width}}: {value:e} {quantity.unit}".rstrip())
    if any(not QUANTITIES[name].unit for name in errors):
        log.info("The unit of error is the same as the unit of provided label.")
    log.info("# ----------------------------------------------- ")


# -- detail files ---------------------------------------------------------------------------------------------------


def _details(potential: DeepEval, comparison: Comparison, mixed: bool) -> Details:
    """Return the detail files of a system; `mixed`: its frames differ in their composition."""
    output, pairs, counted = potential.output, comparison.pairs, comparison.counted
    if isinstance(potential, DeepPot):
        return _energy_details(pairs)
    details: Details = {}
    for name in (name for name in (output.name, f"atomic {output.name}") if name in pairs):
        if output.name not in COMPONENTS:
            details |= _number_details(name.replace("atomic ", "a"), *pairs[name])
        elif name == output.name:
            details |= _tensor_details(output.name, *pairs[name])
        elif not mixed:
            rows = (each[:, counted[0]].reshape(len(counted), -1) for each in pairs[name])
            details |= _tensor_details(output.name, *rows)
    return details


def _energy_details(pairs: dict[str, Pair]) -> Details:
    """Return a file for each quantity, a row for each frame or atom; stress is minus virial per volume."""
    details: Details = {}
    for name, pair in pairs.items():
        detail, output = QUANTITIES[name].detail, QUANTITIES[name].output
        if detail:
            columns = [f"{detail[0]}{each}" for each in COMPONENTS.get(output, ("",))]
            rows = np.hstack([values.reshape(-1, len(columns)) for values in pair])
            details[detail] = _title(columns), -rows if name == "stress" else rows
    return details


def _tensor_details(output: str, label: np.ndarray, predicted: np.ndarray) -> Details:
    """Return one file with a row for each frame: the total, or the tensors of all atoms in numbered columns."""
    names = COMPONENTS[output]
    number = label.shape[1] // len(names)
    columns = list(names) if number == 1 else [f"{name}{k}" for k in range(number) for name in names]
    return {"out": (_title(columns), np.hstack([label, predicted]))}


def _number_details(name: str, label: np.ndarray, predicted: np.ndarray) -> Details:
    """Return a file for each frame, with a row for each number."""
    return {
        f"{name}.out.{frame}": (_title([name]), np.stack([one.reshape(-1), other.reshape(-1)], axis=1))
        for frame, (one, other) in enumerate(zip(label, predicted, strict=True))
    }


def _title(columns: list[str]) -> str:
    return " ".join(f"{source}_{column}" for source in ("data", "pred") for column in columns)


def _write_details(prefix: str, folder: str, details: Details, written: set[str]) -> None:
    """Append the rows of one system to the detail files; the first system overwrites older files."""
    for name, (columns, rows) in details.items():
        unit = " (eV/Å³)" if name == "s" else f" - {name.rpartition('.')[2]}" if ".out." in name else ""
        path = f"{prefix}.{name}" if "out" in name.split(".") else f"{prefix}.{name}.out"
        with Path(path).open("a" if name in written else "w", encoding="utf-8") as file:
            np.savetxt(file, rows, header=f"{folder}{unit}: {columns}")
        written.add(name)

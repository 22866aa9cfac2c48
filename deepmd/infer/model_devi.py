"""Model deviation: spread of the predictions of an ensemble of models (docs/commands.md#model-deviation)."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.errors import InputError
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.selection import files_of, select_systems
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.inputs import name_place
from deepmd.io.atomic import check_output, write_text
from deepmd.io.formats import find_frozen

log = logging.getLogger(__name__)

COLUMNS = ("max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f", "devi_e")


def spread(values: np.ndarray, real: np.ndarray | None = None) -> np.ndarray:
    """Return the root mean square deviation of the models (first axis) from their mean, or from `real`."""
    centre = np.mean(values, axis=0) if real is None else real
    out: np.ndarray = np.sqrt(np.mean((values - centre) ** 2, axis=0))
    return out


def calc_model_devi_f(
    fs: np.ndarray, real_f: np.ndarray | None = None, relative: float | None = None, atomic: bool = False
) -> tuple[np.ndarray, ...]:
    """Return the largest, smallest and mean force deviation of each frame, with `atomic` also of each atom.

    Parameters
    ----------
    fs : forces of M models (M, F, n, 3), eV/Angstrom
    real_f : (F, n, 3) to compare with instead of the mean of the models
    relative : level L (eV/Angstrom): deviations are divided by |F| + L

    Returns
    -------
    (F,) three times, and with `atomic` (F, n)
    """
    devi = np.linalg.norm(spread(fs, real_f), axis=-1)
    if relative is not None:
        devi = devi / (np.linalg.norm(np.mean(fs, axis=0) if real_f is None else real_f, axis=-1) + relative)
    out = devi.max(axis=-1), devi.min(axis=-1), devi.mean(axis=-1)
    return (*out, devi) if atomic else out


def calc_model_devi_v(
    vs: np.ndarray, real_v: np.ndarray | None = None, relative: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the largest, the smallest and the root mean square deviation of the nine virial components, (F,) each.

    Parameters
    ----------
    vs : virials of M models (M, F, 9), by convention per atom, eV
    real_v, relative : as for `calc_model_devi_f`
    """
    devi = spread(vs, real_v)
    if relative is not None:
        devi = devi / (
            np.linalg.norm(np.mean(vs, axis=0) if real_v is None else real_v, axis=-1, keepdims=True) + relative
        )
    return devi.max(axis=-1), devi.min(axis=-1), np.linalg.norm(devi, axis=-1) / 3.0


def calc_model_devi_e(es: np.ndarray, real_e: np.ndarray | None = None) -> np.ndarray:
    """Return the deviation of energies (M, F), by convention per atom, eV: (F,)."""
    return spread(es, real_e)


def calc_model_devi(
    coord: Any,
    box: Any,
    atype: Any,
    models: Sequence[DeepPot],
    fname: str | os.PathLike[str] | None = None,
    frequency: int = 1,
    mixed_type: bool = False,
    fparam: Any = None,
    aparam: Any = None,
    real_data: dict[str, np.ndarray] | None = None,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
    charge_spin: Any = None,
) -> np.ndarray:
    """Return the deviation of models on frames.

    Parameters
    ----------
    coord, box, atype, mixed_type, fparam, aparam, charge_spin : as for `DeepPot.eval`
    models : at least two potentials with the same type map
    fname : file to write the result to
    frequency : steps between the frames, for the first column
    real_data : {"energy": (F,), "force": (F, n, 3), "virial": (F, 9)} to compare with instead of the mean of the models
    atomic : append the deviation of the force of each atom
    relative, relative_v : see `calc_model_devi_f` and `calc_model_devi_v`

    Returns
    -------
    (F, 8): step and `COLUMNS`; virials and energies per atom. With `atomic` (F, 8 + n)
    """
    if len(models) < 2:
        raise InputError(f"{len(models)} model(s) are given; a deviation needs at least two")
    for model in models[1:]:
        if model.get_type_map() != models[0].get_type_map():
            raise InputError(
                f"{model.model_path}: its type_map {model.get_type_map()} differs from {models[0].get_type_map()}"
            )
    conditions = {"fparam": fparam, "aparam": aparam, "charge_spin": charge_spin}
    parts = [model.eval(coord, box, atype, mixed_type=mixed_type, **conditions) for model in models]
    energy, force, virial = (np.stack([part[k] for part in parts]) for k in range(3))
    count = energy.shape[1]
    types = np.broadcast_to(np.asarray(atype), (count, force.shape[2]))
    natoms = np.maximum(np.count_nonzero(types >= 0, axis=1), 1)[:, None]
    shapes = {"energy": (count,), "force": force.shape[1:], "virial": (count, 9)}
    real: dict[str, np.ndarray] = {}
    if real_data is not None:
        for name in shapes:
            if name not in real_data:
                raise InputError(f"real_data: {name} is missing")
        real = {name: _reshaped(name, real_data[name], shape) for name, shape in shapes.items()}
    real_f = real.get("force")
    real_v = real["virial"] / natoms if real else None
    real_e = real["energy"] / natoms[:, 0] if real else None
    forces = calc_model_devi_f(force, real_f, relative, atomic=True)
    per_atom = forces[3]
    if np.any(types < 0):  # virtual atoms do not count
        counted = [kinds >= 0 if (kinds >= 0).any() else slice(None) for kinds in types]  # no real atom: zeros
        rows = [each[taken] for each, taken in zip(per_atom, counted, strict=True)]
        forces = tuple(np.array([reduce(row) for row in rows]) for reduce in (np.max, np.min, np.mean))
    virials = calc_model_devi_v(virial / natoms, real_v, relative_v)
    energies = calc_model_devi_e(energy[:, :, 0] / natoms[:, 0], real_e)
    step = np.arange(count, dtype=np.float64) * frequency
    out = np.column_stack([step, *virials, *forces[:3], energies, *([per_atom] if atomic else [])])
    if fname is not None:
        write_model_devi_out(out, fname, atomic=atomic)
    return out


def _reshaped(name: str, given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a quantity of `real_data` in its shape."""
    values = np.asarray(given)
    if values.size != np.prod(shape):
        raise InputError(f"real_data: {name} has the shape {values.shape}; needed: {shape}")
    return values.reshape(shape)


def write_model_devi_out(
    devi: np.ndarray, fname: str | os.PathLike[str], header: str = "", atomic: bool = False, mode: str = "w"
) -> None:
    """Write deviations as a table; `header` is a first line (such as the system), `mode` "a" appends."""
    try:
        if mode == "w":
            write_text(fname, _table(devi, header, atomic))
            return
        with Path(fname).open(mode, encoding="utf-8") as file:
            file.write(_table(devi, header, atomic))
    except OSError as error:
        raise InputError(f"{fname}: cannot be written: {error.strerror}") from error


def _table(devi: np.ndarray, header: str, atomic: bool) -> str:
    titles = f"# {'step':10s}" + "".join(f"{name:19s}" for name in (*COLUMNS, *(("atm_devi_f(N)",) if atomic else ())))
    text = io.StringIO(f"# {header}\n" if header else "")
    text.seek(0, os.SEEK_END)
    np.savetxt(text, devi, fmt=["%12d"] + ["%19.6e"] * (devi.shape[1] - 1), delimiter="", header=titles, comments="")
    return text.getvalue()


def make_model_devi(
    models: Sequence[str],
    *,
    system: str | Sequence[str] | None = None,
    output: str = "model_devi.out",
    frequency: int = 1,
    real_error: bool = False,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
    backend: str | None = None,
    keys: LabelKeys = DETECTED,
) -> None:
    """`dp model-devi`: write the deviation of model files on systems into one file; see `calc_model_devi`.

    `models`: with or without suffix (`deepmd.io.formats.find_frozen`). `real_error` compares with the labels of the
    data, whose names in files that ASE reads are `keys`; `backend` runs all models on this backend.
    """
    if len(models) < 2:
        raise InputError(f"{len(models)} model(s) are given; a deviation needs at least two: -m a.pth b.pth")
    selection, files = select_systems(system=system, keys=keys), [find_frozen(model, backend) for model in models]
    check_output(output, reads=(*files, *files_of(selection.paths)), text=True)
    labels = ("energy", "force", "virial") if real_error else ()
    potentials = [DeepPot(model, backend=backend) for model in files]
    parts = []
    for folder in selection.paths:
        data = selection.load(folder, potentials[0].get_type_map(), (*labels, *CONDITIONS))
        for name in labels:
            if name not in data.data and not (name == "virial" and data.cell is None):
                raise InputError(f"{folder}: holds no {name}.npy, which --real_error compares with")
        real = (
            {
                "virial": np.zeros((data.num_frames, 9)),
                **{name: np.asarray(data.data[name]) for name in labels if name in data.data},
            }
            if labels
            else None
        )
        with name_place(folder):
            devi = calc_model_devi(
                data.coord,
                data.cell,
                data.types,
                potentials,
                frequency=frequency,
                mixed_type=data.mixed,
                **potentials[0].conditions_in(data.data),
                real_data=real,
                atomic=atomic,
                relative=relative,
                relative_v=relative_v,
            )
        parts.append((folder, devi))
    write_text(output, "".join(_table(devi, folder, atomic) for folder, devi in parts))
    log.info("model deviation of %d system(s) is in %s", len(parts), output)

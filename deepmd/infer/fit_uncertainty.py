"""`dp uncertainty`: fit the uncertainty of a model to data, and compare it with true errors.

Formulas: docs/theory/uncertainty.md. Evaluation: rigidity.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.errors import InputError
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.selection import Selection, files_of, select_systems
from deepmd.data.systems import System
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.hidden_layers import FEATURE
from deepmd.infer.rigidity import (
    Rigidity,
    blocks_of,
    feature_width,
    fingerprint,
    place_of,
    sum_features,
    weight_variance,
)
from deepmd.io.atomic import check_output, write_text
from deepmd.io.formats import find_frozen

log = logging.getLogger(__name__)

CHUNK = 10_000_000
"""Numbers of features that are held at once: frames of a system are evaluated in parts."""

LARGEST = 8_000
"""Features of a structure. Above, the square matrix of the fit takes more than half a GB and its eigenvectors hours."""

STEP = 0.01
"""Displacement (Angstrom) of the differences of features: errors of rounding and curvature are below a percent."""


class Rows(NamedTuple):
    """Structures as the fit sees them: features (F, D), errors of energies (F,), numbers of atoms (F,)."""

    features: np.ndarray
    errors: np.ndarray
    atoms: np.ndarray


def fit_uncertainty(
    model: str | os.PathLike[str],
    *,
    system: str | Sequence[str] | None = None,
    datafile: str | None = None,
    held_out: str | Sequence[str] | None = None,
    input: str | None = None,
    output: str | None = None,
    directions: int = 2,
    backend: str | None = None,
    keys: LabelKeys = DETECTED,
) -> Path:
    """`dp uncertainty fit`: fit to data of the training, calibrate on held-out data, write the file; return its path.

    Parameters
    ----------
    model : model file, with or without suffix (`deepmd.io.formats.find_frozen`)
    system, datafile : data of the training, see `select_systems`
    held_out : folder or file that is searched for data which were not trained on
    input : input of the training, which names both kinds of data
    output : file to write; default: `place_of` the model
    directions : random directions of each structure along which forces enter; 0: energies only
    backend : runs the model
    keys : names of the labels in files that ASE reads
    """
    if input is not None and (system, datafile, held_out) != (None, None, None):
        raise InputError(
            "--input names the data of the training and the held-out data; leave out -s, -f and --held-out"
        )
    if input is None and held_out is None:
        raise InputError(
            "--held-out is missing: data that were not trained on, for the scale; accepted: -s DIR --held-out DIR, "
            "or --input INPUT, whose validation data are held out"
        )
    if directions < 0:
        raise InputError(f"--directions: is {directions}; accepted: 0 or more")
    trained = select_systems(system=system, datafile=datafile, train_data=input, keys=keys)
    held = select_systems(system=held_out, valid_data=input, keys=keys)
    file = find_frozen(model, backend)
    target = Path(output) if output is not None else place_of(file)
    check_output(target, "--output", reads=(file, *files_of([*trained.paths, *held.paths])))
    potential = DeepPot(file, backend=backend)
    rigidity = fit(potential, _load(potential, trained), _load(potential, held), directions)
    rigidity.save(target)
    facts = rigidity.facts
    log.info(
        "fitted to %d structures (%d features), scale from %d held-out structures whose energies have the RMSE %.3g eV "
        "and were predicted to have %.3g eV",
        *(facts[name] for name in ("structures", "features", "held_out", "rmse", "predicted")),
    )
    log.info(
        "uncertainty of %s is in %s (%.0f kB); DeepPot.eval(..., uncertainty=True) reads it",
        file,
        target,
        target.stat().st_size / 1e3,
    )
    return target


class Agreement(NamedTuple):
    """Errors of energies beside the predicted standard deviations, eV; docs/theory/uncertainty.md#calibration."""

    structures: int
    rmse: float
    predicted: float
    rank: float
    within_1: float
    within_2: float

    @classmethod
    def of(cls, errors: np.ndarray, std: np.ndarray) -> Agreement:
        """Compare errors (F,) with standard deviations (F,)."""
        size = np.abs(errors)
        varied = len(size) > 2 and np.ptp(size) > 0 < np.ptp(std)
        return cls(
            len(size),
            float(np.sqrt(np.mean(size**2))),
            float(np.sqrt(np.mean(std**2))),
            float(spearmanr(size, std).statistic) if varied else float("nan"),
            float(np.mean(size <= std)),
            float(np.mean(size <= 2 * std)),
        )


def check_uncertainty(
    model: str | os.PathLike[str],
    *,
    system: str | Sequence[str] | None = None,
    datafile: str | None = None,
    input: str | None = None,
    uncertainty: str | None = None,
    output: str | None = None,
    backend: str | None = None,
    keys: LabelKeys = DETECTED,
) -> list[Agreement]:
    """`dp uncertainty test`: compare predicted standard deviations of energies with errors, a log line a system.

    Parameters
    ----------
    system, datafile : data with energies, best such that were not trained on
    input : input of a training, whose validation data are taken
    uncertainty : file of `dp uncertainty fit`; default: `place_of` the model
    output : table to write, a row a structure: energy, label, error, standard deviation (eV)
    """
    selection = select_systems(system=system, datafile=datafile, valid_data=input, keys=keys)
    file = find_frozen(model, backend)
    if output is not None:
        check_output(output, "--output", reads=(file, *files_of(selection.paths)), text=True)
    potential = DeepPot(file, backend=backend)
    found, table = [], ["# energy label error std (eV)"]
    for data in _load(potential, selection):
        std, _ = potential.system_std(data, True if uncertainty is None else uncertainty)
        energy = potential.evaluate_system(data, slice(None), frozenset({"energy"}))["energy"][:, 0]
        label = np.asarray(data.data["energy"]).reshape(-1)
        each = Agreement.of(energy - label, std[:, 0])
        log.info(
            "%s: %d structures, RMSE %.3g eV, predicted %.3g eV, rank correlation %.2f, errors within 1 and 2 "
            "standard deviations %.0f %% and %.0f %% (normal: 68 %% and 95 %%)",
            *(data.path, *each[:4], 100 * each.within_1, 100 * each.within_2),
        )
        found.append(each)
        rows = np.column_stack([energy, label, energy - label, std[:, 0]])
        table += [f"# {data.path}", *("".join(f"{value:19.9e}" for value in row) for row in rows)]
    if output is not None:
        write_text(output, "\n".join(table) + "\n")
    return found


def fit(potential: DeepPot, trained: Sequence[System], held: Sequence[System], directions: int = 2) -> Rigidity:
    """Return the rigidity of a model (docs/theory/uncertainty.md#fit).

    Parameters
    ----------
    trained : systems that the model was trained on
    held : systems that it was not trained on
    directions : see `fit_uncertainty`
    """
    content, hidden = potential._content, potential.hidden()
    present = np.isin(np.arange(potential.get_ntypes()), np.concatenate([np.unique(each.types) for each in trained]))
    blocks = blocks_of(content, present)
    for system in held:
        for kind in np.unique(system.types):
            if kind >= 0 and blocks[kind] == Rigidity.ABSENT:
                raise InputError(
                    f"{system.path}: holds {potential.get_type_map()[kind]}, which no data of the training hold; "
                    "accepted: held-out data with the elements of the training"
                )
    known = np.where(blocks == Rigidity.ABSENT, Rigidity.CONSTANT, blocks)
    size = (int(blocks.max()) + 1) * (feature_width(content) + 1)
    if size > LARGEST:
        raise InputError(
            f"{potential.model_path}: a structure has {size} features, of {int(blocks.max()) + 1} elements with a "
            f"fitting net each; accepted: at most {LARGEST}. Fit to data with fewer elements"
        )
    energies, forces = np.zeros((size, size)), np.zeros((size, size))
    sums = {"energy": [0.0, 0], "force": [0.0, 0]}  # squared errors, and their number
    rng = np.random.default_rng(0)
    for system in trained:
        for part in _parts(system, size):
            rows, error = observe(potential, hidden, part, known)
            scaled = rows.features / np.sqrt(rows.atoms)[:, None]
            energies += scaled.T @ scaled
            _add(sums["energy"], rows.errors / np.sqrt(rows.atoms))
            if error is not None and directions:
                _add(sums["force"], error)
                for _ in range(directions):
                    slopes = _slopes(hidden, part, known, rng)
                    forces += slopes.T @ slopes / directions
    matrix = energies / _mean(sums["energy"])
    if sums["force"][1]:
        matrix += forces / _mean(sums["force"])
    eigenvalues, vectors = np.linalg.eigh(matrix)
    parts = [observe(potential, hidden, part, known)[0] for system in held for part in _parts(system, size)]
    tested = Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    root = vectors / np.sqrt(np.maximum(eigenvalues, 0.0) + 1.0 / weight_variance(content, blocks))
    scale = float(np.sqrt(np.mean((tested.errors / np.linalg.norm(tested.features @ root, axis=1)) ** 2)))
    root *= scale
    predicted = np.linalg.norm(tested.features @ root, axis=1)
    facts = {
        "structures": float(sums["energy"][1]),
        "features": float(size),
        "held_out": float(len(tested.errors)),
        "rmse": float(np.sqrt(np.mean(tested.errors**2))),
        "predicted": float(np.sqrt(np.mean(predicted**2))),
    }
    return Rigidity(root, blocks, fingerprint(content, potential.model_path), scale, facts)


def observe(
    potential: DeepPot, hidden: DeepPot, system: System, blocks_T: np.ndarray
) -> tuple[Rows, np.ndarray | None]:
    """Return the rows of a system and its errors of forces, None without labels."""
    force = "force" in system.data
    out = potential.evaluate_system(system, slice(None), frozenset({"energy", "force"} if force else {"energy"}))
    types = _types(system)
    rows = Rows(
        _features(hidden, system, blocks_T),
        out["energy"][:, 0] - np.asarray(system.data["energy"]).reshape(-1),
        np.maximum(np.count_nonzero(types >= 0, axis=1), 1),
    )
    if not force:
        return rows, None
    label = np.asarray(system.data["force"]).reshape(system.coord.shape)
    return rows, (out["force"].reshape(label.shape) - label)[types >= 0]


def _features(hidden: DeepPot, system: System, blocks_T: np.ndarray) -> np.ndarray:
    types = _types(system)
    features: np.ndarray = hidden.evaluate_system(system, slice(None), frozenset({FEATURE.atomic}))[FEATURE.atomic]
    blocks = np.where(types < 0, Rigidity.CONSTANT, blocks_T[types])
    return sum_features(features, blocks, int(blocks_T.max()) + 1)


def _slopes(hidden: DeepPot, system: System, blocks_T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return derivatives of the feature rows (F, D) along one random direction of each frame.

    The mean of their products is the sum over all coordinates of the products of derivatives.
    """
    direction = rng.choice((-STEP, STEP), size=system.coord.shape)
    ends = [
        _features(hidden, replace(system, coord=np.asarray(system.coord) + sign * direction), blocks_T)
        for sign in (1, -1)
    ]
    slopes: np.ndarray = (ends[0] - ends[1]) / (2 * STEP)
    return slopes


def _types(system: System) -> np.ndarray:
    return np.broadcast_to(np.asarray(system.types), (system.num_frames, system.num_atoms))


def _parts(system: System, width: int) -> Iterator[System]:
    """Yield the system in parts of few frames."""
    step = max(1, CHUNK // (system.num_atoms * width))
    for first in range(0, system.num_frames, step):
        rows = slice(first, first + step)
        yield replace(
            system,
            types=system.types[rows] if system.mixed else system.types,
            coord=system.coord[rows],
            cell=None if system.cell is None else system.cell[rows],
            data={name: values[rows] for name, values in system.data.items()},
        )


def _load(potential: DeepPot, selection: Selection) -> list[System]:
    names = ("energy", "force", *CONDITIONS)
    systems = [selection.load(path, potential.get_type_map(), names) for path in selection.paths]
    for system in systems:
        if "energy" not in system.data:
            raise InputError(f"{system.path}: holds no energies, which the uncertainty is fitted to")
    return systems


def _add(sums: list[float], errors: np.ndarray) -> None:
    sums[0] += float(np.sum(errors**2))
    sums[1] += errors.size


def _mean(sums: list[float]) -> float:
    return max(sums[0] / sums[1], 1e-20)

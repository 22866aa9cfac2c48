"""Energy biases fitted to data: after training, for fine-tuning, `dp change-bias` (docs/theory/fitting_nets.md)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.adapters.contracts import evaluate_module
from deepmd.adapters.frames import FramesEvaluator
from deepmd.array_model.components import in_precision
from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.backends import framework
from deepmd.data.batch import Frames
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.output_statistics import energy_bias, fit_energies, type_counts
from deepmd.data.selection import select_systems
from deepmd.host import plain
from deepmd.io.atomic import check_output
from deepmd.io.formats import backend_of, load_model, save_model
from deepmd.io.model_file import ModelFile
from deepmd.train.checkpoints import locate

log = logging.getLogger(__name__)

MODES = ("change", "set")


def fitted_bias(content: ModelFile, frames: Frames, mode: str = "change", backend: str = "numpy") -> Params:
    """Return the parameters of a model with its energy biases fitted to the energies of frames by least squares.

    Mode "change" adds the fit of label minus prediction to the biases. Mode "set" replaces the biases by the fit of the
    labels, as for a fresh model. Types that no frame has keep their bias. `backend` predicts.
    """
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}; accepted: {', '.join(MODES)}")
    model = content.model
    if model.output.name != "energy":
        raise InputError(f"biases are refitted for energies; this model predicts {model.output.name}")
    labelled = [(system, frame) for system, frame in frames if "energy" in system.data]
    if not labelled:
        raise InputError("no frame has an energy, to which biases could be fitted")
    old = np.asarray(content.params["out_bias"]).reshape(-1)
    counts = type_counts(labelled, model.ntypes)
    if mode == "set":
        new = np.where(counts.any(axis=0), energy_bias(model, labelled), old)
    else:
        labels = np.array([system.data["energy"][frame] for system, frame in labelled])
        residual = labels - predicted_energies(content, labelled, backend)
        new = old + fit_energies(counts, residual, np.full(model.ntypes, True), model.rcond)
    log.info("Change output bias of %s from %s to %s.", list(model.type_map), old.tolist(), new.tolist())
    return with_bias(content.params, new)


def with_bias(params: Params, bias: np.ndarray) -> Params:
    """Return the parameters with other energy biases (T,), eV."""
    return {**params, "out_bias": np.asarray(bias, dtype=np.float64).reshape(1, -1, 1)}


def predicted_energies(content: ModelFile, frames: Frames, backend: str = "numpy") -> np.ndarray:
    """Return the energies of frames (F,), eV, evaluated by a backend."""
    evaluator = evaluate_module(backend).evaluator
    out = FramesEvaluator(evaluator, content)(frames, frozenset({"energy"}))["energy"][:, 0]
    if not np.all(np.isfinite(out)):
        system, frame = frames[int(np.argmin(np.isfinite(out)))]
        raise InputError(
            f"the model predicts an energy of NaN or infinity for frame {system.number(frame)} of {system.path}; "
            "no bias can be fitted to that"
        )
    return out


def change_bias(
    path: str | os.PathLike[str],
    *,
    system: str | Sequence[str] | None = None,
    datafile: str | None = None,
    values: Sequence[float] | None = None,
    numb_frames: int = 0,
    mode: str = "change",
    output: str | None = None,
    keys: LabelKeys = DETECTED,
) -> Path:
    """Write a model file with other energy biases; return its path.

    Parameters
    ----------
    path : model file, checkpoint, or the folder of a training
    system, datafile : data to fit the biases to, see `deepmd.data.selection.select_systems`
    values : biases to set instead of a fit, one per type, eV
    numb_frames : frames of each system, 0 for all
    mode : see `fitted_bias`
    keys : names of the energies in files that ASE reads
    output : default: the name of the source with `_updated`; a TensorFlow checkpoint becomes a `.pb`
    """
    source = locate(path)
    default = source.with_name(f"{source.stem}_updated{'.pb' if source.suffix == '.index' else source.suffix}")
    target = default if output is None else Path(output if Path(output).suffix else f"{output}{default.suffix}")
    check_output(target, reads=(source,), folder=(target / "saved_model.pb").is_file())
    content = load_model(source)
    model = content.model
    if values is not None:
        if system is not None or datafile is not None:
            raise InputError("values and data are given; accepted: one of them")
        if len(values) != model.ntypes or not np.all(np.isfinite(values)):
            raise InputError(
                f"{list(values)} are given as biases; accepted: one number for each of the types {list(model.type_map)}"
            )
        params = with_bias(content.params, np.array(values))
    else:
        if numb_frames < 0:
            raise InputError(f"numb_frames is {numb_frames}; accepted: a number of frames, or 0 for all")
        names = ("energy", "numb_copy", *CONDITIONS)
        selection = select_systems(system=system, datafile=datafile, keys=keys)
        systems = [selection.load(path, model.type_map, names) for path in selection.paths]
        frames = [
            (each, frame) for each in systems for frame in range(min(each.num_frames, numb_frames or each.num_frames))
        ]
        params = fitted_bias(content, frames, mode, backend_of(source))
    _write(source, target, content, in_precision(model, params, xp=plain))
    log.info("Saved model to %s", target)
    return target


def _write(source: Path, target: Path, content: ModelFile, params: Params) -> None:
    """Write the model; a compressed model keeps its expansions, a checkpoint the progress of its training."""
    changed: Any = ModelFile(content.model, params, content.definition, content.min_nbor_dist, content.plan)
    if target.suffix == source.suffix == ".pt":
        module = framework("deepmd.adapters.torch.checkpoint", "torch")
        module.save_pt(target, changed, module.load_training(source)[1])
    else:
        save_model(target, changed)

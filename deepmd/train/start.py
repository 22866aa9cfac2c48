"""Start of a training: fresh, restart, or from a file; and the initial parameters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deepmd.adapters.contracts import checkpoint_module
from deepmd.adapters.training import Progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten, paths, replace_leaves
from deepmd.backends import flag
from deepmd.data import statistics
from deepmd.data.sampling import Sampler
from deepmd.data.stat_file import key_of, load_or_compute
from deepmd.host import plain
from deepmd.io.formats import backend_of, load_model
from deepmd.io.model_file import ModelFile, model_to_dict
from deepmd.io.sections import TrainingSection
from deepmd.io.train_input import TrainInput, read_input
from deepmd.io.write_input import model_tree
from deepmd.train.checkpoints import find_checkpoint, locate
from deepmd.train.trainable import tie_shared_vectors
from deepmd.world import World


@dataclass(frozen=True)
class Fresh:
    """Fresh weights, and the statistics of the training data."""

    path: ClassVar[None] = None


@dataclass(frozen=True)
class Continue:
    """A checkpoint of the same backend: parameters, optimizer, seed and step."""

    path: str


@dataclass(frozen=True)
class Take:
    """A checkpoint or model file of any format: its parameters."""

    path: str


@dataclass(frozen=True)
class FineTune:
    """A checkpoint or model file of any format: its parameters, with energy biases fitted to the new data."""

    path: str


Named = Fresh | Continue | Take | FineTune
"""A start that the user names."""


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint of the training itself; if there is none, another start."""

    otherwise: Named


Start = Named | Newest


def _link(tree: dict[str, Any]) -> str:
    """Return the prefix of the links to the newest checkpoint of the training that an input describes."""
    section = tree.get("training")
    return str(section.get("save_ckpt", TrainingSection.save_ckpt)) if isinstance(section, dict) else ""


def backend_of_start(start: Start, input_path: str | os.PathLike[str]) -> str | None:
    """Return the backend of the file that a training starts from, None if it starts from none."""
    if isinstance(start, Newest):
        found = find_checkpoint(_link(read_input(input_path)[0]))
        return backend_of(found) if found else backend_of_start(start.otherwise, input_path)
    return None if start.path is None else backend_of(locate(start.path))


def resolve(start: Start, tree: dict[str, Any], backend: str, world: World) -> Named:
    """Return the checkpoint or other start that `Newest` means for an input."""
    if not isinstance(start, Newest):
        return start
    newest = world.from_leader(find_checkpoint(_link(tree), backend))
    if newest is None:
        return start.otherwise
    if backend_of(newest) != backend:
        raise InputError(
            f"--restart auto: {newest} is of the {backend_of(newest)} backend, and {backend} is asked for. "
            f"To go on: dp {flag(backend_of(newest))}. To begin anew: another training/save_ckpt"
        )
    return Continue(str(newest))


def load_start(start: Named, backend: str) -> tuple[ModelFile | None, Progress | None]:
    """Return the model that a training starts from, and the progress of the training that is continued, if any."""
    if start.path is None:
        return None, None
    path = locate(start.path, backend)
    if not isinstance(start, Continue):
        return load_model(path), None
    if backend_of(path) != backend or path.suffix not in (".pt", ".index"):
        raise InputError(
            f"--restart {start.path}: not a checkpoint of the {backend} backend. "
            "To go on with its parameters only, use --init-model"
        )
    loaded: tuple[ModelFile, Progress] = checkpoint_module(backend).load_training(path)
    return loaded


def initial_params(options: TrainInput, sampler: Sampler, world: World) -> Params:
    """Return fresh parameters with the statistics of the data, replaced by those of `options.fixed_params`."""
    model = options.model
    # the weights of process 0, because an input without seed gives each process others
    params = world.from_leader(tie_shared_vectors(model, model.init(np.random.default_rng, xp=plain)))
    params = replace_leaves(params, {**flatten(params), **options.fixed_params})
    new = flatten(params)
    if set(new) - {"out_std"} <= set(options.fixed_params):
        return params  # pair tables and frozen models give every parameter
    known = set(options.fixed_params) - {"out_bias"}

    def compute() -> dict[str, np.ndarray]:
        frames = statistics.sample(sampler, options.model_section.data_stat_nbatch)
        protect = options.model_section.data_stat_protect
        after = flatten(statistics.apply_statistics(model, params, frames, protect, world))
        return {
            path.replace("/", "."): leaf
            for path, leaf in after.items()
            if path not in known and not np.array_equal(leaf, new[path])
        }

    # key of the model alone, as in DeePMD-kit, because statistics may come from other, larger data
    key = key_of(_statistics_keys(model_tree(options)))
    kept = load_or_compute(options.training.stat_file, options.training.stat_file_mode, key, compute, world=world)
    out: Params = replace_leaves(params, {path: kept.get(path.replace("/", "."), leaf) for path, leaf in new.items()})
    return out


def _statistics_keys(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a `model` section without the options that statistics do not depend on."""
    free = ("seed", "trainable", "evaluation", "data_bias_nsample")
    return {
        key: _statistics_keys(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if key not in free
    }


def check_same_model(options: TrainInput, source: ModelFile) -> None:
    """Check that the file to start from holds the model that the input describes."""
    wanted = options.model.init(np.random.default_rng, xp=plain)
    ours, theirs = model_to_dict(options.model, paths(wanted)), model_to_dict(source.model, paths(source.params))
    if difference := _describe_difference(ours, theirs, "model"):
        raise InputError(f"the input describes another model than the file to start from: {difference}")


def _describe_difference(ours: Any, theirs: Any, where: str) -> str:
    """Return the first difference of two stored forms as text; options that may change between runs are ignored."""
    free = ("trainable", "rcond", "preset_out_bias", "set_davg_zero")
    if isinstance(ours, dict) and isinstance(theirs, dict):
        each = [(key, ours.get(key), theirs.get(key)) for key in {**ours, **theirs} if key not in free]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        each = [(str(k), *pair) for k, pair in enumerate(zip(ours, theirs, strict=True))]
    else:
        return "" if ours == theirs else f"{where} is {ours!r} in the input and {theirs!r} in the file"
    differences = (_describe_difference(one, other, f"{where}/{key}") for key, one, other in each)
    return next(filter(None, differences), "")

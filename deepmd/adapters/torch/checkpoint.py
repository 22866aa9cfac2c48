"""`.pt` checkpoints: the model and the progress of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmd.adapters.training import FORMATS, Progress, read_progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.io.atomic import replacing
from deepmd.io.bounded import check_arrays
from deepmd.io.kit_table import from_kit
from deepmd.io.model_file import ModelFile, from_json, to_json
from deepmd.io.torch_archive import read_archive

ENDINGS = (".pt",)
"""Endings of the files of a checkpoint, after `PREFIX-STEP`."""


def state_text(name: str) -> str:
    """Return the content of the `checkpoint` file: the name of the newest checkpoint."""
    return f"{name}\n"


def save_pt(path: Path, content: ModelFile, progress: Progress) -> None:
    """Write a checkpoint atomically: tensors, numbers and strings only, so that it loads with `weights_only=True`."""
    tree = {
        "deepmd_format": FORMATS[-1],
        "definition": to_json(content, "torch"),
        "model": {name: torch.from_numpy(np.array(array)) for name, array in flatten(content.params).items()},
        "optimizer": {name: torch.from_numpy(np.array(array)) for name, array in progress.moments.items()},
        "step": progress.step,
        "seed": progress.seed,
        "terms": None if progress.terms is None else list(progress.terms),
    }
    with replacing(path) as temporary:
        torch.save(tree, temporary)


def load_pt(path: Path) -> ModelFile:
    """Read the model of a checkpoint of this program or of DeePMD-kit."""
    tree = read_archive(path)
    content: ModelFile = _model_of(tree, path) if _is_ours(tree) else from_kit("read_pt")(tree, path)
    return content


def load_training(path: Path) -> tuple[ModelFile, Progress]:
    """Read a checkpoint of this program."""
    tree = read_archive(path)
    if not _is_ours(tree):
        raise InputError(
            f"{path}: not a checkpoint of this program, so its training cannot be continued. "
            "Start from its weights: --init-model"
        )
    content = _model_of(tree, path)
    try:
        progress = read_progress(tree, tree["deepmd_format"], _arrays(tree["optimizer"], path), content.model)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the checkpoint is damaged: {error}") from error
    return content, progress


def _is_ours(tree: Any) -> bool:
    return isinstance(tree, dict) and "deepmd_format" in tree


def _model_of(tree: dict[str, Any], path: Path) -> ModelFile:
    if tree["deepmd_format"] not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise InputError(f"{path}: checkpoint format {tree['deepmd_format']!r}; this program reads {known}")
    return from_json(tree.get("definition", ""), _arrays(tree.get("model"), path), str(path))


def _arrays(tensors: Any, path: Path) -> dict[str, np.ndarray]:
    if not isinstance(tensors, dict) or not all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        raise InputError(f"{path}: the checkpoint is damaged: its parameters are no tensors")
    check_arrays((tensor.nbytes for tensor in tensors.values()), path)
    return {str(name): tensor for name, tensor in tensors.items()}

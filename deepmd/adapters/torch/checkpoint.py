"""`.pt` checkpoints: the model, and where its training stands."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmd.adapters.training import Progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.io.atomic import replacing
from deepmd.io.model_file import ModelFile, from_json, to_json

FORMAT = 1

ENDINGS = (".pt",)
"""Files of a checkpoint after `PREFIX-STEP`; it is complete when the last one is there."""


def state_text(name: str) -> str:
    """Return the content of the `checkpoint` file: the name of the newest one."""
    return f"{name}\n"


def save_pt(path: Path, content: ModelFile, progress: Progress) -> None:
    """Write a checkpoint in one step; plain tensors, numbers and strings only, so that it loads with `weights_only=True`."""
    tree = {
        "deepmd_format": FORMAT,
        "definition": to_json(content, "torch"),
        "model": {name: torch.from_numpy(np.array(array)) for name, array in flatten(content.params).items()},
        "optimizer": {name: torch.from_numpy(np.array(array)) for name, array in progress.moments.items()},
        "step": progress.step,
        "seed": progress.seed,
        "evaluation": progress.evaluation,
    }
    with replacing(path) as temporary:
        torch.save(tree, temporary)


def _read(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of a file it then refuses
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable checkpoint (it is damaged, or holds something else than tensors): {_first_line(error)}") from error
    if not isinstance(tree, dict) or "deepmd_format" not in tree:
        raise InputError(
            f"{path}: not a checkpoint of this program; a checkpoint of DeePMD-kit cannot be read yet: freeze it there, then convert the model to .dp"
        )
    if tree["deepmd_format"] != FORMAT:
        raise InputError(f"{path}: checkpoint format {tree['deepmd_format']}; this program reads {FORMAT}")
    return tree


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def load_pt(path: Path) -> ModelFile:
    """Read the model of a checkpoint."""
    return load_training(path)[0]


def load_training(path: Path) -> tuple[ModelFile, Progress]:
    """Read a checkpoint.

    Raises
    ------
    InputError
        The file is damaged, foreign, or holds objects other than tensors.
    """
    tree = _read(path)
    content = from_json(tree["definition"], {name: tensor.numpy() for name, tensor in tree["model"].items()}, str(path))
    moments = {name: tensor.numpy() for name, tensor in tree["optimizer"].items()}
    return content, Progress(int(tree["step"]), int(tree["seed"]), moments, tree.get("evaluation", "direct"))

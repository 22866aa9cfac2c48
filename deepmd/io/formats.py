"""Table of file formats. Modules are imported on use, so that reading a `.dp` loads no framework."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from deepmd.array_model.errors import InputError
from deepmd.backends import BACKENDS, asked_backend, default_backend, framework
from deepmd.io.atomic import check_output
from deepmd.io.model_file import ModelFile
from deepmd.io.model_summary import describe

log = logging.getLogger(__name__)

FORMATS = {
    # suffix: (module, loader, saver or None, backend that evaluates it)
    ".dp": ("deepmd.io.dp_file", "load_dp", "save_dp", "numpy"),
    ".yaml": ("deepmd.io.dp_file", "load_yaml", "save_yaml", "numpy"),
    ".yml": ("deepmd.io.dp_file", "load_yaml", "save_yaml", "numpy"),
    ".pth": ("deepmd.adapters.torch.export", "load_pth", "save_pth", "torch"),
    ".pt": ("deepmd.adapters.torch.checkpoint", "load_pt", None, "torch"),
    ".pb": ("deepmd.adapters.tf.export", "load_pb", "save_pb", "tf"),
    **dict.fromkeys(
        (".savedmodel", ".savedmodeltf"), ("deepmd.adapters.tf.savedmodel", "load_savedmodel", "save_savedmodel", "tf")
    ),
    ".index": ("deepmd.adapters.tf.checkpoint", "load_checkpoint", None, "tf"),
}
"""Readers and writers by suffix; `.index` stands for a TensorFlow checkpoint, which is named by its prefix."""

TAKE_INPUT = (".pb", ".index")
"""Formats whose loaders accept the input of the training beside the path."""

WRITABLE = tuple(suffix for suffix, row in FORMATS.items() if row[2])
"""Targets of conversion; checkpoints are written by training only."""

LAMMPS = (".pth", ".pb", ".savedmodel", ".savedmodeltf")
"""Formats that the `pair_style deepmd` of DeePMD-kit reads."""


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix that decides the format; a TensorFlow checkpoint may be named by its prefix."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS and Path(f"{path}.index").exists():
        return ".index"
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{path}: unknown model format {path.suffix!r}. Known: {', '.join(FORMATS)} "
            "(or the prefix of a TensorFlow checkpoint)"
        )
    return path.suffix.lower()


def backend_of(path: str | os.PathLike[str]) -> str:
    """Return the backend that evaluates a file."""
    return FORMATS[suffix_of(path)][3]


def find_frozen(path: str | os.PathLike[str], backend: str | None = None) -> Path:
    """Return a model file that may be named without suffix (`frozen_model`, `graph.000`).

    The suffix is that of the backend that is asked for (argument or DP_BACKEND); else that of the only file of this
    name; else that of the default backend.
    """
    path, asked = Path(path), asked_backend(backend)
    if path.suffix and not path.suffix[1:].isdecimal():
        return path
    places = {name: Path(f"{path}{row.frozen}") for name, row in BACKENDS.items()}
    there = [place for place in places.values() if place.exists()]
    return there[0] if asked is None and len(there) == 1 else places[asked or default_backend()]


def load_model(path: str | os.PathLike[str], training_input: str | os.PathLike[str] | None = None) -> ModelFile:
    """Read a model file of any format.

    Parameters
    ----------
    training_input : input of the training, for graphs and TensorFlow checkpoints of DeePMD-kit that do not store it
    """
    suffix = suffix_of(path)
    if training_input is not None and suffix not in TAKE_INPUT:
        raise InputError(
            f"{path}: states its options itself, so it takes no input; only .pb and TensorFlow checkpoints do"
        )
    path = Path(path)
    if not path.exists() and not Path(f"{path}.index").is_file():
        raise InputError(f"{path}: no such model file")
    module, loader, _, backend = FORMATS[suffix]
    given = () if training_input is None else (Path(training_input),)
    content: ModelFile = getattr(framework(module, backend), loader)(path, *given)
    return content


def check_target(path: str | os.PathLike[str], *reads: str | os.PathLike[str]) -> None:
    """Check before the work starts that a model can be written, and replaces none of the files that are read for it."""
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise InputError(f"{path}: cannot be written as {path.suffix!r}. Formats to write: {', '.join(WRITABLE)}")
    check_output(path, reads=reads, folder=(path / "saved_model.pb").is_file())


def save_model(path: str | os.PathLike[str], content: ModelFile) -> None:
    """Write a model in the format that the suffix names; log its size and what it holds."""
    path = Path(path)
    check_target(path)
    module, _, saver, backend = FORMATS[path.suffix.lower()]
    getattr(framework(module, backend), str(saver))(path, content)
    parts = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    log.info("wrote %s, %.1f MB: %s", path, sum(each.stat().st_size for each in parts) / 1e6, describe(content))


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], training_input: str | os.PathLike[str] | None = None
) -> None:
    """Convert a model file into another format; the suffixes decide. Lossless.

    Parameters
    ----------
    training_input : see `load_model`
    """
    check_target(target, source, *(() if training_input is None else (training_input,)))
    save_model(target, load_model(source, training_input))

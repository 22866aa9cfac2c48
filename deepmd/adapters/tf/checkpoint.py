"""TensorFlow checkpoints: the model and the progress of its training."""

from __future__ import annotations

import glob
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from deepmd.adapters.tf.graph import session
from deepmd.adapters.training import FORMATS, Progress, read_progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.io.bounded import check_arrays
from deepmd.io.kit_table import from_kit
from deepmd.io.model_file import ModelFile, from_json, to_json

DEFINITION, PROGRESS = "model_attr/definition", "train_attr/progress"


def save_checkpoint(prefix: Path, content: ModelFile, progress: Progress, graph: Any) -> None:
    """Write `PREFIX.data-00000-of-00001`, `.meta` (the graph) and, last, `.index`, which completes the checkpoint."""
    tensors: dict[str, Any] = {f"param/{path}": array for path, array in flatten(content.params).items()}
    tensors.update({f"adam/{name}": array for name, array in progress.moments.items()})
    tensors[DEFINITION] = to_json(content, "tf").encode()
    stored = {"format": FORMATS[-1], "step": progress.step, "seed": progress.seed, "terms": progress.terms}
    tensors[PROGRESS] = json.dumps(stored).encode()
    try:
        folder = Path(tempfile.mkdtemp(dir=prefix.parent, prefix=f".{prefix.name}."))
    except OSError as error:
        raise InputError(f"{prefix}: cannot be written: {error.strerror}") from error
    try:
        with tf.Graph().as_default() as saving, session(saving) as running:
            names = list(tensors)
            nodes = [
                tf.compat.v1.placeholder(tf.string if isinstance(value, bytes) else value.dtype)
                for value in tensors.values()
            ]
            save = tf.raw_ops.SaveV2(
                prefix=str(folder / "new"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=nodes
            )
            running.run(save, dict(zip(nodes, tensors.values(), strict=True)))
        with graph.as_default():
            tf.compat.v1.train.export_meta_graph(str(folder / "new.meta"))
        for ending in ENDINGS:
            (folder / f"new{ending}").replace(f"{prefix}{ending}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_checkpoint(path: Path, input_path: Path | None = None) -> ModelFile:
    """Read the model of a checkpoint of this program or of DeePMD-kit, named by its prefix or by its `.index`.

    Parameters
    ----------
    input_path : input that a model of DeePMD-kit was trained with, for files that do not store it
    """
    prefix, values = _read(path)
    if DEFINITION in values:
        return _model_of(prefix, values)
    if not from_kit("is_foreign")(values):
        raise InputError(f"{prefix}: a TensorFlow checkpoint, but not of a model")
    is_parameter = from_kit("is_parameter")
    arrays = {name: value for name, value in values.items() if is_parameter(name)}
    content: ModelFile = from_kit("read_graph")(_graph_beside(prefix), arrays, tf.make_ndarray, prefix, input_path)
    return content


def _graph_beside(prefix: str) -> Any:
    """Return the `GraphDef` of a checkpoint of DeePMD-kit."""
    meta = tf.compat.v1.MetaGraphDef()
    try:
        meta.ParseFromString(Path(f"{prefix}.meta").read_bytes())
    except (DecodeError, OSError) as error:
        raise InputError(f"{prefix}.meta: the graph of the checkpoint cannot be read: {error}") from error
    return meta.graph_def


def load_training(path: Path) -> tuple[ModelFile, Progress]:
    """Read a checkpoint of this program."""
    prefix, values = _read(path)
    if PROGRESS not in values:
        raise InputError(
            f"{prefix}: not a checkpoint of this program, so its training cannot be continued. "
            "Start from its weights: --init-model"
        )
    moments = {
        name.removeprefix("adam/"): np.asarray(value) for name, value in values.items() if name.startswith("adam/")
    }
    content = _model_of(prefix, values)
    try:
        stored = json.loads(values[PROGRESS])
        if stored["format"] not in FORMATS:
            raise ValueError(f"format {stored['format']!r}; this program reads {' and '.join(map(str, FORMATS))}")
        progress = read_progress(stored, stored["format"], moments, content.model)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{prefix}: the checkpoint cannot be read: {error}") from error
    return content, progress


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the prefix of a checkpoint and its values by name."""
    # links to the newest checkpoint are renewed one by one, so only the link of the index is followed
    prefix = str(Path(f"{str(path).removesuffix('.index')}.index").resolve()).removesuffix(".index")
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        stored = sum(file.stat().st_size for file in Path(prefix).parent.glob(f"{glob.escape(Path(prefix).name)}.*"))
        check_arrays((math.prod(shapes[name]) * (dtypes[name].size or STRING) for name in shapes), Path(prefix), stored)
        return prefix, {name: reader.get_tensor(name) for name in shapes}
    except (tf.errors.OpError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{prefix}: not a readable TensorFlow checkpoint: {str(error).splitlines()[0][:200]}"
        ) from error


STRING = 24
"""Bytes of an empty string in TensorFlow's memory."""


def _model_of(prefix: str, values: dict[str, Any]) -> ModelFile:
    arrays = {
        name.removeprefix("param/"): np.asarray(value) for name, value in values.items() if name.startswith("param/")
    }
    try:
        definition = values[DEFINITION].decode()
    except (KeyError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{prefix}: the stored model description is missing or damaged") from error
    return from_json(definition, arrays, prefix)


ENDINGS = (".data-00000-of-00001", ".meta", ".index")
"""Endings of the files of a checkpoint, after `PREFIX-STEP`, in the order in which they are written."""


def state_text(name: str) -> str:
    """Return the content of the `checkpoint` file that TensorFlow's own tools read."""
    return f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'

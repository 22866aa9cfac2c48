"""TensorFlow checkpoints: the model, and where its training stands."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.adapters.training import Progress
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.io.model_file import ModelFile, from_json, to_json

FORMAT = 1
DEFINITION, PROGRESS = "model_attr/definition", "train_attr/progress"


def save_checkpoint(prefix: Path, content: ModelFile, progress: Progress, graph: Any) -> None:
    """Write `PREFIX.data-00000-of-00001`, `.meta` (the graph) and, last, `.index`, which makes the checkpoint complete."""
    tensors: dict[str, Any] = {f"param/{path}": array for path, array in flatten(content.params).items()}
    tensors.update({f"adam/{name}": array for name, array in progress.moments.items()})
    tensors[DEFINITION] = to_json(content, "tf").encode()
    stored = {"format": FORMAT, "step": progress.step, "seed": progress.seed, "evaluation": progress.evaluation}
    tensors[PROGRESS] = json.dumps(stored).encode()
    try:
        folder = Path(tempfile.mkdtemp(dir=prefix.parent, prefix=f".{prefix.name}."))
    except OSError as error:
        raise InputError(f"{prefix}: cannot be written: {error.strerror}") from error
    try:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            names = list(tensors)
            nodes = [tf.compat.v1.placeholder(tf.string if isinstance(value, bytes) else value.dtype) for value in tensors.values()]
            save = tf.raw_ops.SaveV2(prefix=str(folder / "new"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=nodes)
            session.run(save, dict(zip(nodes, tensors.values(), strict=True)))
        with graph.as_default():
            tf.compat.v1.train.export_meta_graph(str(folder / "new.meta"))
        for ending in ENDINGS:
            (folder / f"new{ending}").replace(f"{prefix}{ending}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_checkpoint(path: Path) -> ModelFile:
    """Read the model of a checkpoint, named by its prefix or by its `.index`."""
    return load_training(path)[0]


def load_training(path: Path) -> tuple[ModelFile, Progress]:
    """Read a checkpoint.

    Raises
    ------
    InputError
        A file of the checkpoint is missing, damaged or foreign.
    """
    # the links of the newest checkpoint are renewed one by one: follow that of the index only
    prefix = str(Path(f"{str(path).removesuffix('.index')}.index").resolve()).removesuffix(".index")
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = list(reader.get_variable_to_shape_map())
        values = {name: reader.get_tensor(name) for name in names}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise InputError(f"{prefix}: not a readable TensorFlow checkpoint: {str(error).splitlines()[0][:200]}") from error
    if DEFINITION not in values or PROGRESS not in values:
        raise InputError(f"{prefix}: not a checkpoint of this program; one of DeePMD-kit cannot be read yet: freeze it there, then convert to .dp")
    stored = json.loads(values[PROGRESS])
    if stored["format"] != FORMAT:
        raise InputError(f"{prefix}: checkpoint format {stored['format']}; this program reads {FORMAT}")
    arrays = {name.removeprefix("param/"): np.asarray(value) for name, value in values.items() if name.startswith("param/")}
    moments = {name.removeprefix("adam/"): np.asarray(value) for name, value in values.items() if name.startswith("adam/")}
    progress = Progress(int(stored["step"]), int(stored["seed"]), moments, stored.get("evaluation", "direct"))
    return from_json(values[DEFINITION].decode(), arrays, prefix), progress


ENDINGS = (".data-00000-of-00001", ".meta", ".index")
"""Files of a checkpoint after `PREFIX-STEP`; it is complete when the last one is there."""


def state_text(name: str) -> str:
    """Return the content of the `checkpoint` file that TensorFlow's own tools read."""
    return f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'

"""TensorFlow graphs of evaluators and trainers: placeholders of a batch, sessions, outputs of a model.

Programs in exported files: program.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd import forks, process
from deepmd.adapters.evaluation import NEEDS_GRADIENT, assemble, components
from deepmd.adapters.tf.namespace import inference, xp
from deepmd.array_model.components import narrow_bfloat16
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import SIZES, Neighbours, field_types, unflatten_neighbours
from deepmd.array_model.spectral import Plan
from deepmd.array_model.tree import flatten, map_leaves, replace_leaves
from deepmd.plan.plans import PLAN, tables_of, with_tables


def check_process() -> None:
    """Raise InputError in a process forked after TensorFlow had run, which would wait for lost threads forever."""
    if "tensorflow" in forks.left_behind:
        raise InputError(
            "TensorFlow cannot run in this process: it was forked from one in which TensorFlow had run, "
            "whose threads did not come along. Start processes by 'spawn': multiprocessing.get_context('spawn')"
        )


def threads() -> int:
    """Return the threads per operation that the environment asks for; 0 leaves the number to TensorFlow."""
    return process.threads(process.INTRA) or process.threads("OMP_NUM_THREADS")


def choose_device(asked: str | None = None) -> str:
    """Return the device to run on (see `deepmd.process.choose_device`)."""
    return process.choose_device(asked, len(tf.config.list_physical_devices("GPU")))


def session(graph: Any, *, blocks: bool = False, device: str | None = None) -> Any:
    """Return a session on a device that honours the thread settings of the environment.

    Operations that have no kernel for the device run on the processor. The session takes memory of the device as it
    needs it, because other processes may use the device too.

    With `blocks`, as many runs as threads share the session, and each operation has one thread: operations that divide
    themselves as well would wait for each other (docs/design.md#blocks).
    """
    check_process()
    inter, intra = process.threads(process.INTER), threads()
    if blocks and intra > 1:
        inter, intra = inter or intra, 1
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter)
    config.gpu_options.allow_growth = True
    chosen = choose_device(device)
    if chosen == process.CPU:
        config.device_count["GPU"] = 0
    else:
        config.gpu_options.visible_device_list = chosen.removeprefix("cuda:")
    # no rewriting: the first run takes longer, and later runs are no faster (docs/benchmarks.md#where-the-time-goes)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.compat.v1.Session(graph=graph, config=config)


@dataclass(frozen=True)
class Inputs:
    """Placeholders of one batch.

    Attributes
    ----------
    neighbours, conditions : arguments of `atomic_output`; sizes are scalar tensors, cut from the vectors that are fed
    num_atoms, num_frames : scalar placeholders
    fed : {name: placeholder} of all placeholders
    """

    neighbours: Neighbours
    conditions: Conditions
    num_atoms: Any
    num_frames: Any
    fed: dict[str, Any]


def placeholders(model: Model) -> Inputs:
    """Make the placeholders of a model in the current graph; every leading size is unknown."""

    def make(name: str, dtype: Any, sizes: tuple[int | None, ...]) -> Any:
        return tf.compat.v1.placeholder(dtype, sizes, name=f"pairs/{name}")

    arrays = {name: make(name, *each) for name, each in field_types(model.layout(), model.ntypes).items()}
    asked = {name: size for name, (size, _) in model.conditions.items() if size}
    conditions = {name: make(name, tf.float64, (None, size)) for name, size in asked.items()}
    numbers = {name: make(name, tf.int32, ()) for name in ("num_atoms", "num_frames")}
    neighbours = in_32_bits(unflatten_neighbours(arrays, xp=xp))
    return Inputs(neighbours, conditions, **numbers, fed=arrays | conditions | numbers)


def feed(
    inputs: Inputs, neighbours: Neighbours, conditions: Conditions, num_atoms: int, num_frames: int
) -> dict[Any, Any]:
    """Return the feed of one batch."""
    values = {**vars(neighbours), **conditions, "num_atoms": num_atoms, "num_frames": num_frames}
    return {placeholder: values[name] for name, placeholder in inputs.fed.items()}


def in_32_bits(neighbours: Neighbours) -> Neighbours:
    """Cast the sizes to int32, because sizes of arrays in a graph are int32 and TensorFlow mixes no integer widths."""
    sizes = {name: tuple(tf.cast(size, tf.int32) for size in getattr(neighbours, name)) for name in SIZES}
    return replace(neighbours, **sizes)


def predictions(
    model: Model, params: Params, plan: Plan, inputs: Inputs, wanted: frozenset[str] | None = None, *, training: bool
) -> dict[str, Any]:
    """Return tensors of the wanted outputs, by default all; in training they can be differentiated by parameters."""
    wanted = frozenset(model.output.names) if wanted is None else wanted
    value_Nd, descriptor_ND = model.atomic_output(
        params, inputs.neighbours, inputs.conditions, plan, xp=xp if training else inference
    )
    grads = gradients(model, value_Nd, inputs.neighbours, wanted) if wanted & NEEDS_GRADIENT else []
    return assemble(
        model, value_Nd, descriptor_ND, grads, inputs.neighbours, inputs.num_atoms, inputs.num_frames, wanted, xp=xp
    )


def gradients(model: Model, value_Nd: Any, neighbours: Neighbours, wanted: frozenset[str]) -> list[Any]:
    """Return the derivatives by displacements (N, M, 3) of `components`."""
    return [
        tf.gradients(total, neighbours.disp_NM3)[0] for total in components(model, value_Nd, neighbours, wanted, xp=xp)
    ]


def in_graph(model: Model, params: Params, plan: Plan, node: Callable[[str, np.ndarray], Any]) -> tuple[Params, Plan]:
    """Return parameters and plan as tensors of the current graph: `node(path, array)` makes the node of an array.

    Parameters of parts in bfloat16 are stored in float32, because NumPy has no bfloat16, and cast.
    """
    both = {**params, PLAN: tables_of(plan)}
    nodes = replace_leaves(both, {path: node(path, array) for path, array in flatten(both).items()})
    tables = nodes.pop(PLAN)

    def narrow(part: Any) -> Any:
        return map_leaves(lambda leaf: tf.cast(leaf, tf.bfloat16) if leaf.dtype == tf.float32 else leaf, part)

    return narrow_bfloat16(model, nodes, narrow), with_tables(plan, tables)


def constant(path: str, array: np.ndarray) -> Any:
    """Make a parameter a constant."""
    return tf.constant(array, name=f"param/{path}")

"""Neighbour list of LAMMPS in a `.pb`: one operator of DeePMD-kit, for its list alone (docs/layouts.md#pb).

LAMMPS hands over its list as memory addresses in `t_mesh`, which only operators of DeePMD-kit follow. The operator
stands in a function that is called by name, so that TensorFlow without the operator loads and runs the rest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import function_pb2, node_def_pb2

from deepmd.array_model.neighbours import Layout

ADDRESSES = 16
"""Length of a `t_mesh` that holds addresses."""

FUNCTION = "list_of_lammps"
INPUTS = {"coord": tf.float64, "type": tf.int32, "natoms": tf.int32, "box": tf.float64, "mesh": tf.int32}
CPU = "/job:localhost/replica:0/task:0/device:CPU:0"


def list_of_lammps(fed: dict[str, Any], layout: Layout) -> Any:
    """Return the numbers of the neighbours of each local atom (nloc, C), -1 where empty; for one frame."""
    (nlist,) = tf.raw_ops.RemoteCall(
        target=CPU, args=[_shaped(fed, name) for name in INPUTS], Tout=[tf.int32], f=FUNCTION
    )
    return tf.cast(tf.reshape(nlist, [-1, sum(_sections(layout))]), tf.int64)


def define_function(graph: Any, layout: Layout, ntypes: int) -> None:
    """Add the function to a serialised graph; the operator's other outputs, and what normalises them, are not used.

    A list that is nearest first without regard to types holds all that either overflow policy of a row keeps; where
    each section drops its own farthest, the operator has the sections of the model.
    """
    function = function_pb2.FunctionDef()
    function.signature.name = FUNCTION
    for name, dtype in INPUTS.items():
        function.signature.input_arg.add(name=name, type=dtype.as_datatype_enum)
    function.signature.output_arg.add(name="nlist", type=tf.int32.as_datatype_enum)
    sections = _sections(layout)
    for name, value in (("mean", 0.0), ("deviation", 1.0)):
        array = np.full((ntypes, 4 * sum(sections)), value)
        constant = node_def_pb2.NodeDef(name=name, op="Const")
        constant.attr["dtype"].type = tf.float64.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.float64, array.shape))
        function.node_def.append(constant)
    operator = node_def_pb2.NodeDef(name="search", op="ProdEnvMatA" if layout.by_section else "ProdEnvMatAMix")
    operator.input.extend([*INPUTS, "mean:output:0", "deviation:output:0"])
    operator.attr["T"].type = tf.float64.as_datatype_enum
    operator.attr["rcut_a"].f = -1.0
    operator.attr["rcut_r"].f = operator.attr["rcut_r_smth"].f = _above(layout.rcut)
    operator.attr["sel_a"].list.i.extend(sections)
    operator.attr["sel_r"].list.i.extend([0] * len(sections))
    function.node_def.append(operator)
    function.ret["nlist"] = "search:nlist:0"
    graph.library.function.append(function)


def _sections(layout: Layout) -> tuple[int, ...]:
    return layout.sections if layout.by_section else (layout.row_limit,)


def _above(rcut: float) -> float:
    """Return a number in single precision that is not below the cutoff: the attribute is no double."""
    single = float(np.float32(rcut))
    return single if single >= rcut else float(np.nextafter(np.float32(rcut), np.float32(math.inf)))


def _shaped(fed: dict[str, Any], name: str) -> Any:
    """Return an input of the operator, which has a row for each frame where the input has."""
    values = fed[f"t_{name}"]
    return tf.reshape(values, [1, -1]) if name in ("coord", "type", "box") else values

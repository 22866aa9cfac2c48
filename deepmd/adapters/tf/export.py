"""`.pb`: a frozen graph of stock operations that runs without this package (docs/layouts.md#pb).

Neighbour search: `deepmd/data/search.py`. Model and derivatives: `program.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from deepmd.adapters.evaluation import assemble
from deepmd.adapters.getters import getters_of, types_with_output
from deepmd.adapters.tf import lammps
from deepmd.adapters.tf.graph import in_32_bits
from deepmd.adapters.tf.namespace import require, xp
from deepmd.adapters.tf.program import exact_values, limit_checks
from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.outputs import Output
from deepmd.data import search
from deepmd.data.pack_candidates import pack_candidates
from deepmd.data.search import Candidates
from deepmd.io.atomic import replacing
from deepmd.io.bounded import check_arrays
from deepmd.io.kit_table import from_kit
from deepmd.io.model_file import ModelFile, from_json, plan_evaluation, to_json

DEFINITION = "model_attr/definition"
"""The constant with the JSON from which the whole model is rebuilt."""

PARAMETER = "param/"
"""Prefix of the name of a parameter's constant, before the path of the parameter."""

PERIODIC, OPEN = (6, 7), (0, 1)
"""Lengths of `t_mesh` that ask for a neighbour search; `lammps.ADDRESSES` is that of a neighbour list."""


ATTRIBUTES = {
    "descrpt_attr/rcut": ("get_rcut", tf.float64),  # the type of t_coord and t_box
    "descrpt_attr/ntypes": ("get_ntypes", tf.int32),
    "fitting_attr/dfparam": ("get_dim_fparam", tf.int32),
    "fitting_attr/daparam": ("get_dim_aparam", tf.int32),
    "fitting_attr/aparam_nall": ("is_aparam_nall", tf.bool),
}
"""{constant: (getter of its value, data type)} of constants by which other programs recognise a model."""


def save_pb(path: Path, content: ModelFile) -> None:
    """Write a `.pb` file."""
    graph = tf.Graph()
    with graph.as_default():
        _evaluation(content)
        _attributes(content)
        tf.constant(to_json(content, "tf"), name=DEFINITION)  # last: a file that is cut short lacks it
    definition, layout = graph.as_graph_def(), content.model.layout()
    if _takes_lists(content.model):
        lammps.define_function(definition, layout, content.model.ntypes)
    _name_by_content(definition)
    with replacing(path) as temporary:
        temporary.write_bytes(definition.SerializeToString())


def _name_by_content(graph: Any) -> None:
    """Rename the functions of a graph, because graphs that are imported together share the names of functions."""
    digest = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()[:16]
    names = {function.signature.name: f"{function.signature.name}_{digest}" for function in graph.library.function}
    for function in graph.library.function:
        function.signature.name = names[function.signature.name]
    for node in chain(graph.node, *(function.node_def for function in graph.library.function)):
        for attribute in node.attr.values():
            if attribute.func.name in names:
                attribute.func.name = names[attribute.func.name]


def load_pb(path: Path, input_path: Path | None = None) -> ModelFile:
    """Read a `.pb` file of this program or of DeePMD-kit; its graph is not run.

    Parameters
    ----------
    input_path : input that a model of DeePMD-kit was trained with, for files that do not store it
    """
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise InputError(f"{path}: not a frozen TensorFlow graph, or one that is cut short: {error}") from error
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    if DEFINITION not in constants:
        if not from_kit("is_foreign")(constants):
            raise InputError(
                f"{path}: a TensorFlow graph, but not a model"
                if constants
                else f"{path}: not a frozen TensorFlow model: it has no constants"
            )
        is_parameter = from_kit("is_parameter")
        named = _arrays({name: tensor for name, tensor in constants.items() if is_parameter(name)}, path)
        content: ModelFile = from_kit("read_graph")(graph, named, tf.make_ndarray, str(path), input_path)
        return content
    arrays = _arrays({name: tensor for name, tensor in constants.items() if name.startswith(PARAMETER)}, path)
    try:
        definition = constants[DEFINITION].string_val[0].decode()
    except (IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the stored model description is damaged: {error}") from error
    return from_json(definition, {name.removeprefix(PARAMETER): array for name, array in arrays.items()}, str(path))


# -- reading --------------------------------------------------------------------------------------------------------


def _arrays(tensors: dict[str, Any], path: Path) -> dict[str, np.ndarray]:
    """Return constants as arrays after a check of their sizes, because few bytes may stand for many equal values."""
    check_arrays((_claimed(tensor, f"{path}: {name}") for name, tensor in tensors.items()), path)
    out = {}
    for name, tensor in tensors.items():
        try:
            out[name] = tf.make_ndarray(tensor)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {name} is damaged: {error}") from error
    return out


def _claimed(tensor: Any, where: str) -> int:
    """Return the bytes of the array that a constant claims."""
    sizes = [size.size for size in tensor.tensor_shape.dim]
    try:
        dtype = tf.as_dtype(tensor.dtype)
    except TypeError as error:
        raise InputError(f"{where} is damaged: {error}") from error
    if not dtype.is_floating or min(sizes, default=0) < 0:
        raise InputError(f"{where} is not a parameter: {dtype.name}, sizes {sizes}")
    return int(math.prod(sizes) * dtype.size)


# -- writing --------------------------------------------------------------------------------------------------------


def _attributes(content: ModelFile) -> None:
    """Make the constants by which other programs recognise a model."""
    model, getters = content.model, getters_of(content)
    for name, (getter, dtype) in ATTRIBUTES.items():
        tf.constant(getters[getter][1], dtype, name=name)
    tf.constant(" ".join(model.type_map), name="model_attr/tmap")
    output: Output = model.output
    tf.constant("ener" if output.scalar else output.name, name="model_attr/model_type")
    tf.constant("1.1", name="model_attr/model_version")
    tf.constant([] if output.scalar else types_with_output(model), tf.int32, name="model_attr/sel_type")
    if not output.scalar:
        tf.constant(
            output.width, tf.int32, name="fitting_attr/numb_dos" if output.name == "dos" else "model_attr/output_dim"
        )
    tf.constant(json.dumps({"model": content.definition}), name="train_attr/training_script")
    if content.min_nbor_dist is not None:
        tf.constant(content.min_nbor_dist, tf.float64, name="train_attr/min_nbor_dist")


def _evaluation(content: ModelFile) -> None:
    """Build inputs, neighbours, model, derivatives, outputs. All frames (F) have n centres; ghosts may follow."""
    model, (plan, _) = content.model, plan_evaluation(content)
    fed, layout = _placeholders(model), model.layout()
    natoms = tf.cast(fed["t_natoms"], tf.int64)
    with tf.control_dependencies(_checks(fed, model)):
        fed = {name: tf.identity(values) for name, values in fed.items()}  # no address is followed before the checks
        coord_A3 = tf.reshape(fed["t_coord"], [-1, 3])
        type_A = tf.cast(tf.reshape(fed["t_type"], [-1]), tf.int64)
    n, num_atoms = natoms[0], tf.size(type_A, out_type=tf.int64)
    num_frames = num_atoms // natoms[1]
    frame_A = tf.range(num_atoms) // natoms[1]
    found = _found(fed, coord_A3, type_A, frame_A, num_frames, model)
    packed = pack_candidates(found, type_A, frame_A, layout, model.ntypes, xp=xp)
    neighbours = in_32_bits(packed.neighbours)
    conditions = {}
    for name, (size, _) in model.conditions.items():
        if size and CONDITIONS[name].per_atom:
            conditions[name] = tf.gather(_rows(fed[f"t_{name}"], num_frames, n, size), packed.row_N)
        elif size:
            conditions[name] = _rows(fed[f"t_{name}"], num_frames, tf.ones_like(n), size)

    wanted = frozenset(model.output.names)
    value_Nd, descriptor_ND, grads = exact_values(model, content.params, plan, neighbours, conditions, wanted)
    out = assemble(model, value_Nd, descriptor_ND, grads, neighbours, num_atoms, num_frames, wanted, xp=xp)

    def output(name: str, values: Any) -> None:
        tf.reshape(values, tf.stack([num_frames, -1]), name=name)

    def of_centres(values: Any) -> Any:
        return xp.segment_sum(values, packed.row_N, num_frames * n)

    def by_component(values: Any) -> Any:
        """Move the component before the atom, as readers of dipoles and polarizabilities expect."""
        if model.output.scalar:
            return values
        return tf.transpose(tf.reshape(values, tf.stack([num_frames, n, model.output.width, -1])), [0, 2, 1, 3])

    total, atomic = model.output.name, of_centres(out[model.output.atomic])
    if total in ("dipole", "polar"):  # only atoms whose type has an output
        chosen_A = tf.reduce_any(tf.equal(type_A[:, None], tf.constant(types_with_output(model), tf.int64)), axis=1)
        output(f"o_{total}", tf.boolean_mask(atomic, chosen_A))
        output(f"o_global_{total}", out[total])
    else:
        tf.identity(out[total], name=f"o_{total}")
        output(f"o_atom_{total}", atomic)
    if model.output.differentiable:
        output("o_force", by_component(tf.gather(out["force"], packed.position_A)))
        output("o_virial", out["virial"])
        output("o_atom_virial", by_component(tf.gather(out["atom_virial"], packed.position_A)))
    output("o_descriptor", of_centres(out["descriptor"]))


def _found(fed: dict[str, Any], coord_A3: Any, type_A: Any, frame_A: Any, num_frames: Any, model: Model) -> Candidates:
    """Return the neighbours: those of LAMMPS's list if `t_mesh` has its addresses, otherwise those of a search."""
    mesh, layout = tf.size(fed["t_mesh"]), model.layout()

    def by_search() -> tuple[Any, ...]:
        cell_F33 = _cells(fed["t_box"], mesh, search.enclosing_cell(coord_A3, layout.rcut, xp=xp), num_frames)
        periodic = tf.cast(mesh > max(OPEN), tf.float64)
        found = search.candidates(coord_A3, type_A, frame_A, cell_F33, layout.rcut, periodic, xp=xp)
        return tuple(vars(found).values())

    def by_list() -> tuple[Any, ...]:
        index_NC = lammps.list_of_lammps(fed, layout)
        atom_N = tf.range(tf.shape(index_NC, out_type=tf.int64)[0])
        return tuple(vars(search.listed(coord_A3, atom_N, index_NC, layout.rcut, xp=xp)).values())

    if not _takes_lists(model):
        return Candidates(*by_search())
    return Candidates(*tf.cond(tf.equal(mesh, lammps.ADDRESSES), by_list, by_search))


def _placeholders(model: Model) -> dict[str, Any]:
    """Make the inputs, without shapes because some programs feed flat arrays and some a row for each frame."""
    make = tf.compat.v1.placeholder
    fed = {
        "t_coord": make(tf.float64, None, name="t_coord"),
        "t_type": make(tf.int32, None, name="t_type"),
        "t_natoms": make(tf.int32, [model.ntypes + 2], name="t_natoms"),
        "t_box": make(tf.float64, [None], name="t_box"),  # readers look at its rank
        "t_mesh": make(tf.int32, [None], name="t_mesh"),
    }
    for name, (size, default) in model.conditions.items():
        if size and default is not None:
            fed[f"t_{name}"] = tf.compat.v1.placeholder_with_default(
                tf.constant(default, tf.float64), None, name=f"t_{name}"
            )
        elif size:
            fed[f"t_{name}"] = make(tf.float64, None, name=f"t_{name}")
    return fed


def _takes_lists(model: Model) -> bool:
    """Whether LAMMPS can run the graph: its list does not tell the owners of ghosts, which messages need."""
    return model.output.name == "energy" and not model.layout().needs_neighbour_features


def _checks(fed: dict[str, Any], model: Model) -> list[Any]:
    """Make the operations that stop a run with invalid input."""
    mesh, natoms, ntypes, listed = tf.size(fed["t_mesh"]), fed["t_natoms"], model.ntypes, _takes_lists(model)
    one_frame = tf.equal(mesh, lammps.ADDRESSES) & tf.equal(natoms[1], tf.size(fed["t_type"]))
    lengths = (*PERIODIC, *OPEN, *([lammps.ADDRESSES] if listed else []))
    accepted = tf.reduce_any(tf.equal(mesh, tf.constant(lengths)))
    largest = tf.reduce_max(tf.concat([tf.reshape(fed["t_type"], [-1]), [-1]], axis=0))
    return [
        *(
            check
            for name in CONDITIONS
            if f"t_{name}" in fed
            for check in limit_checks(name, fed[f"t_{name}"], f"t_{name}")
        ),
        require(
            accepted,
            "t_mesh: accepted lengths are 6 or 7 (periodic), 0 or 1 (open boundary)"
            + (" and 16 (neighbour list)." if listed else "; LAMMPS needs the .pth of this model.")
            + " Given:",
            mesh,
        ),
        require(
            one_frame | tf.equal(natoms[0], natoms[1]),
            "t_natoms: ghost atoms need a neighbour list of one frame; without, the first two must be equal. Given:",
            natoms,
        ),
        require(
            tf.equal(tf.size(fed["t_coord"]), 3 * tf.size(fed["t_type"])),
            "t_coord: needs 3 values for each atom. Given:",
            tf.size(fed["t_coord"]),
        ),
        require(tf.reduce_all(tf.math.is_finite(fed["t_coord"])), "t_coord: a value is not finite:", fed["t_coord"]),
        require(largest < ntypes, f"t_type: the model has {ntypes} types, counted from 0. Given:", largest),
    ]


def _cells(box: Any, mesh: Any, open_133: Any, num_frames: Any) -> Any:
    """Cells of the frames (F, 3, 3): those fed, or `open_133` if the length of `t_mesh` says open boundary."""
    given = tf.where(mesh > max(OPEN), num_frames, tf.zeros_like(num_frames))
    box_F33 = tf.reshape(tf.reshape(box, [-1])[: 9 * given], [-1, 3, 3])
    return tf.concat([box_F33, tf.tile(open_133, tf.stack([num_frames - given, 1, 1]))], axis=0)


def _rows(values: Any, num_frames: Any, per_frame: Any, size: int) -> Any:
    """Return rows of `size` values, `per_frame` rows of each frame; values of a single frame are repeated for all."""
    frames = tf.reshape(values, tf.stack([-1, per_frame * size])) + tf.zeros(tf.stack([num_frames, 1]), tf.float64)
    return tf.reshape(frames, [-1, size])

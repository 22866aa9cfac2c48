"""`.savedmodel`: stock operations in a SavedModel whose functions programs find by name (docs/layouts.md#savedmodel).

Neighbour lists are arrays, not memory addresses as for a `.pb`, so LAMMPS can run the file. The complete model lies
beside the graph as a `.dp` file, in the folder that TensorFlow leaves to other programs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from deepmd.adapters.evaluation import assemble
from deepmd.adapters.getters import getters_of
from deepmd.adapters.tf.graph import check_process, in_32_bits
from deepmd.adapters.tf.namespace import xp
from deepmd.adapters.tf.program import exact_values, limit_checks
from deepmd.array_model.conditions import CONDITIONS, Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.neighbours import field_types, flatten_neighbours, unflatten_neighbours
from deepmd.data import search
from deepmd.data.pack_candidates import PackedCandidates, pack_candidates
from deepmd.io.atomic import real, replacing_folder
from deepmd.io.dp_file import load_dp, save_dp
from deepmd.io.model_file import ModelFile, plan_evaluation

WHOLE = "assets.extra/model.dp"
"""The model as a `.dp` file; `assets.extra` is TensorFlow's name of a folder that TensorFlow does not read."""

DTYPES = {
    bool: tf.bool,
    int: tf.int64,
    str: tf.string,
    float: tf.float64,
    list[int]: tf.int64,
    list[str]: tf.string,
    list[float]: tf.float64,
}
"""TensorFlow's data type of a constant, by its type in `deepmd.adapters.getters`."""

Tensor = Any


def save_savedmodel(path: Path, content: ModelFile) -> None:
    """Write a `.savedmodel` folder of an energy model."""
    if content.model.output.name != "energy":
        raise InputError(
            f"{path}: the format is for energies only; this model predicts {content.model.output.name}. "
            "Use .pb, .pth, .dp or .yaml"
        )
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise InputError(f"{path}: cannot be written: it is there, and no SavedModel")
    check_process()
    with replacing_folder(real(path)) as folder:
        # without gradient functions, because derivatives are outputs of the functions themselves
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(_module(content), str(folder), options=options)
        (folder / WHOLE).parent.mkdir()
        save_dp(folder / WHOLE, content)


def load_savedmodel(path: Path) -> ModelFile:
    """Read a `.savedmodel` folder; its functions are not run."""
    if not (path / "saved_model.pb").is_file():
        raise InputError(f"{path}: not a SavedModel: it is no folder with a file saved_model.pb")
    if not (path / WHOLE).is_file():
        raise InputError(f"{path}: a SavedModel, but not one that this program wrote: it has no {WHOLE}")
    return load_dp(path / WHOLE)


# -- functions ------------------------------------------------------------------------------------------------------


def _module(content: ModelFile) -> Any:
    """Return the functions that other programs call, under their names."""
    module = tf.Module()
    getters = getters_of(content)
    getters["get_sel_type"] = list[int], list(range(content.model.ntypes))
    getters["get_pair_exclude_types"] = list[int], []  # pairs are excluded inside
    for name, (kind, value) in getters.items():
        setattr(module, name, _named(name, partial(tf.constant, value, DTYPES[kind]), []))
    for name, function in _evaluations(content).items():
        setattr(module, _ATTRIBUTES[name], function)
    return module


_ATTRIBUTES = {
    "call_without_atomic_virial": "call",
    "call_with_atomic_virial": "call_atomic_virial",
    "call_lower_without_atomic_virial": "call_lower",
    "call_lower_with_atomic_virial": "call_lower_atomic_virial",
}
"""{name that C++ looks up: attribute in Python} of the functions that evaluate."""


def _named(name: str, function: Callable[..., Any], signature: list[Any]) -> Any:
    """Return a TensorFlow function whose name in the file begins with `name`."""

    def named(*arguments: Tensor) -> Any:
        return function(*arguments)

    named.__name__ = name
    return tf.function(named, input_signature=signature, autograph=False)


def _evaluations(content: ModelFile) -> dict[str, Any]:
    """Return the functions of `_ATTRIBUTES`, which share a core that holds the parameters.

    Message passing has a second core, because atomic virials need more derivatives.
    """
    model = content.model
    coord = tf.TensorSpec([None, None, 3], tf.float64, "coord")
    atype = tf.TensorSpec([None, None], tf.int32, "atype")
    box = tf.TensorSpec([None, None, None], tf.float64, "box")
    nlist, mapping = (
        tf.TensorSpec([None, None, None], tf.int64, "nlist"),
        tf.TensorSpec([None, None], tf.int64, "mapping"),
    )
    conditions = [
        tf.TensorSpec([None, None, size] if CONDITIONS[name].per_atom else [None, size], tf.float64, name)
        for name, size in _arguments(model).items()
    ]
    core = _core(content, atomic=False)
    cores = {False: core, True: _core(content, atomic=True) if model.layout().needs_neighbour_features else core}

    def make(atomic: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def call(coord: Tensor, atype: Tensor, box: Tensor, *conditions: Tensor) -> dict[str, Tensor]:
            atoms = _atoms(coord, atype)
            packed = _found(model, *atoms, box)
            return _outputs(
                model, cores[atomic], packed, atype, xp.shape(coord)[1], conditions, atomic, force_of_ghosts=False
            )

        def call_lower(
            coord: Tensor, atype: Tensor, nlist: Tensor, mapping: Tensor, *conditions: Tensor
        ) -> dict[str, Tensor]:
            atoms = _atoms(coord, atype)
            packed = _listed(model, *atoms, nlist, mapping)
            return _outputs(
                model, cores[atomic], packed, atype, xp.shape(nlist)[1], conditions, atomic, force_of_ghosts=True
            )

        return call, call_lower

    out = {}
    for atomic, word in ((False, "without"), (True, "with")):
        call, call_lower = make(atomic)
        out[f"call_{word}_atomic_virial"] = _named(f"call_{word}_atomic_virial", call, [coord, atype, box, *conditions])
        out[f"call_lower_{word}_atomic_virial"] = _named(
            f"call_lower_{word}_atomic_virial", call_lower, [coord, atype, nlist, mapping, *conditions]
        )
    return out


def _arguments(model: Model) -> dict[str, int]:
    """Return {condition: number of values} of the arguments: always `fparam` and `aparam`, others if the model asks."""
    sizes = {name: size for name, (size, _) in model.conditions.items()}
    return {name: size for name, size in sizes.items() if size or name in ("fparam", "aparam")}


def _core(content: ModelFile, *, atomic: bool) -> Any:
    """Return the function from neighbours to atomic energies and the K derivatives of `components` (K, N, M, 3)."""
    model, (plan, _) = content.model, plan_evaluation(content)
    wanted = frozenset({"atom_virial"} if atomic else ())

    def energies(arrays: dict[str, Tensor], conditions: Conditions) -> tuple[Tensor, Tensor]:
        neighbours = in_32_bits(unflatten_neighbours(arrays, xp=xp))
        energy_N1, _, grads = exact_values(model, content.params, plan, neighbours, conditions, wanted)
        return energy_N1, tf.stack(grads)

    fields = field_types(model.layout(), model.ntypes)
    arrays = {name: tf.TensorSpec(shape, dtype) for name, (dtype, shape) in fields.items()}
    conditions = {name: tf.TensorSpec([None, size], tf.float64) for name, size in _arguments(model).items()}
    return _named("energies", energies, [arrays, conditions])


def _atoms(coord: Tensor, atype: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Put the atoms of all frames on one axis: positions, types, frames."""
    sizes = tf.shape(atype, out_type=tf.int64)
    frame_A = tf.repeat(tf.range(sizes[0]), sizes[1])
    return tf.reshape(coord, [-1, 3]), tf.cast(tf.reshape(atype, [-1]), tf.int64), frame_A


def _found(model: Model, coord_A3: Tensor, type_A: Tensor, frame_A: Tensor, box: Tensor) -> PackedCandidates:
    """Find the neighbours in the cells (F, 3, 3); empty cells (F, 0, 0) mean an open boundary."""
    layout, num_frames = model.layout(), tf.shape(box)[0]
    open_F33 = tf.tile(search.enclosing_cell(coord_A3, layout.rcut, xp=xp), tf.stack([num_frames, 1, 1]))
    missing = tf.where(tf.size(box) > 0, 0, num_frames)
    cell_F33 = tf.concat([tf.reshape(box, [-1, 3, 3]), open_F33[:missing]], axis=0)
    periodic = tf.cast(tf.size(box) > 0, tf.float64)
    found = search.candidates(coord_A3, type_A, frame_A, cell_F33, layout.rcut, periodic, xp=xp)
    return pack_candidates(found, type_A, frame_A, layout, model.ntypes, xp=xp)


def _listed(
    model: Model, coord_A3: Tensor, type_A: Tensor, frame_A: Tensor, nlist: Tensor, mapping: Tensor
) -> PackedCandidates:
    """Take the neighbours from lists (F, nloc, W); message passing replaces images by their owners."""
    layout, sizes = model.layout(), tf.shape(nlist, out_type=tf.int64)
    num_all = tf.size(type_A, out_type=tf.int64) // tf.maximum(sizes[0], 1)
    start_F11 = tf.reshape(num_all * tf.range(sizes[0]), [-1, 1, 1])
    index_NC = tf.reshape(tf.where(nlist < 0, nlist, nlist + start_F11), tf.stack([sizes[0] * sizes[1], sizes[2]]))
    atom_N = tf.reshape(start_F11[:, :, 0] + tf.range(sizes[1]), [-1])
    found = search.listed(coord_A3, atom_N, index_NC, layout.rcut, xp=xp)
    if layout.needs_neighbour_features:
        found = replace(found, index_NC=tf.gather(tf.reshape(mapping + start_F11[:, :, 0], [-1]), found.index_NC))
    return pack_candidates(found, type_A, frame_A, layout, model.ntypes, xp=xp)


def _outputs(
    model: Model,
    core: Any,
    packed: PackedCandidates,
    atype: Tensor,
    nloc: Tensor,
    conditions: tuple[Tensor, ...],
    atomic: bool,
    *,
    force_of_ghosts: bool,
) -> dict[str, Tensor]:
    """Evaluate: energies of the first nloc atoms of each frame, derivatives of all atoms."""
    neighbours = packed.neighbours
    num_frames, nall = tf.shape(atype)[0], tf.shape(atype)[1]
    given = {}
    for (name, size), values in zip(_arguments(model).items(), conditions, strict=True):
        with tf.control_dependencies(limit_checks(name, values, name)):
            given[name] = tf.identity(values)
        if CONDITIONS[name].per_atom:
            rows = tf.reshape(given[name], tf.stack([num_frames * nloc, size]))
            given[name] = tf.gather(rows, packed.row_N)
    energy_N1, grads_KNM3 = core(flatten_neighbours(neighbours, xp=xp), given)
    wanted = frozenset({"energy", "force", "virial"} | ({"atom_virial"} if atomic else set()))
    grads = tf.unstack(grads_KNM3, num=4 if model.layout().needs_neighbour_features and atomic else 1)
    out = assemble(model, energy_N1, None, grads, neighbours, num_frames * nall, num_frames, wanted, xp=xp)

    def of_atoms(values: Tensor, width: int) -> Tensor:
        return tf.reshape(tf.gather(values, packed.position_A), tf.stack([num_frames, nall, 1, width]))

    result = {
        "energy": tf.reshape(
            xp.segment_sum(energy_N1, packed.row_N, num_frames * nloc), tf.stack([num_frames, nloc, 1])
        ),
        "energy_derv_c_redu": tf.reshape(out["virial"], [-1, 1, 9]),
        "energy_derv_r": of_atoms(out["force"], 3),
        "energy_redu": tf.reshape(out["energy"], [-1, 1]),
        "mask": tf.cast(atype[:, :nloc] >= 0, tf.int32),
    }
    if atomic:
        result["energy_derv_c"] = of_atoms(out["atom_virial"], 9)
    elif force_of_ghosts:  # zeros, because readers count the outputs
        result["energy_derv_c"] = tf.zeros(tf.stack([num_frames, nall, 1, 9]), tf.float64)
    return result

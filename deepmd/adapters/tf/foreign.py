"""`.pb` files and TensorFlow checkpoints of DeePMD-kit: arrays and options by their names in the graph, which is not run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from deepmd.adapters.tf.foreign_names import DESCRIPTORS, FITTINGS, Graph, Names
from deepmd.array_model.errors import InputError
from deepmd.array_model.registry import canonical
from deepmd.io.foreign import COMPRESSED, MOST_TYPES, Found, Section, assemble, kind_of, parse_definition, section_of_input
from deepmd.io.model_file import ModelFile

PARTS = {"descriptor": (DESCRIPTORS, "descriptor"), "fitting_net": (FITTINGS, "fitting")}
"""Sections of `model`: their kinds, and where we keep their parameters."""

OUTER = {f"model_attr/{scope}t_out_bias": "out_bias" for scope in ("", "model_attr/")}
"""Arrays of the model itself."""

PATTERNS = [re.compile(pattern) for kinds, _ in PARTS.values() for names in kinds.values() for pattern in names.arrays]


def is_parameter(name: str) -> bool:
    """Tell whether a constant or variable is a parameter of a model of DeePMD-kit."""
    return name in OUTER or any(pattern.fullmatch(name) for pattern in PATTERNS)


def is_foreign(names: Iterable[str]) -> bool:
    """Tell whether constants or variables of these names belong to a model of DeePMD-kit."""
    return any(is_parameter(name) or name.startswith(("descrpt_attr/", "model_attr/tmap")) for name in names)


def read_graph(graph: Any, arrays: Mapping[str, np.ndarray], where: str, input_path: Path | None = None) -> ModelFile:
    """Read a model of DeePMD-kit.

    Parameters
    ----------
    graph : a `GraphDef`
    arrays : its parameters (see `is_parameter`), by name
    input_path : input that the model was trained with, for files that do not store it

    Raises
    ------
    InputError
        It is no model of DeePMD-kit, one of another kind, compressed without its networks, or incomplete.
    """
    nodes = {node.name: node for node in graph.node}
    try:
        return _read(Graph(nodes, arrays), where, input_path)
    except InputError as error:
        raise InputError(str(error) if where in str(error) else f"{where}: {error}") from error
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise InputError(f"{where}: the graph is damaged: {type(error).__name__}: {error}") from error


def graph_beside(prefix: str) -> Any:
    """Return the `GraphDef` of a checkpoint.

    Raises
    ------
    InputError
        There is none, or it is damaged.
    """
    meta = tf.compat.v1.MetaGraphDef()
    try:
        meta.ParseFromString(Path(f"{prefix}.meta").read_bytes())
    except (DecodeError, OSError) as error:
        raise InputError(f"{prefix}.meta: the graph of the checkpoint cannot be read: {error}") from error
    return meta.graph_def


def _read(graph: Graph, where: str, input_path: Path | None) -> ModelFile:
    definition = _definition(graph, where) if input_path is None else section_of_input(input_path)
    _check_kind(graph)
    if not 0 < graph.ntypes <= MOST_TYPES or not graph.arrays["descrpt_attr/t_avg"].size:
        raise InputError(f"statistics of {graph.ntypes} types; accepted: 1 to {MOST_TYPES}")
    names_of = {part: _names(part, graph, definition) for part in PARTS}
    own = {part: _renamed(graph, names) for part, names in names_of.items()}
    elements = (graph.text("model_attr/tmap") or "").split() or definition.get("type_map")
    section: Section = {"type_map": elements or [f"Type_{number}" for number in range(graph.ntypes)]}
    for part, names in names_of.items():
        section[part] = {"type": names.kind, **names.stated(graph)}
    for part, names in names_of.items():
        if not definition.get(part):
            section[part] = {**names.guessed(graph, own[part], section), **section[part]}
    found = {ours: graph.arrays[theirs] for theirs, ours in OUTER.items() if theirs in graph.arrays}
    for part, names in names_of.items():
        excluded = section[part].get("exclude_types") or (definition.get(part) or {}).get("exclude_types") or ()
        found.update({f"{PARTS[part][1]}/{path}": array for path, array in names.completed(own[part], excluded, graph.ntypes).items()})
    distance = graph.number("train_attr/min_nbor_dist")
    known = distance is not None and 0.0 < distance < math.inf
    content = assemble(definition, Found(section, found, distance if known else None), where)
    for names in names_of.values():
        content = names.finished(content)
    return content


def _definition(graph: Graph, where: str) -> Section:
    definition = parse_definition(graph.text("train_attr/training_script"), where).get("model") or {}
    return definition if isinstance(definition, dict) else {}


def _check_kind(graph: Graph) -> None:
    """Raise InputError for what is no energy model with its networks."""
    kind = graph.text("model_attr/model_type")
    if kind not in (None, "ener"):
        raise InputError(f"a model of type {kind!r}, which is not supported. Supported: ener")
    if any(name.startswith("type_embed_net") for name in graph.nodes):
        raise InputError("a model with type embedding, which is not supported")
    if any(node.op.startswith("TabulateFusion") for node in graph.nodes.values()) and not any(name.startswith("filter_") for name in graph.arrays):
        raise InputError(COMPRESSED)


def _names(part: str, graph: Graph, definition: Section) -> Names:
    """Return the names of a part: by what the definition says, or by those that the graph has."""
    kinds = PARTS[part][0]
    if definition.get(part):
        kind = canonical(part, kind_of(part, definition), f"model/{part}/type")
        if kind not in kinds:
            raise InputError(f"model/{part}: {kind!r} cannot be read from graphs. Known: {', '.join(kinds)}")
        return kinds[kind]
    for names in kinds.values():
        if any(re.fullmatch(next(iter(names.arrays)), name) for name in graph.arrays):
            return names
    raise InputError(f"no {part} that is known here: the file is cut short, or a model of another kind. Known: {', '.join(kinds)}")


def _renamed(graph: Graph, names: Names) -> dict[str, np.ndarray]:
    """Return the arrays of a part under our paths and in our shapes."""
    out = {}
    for name, array in graph.arrays.items():
        for pattern, path_of in names.arrays.items():
            if (match := re.fullmatch(pattern, name)) and (path := path_of(match, graph)):
                out[path] = array.reshape(graph.ntypes, *names.trailing[path]) if path in names.trailing else array
    return out

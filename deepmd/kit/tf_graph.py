"""Reader of DeePMD-kit's `.pb` files and TensorFlow checkpoints, by names in the graph; nothing is run.

Needs no TensorFlow. Names: tf_descriptors.py, tf_type_vectors.py, tf_fittings.py. From names to model:
model_section.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.errors import InputError
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.registry import canonical
from deepmd.io.model_file import ModelFile, shortest
from deepmd.kit.model_section import (
    ASK,
    COMPRESSED,
    MOST_TYPES,
    Section,
    StatedModel,
    assemble,
    kind_of,
    parse_definition,
    section_of_input,
)
from deepmd.kit.tf_descriptors import SECTIONED, GraphNames
from deepmd.kit.tf_fittings import FITTINGS, types_without_output
from deepmd.kit.tf_nodes import MEMBER_NAME, Arrays, GraphNodes
from deepmd.kit.tf_type_vectors import (
    MIXED,
    SE_E2_A_TYPED,
    check_cutoffs,
    embedding_options,
    has_types,
    read_types,
    rearrange_fitting,
    refuse_assigned_energies,
    table,
    type_arrays,
    width_of,
    with_vectors,
)

DESCRIPTORS = {names.kind: names for names in (*SECTIONED, *MIXED)}
KINDS_OF_PARTS = {"descriptor": DESCRIPTORS, "fitting_net": FITTINGS}
"""Kinds by section of `model`."""

MODELS = {None: "ener", "ener": "ener", "dipole": "dipole", "polar": "polar", "global_polar": "polar", "dos": "dos"}
"""Kind of a model in graphs -> kind of its fitting net."""

OUTPUT_NAMES = {f"model_attr/{scope}t_out_bias": "out_bias" for scope in ("", "model_attr/")}
"""Arrays of the model itself: name -> our path."""

PATTERNS = [
    re.compile(pattern)
    for names in (*DESCRIPTORS.values(), SE_E2_A_TYPED, *FITTINGS.values())
    for pattern in names.arrays
]


@dataclass(frozen=True)
class GraphPart:
    """A descriptor, member of a hybrid, or fitting net.

    Attributes
    ----------
    names : names of its arrays
    graph : nodes and arrays of the part
    place : path of its parameters in our tree
    given : its section of the input, or {}
    where : path of `given` in the input
    """

    names: GraphNames
    graph: GraphNodes
    place: str
    given: Section
    where: str

    def arrays(self) -> Arrays:
        """Return the arrays of the part under our paths and in our shapes."""
        out = {}
        for name, array in self.graph.arrays.items():
            for pattern, path_of in self.names.arrays.items():
                if (match := re.fullmatch(pattern, name)) and (path := path_of(match, self.graph)):
                    sizes = self.names.trailing.get(path)
                    if sizes is not None and array.size % (self.graph.ntypes * abs(math.prod(sizes))):
                        raise InputError(f"{name} has {array.size} numbers, for {self.graph.ntypes} types")
                    out[path] = array if sizes is None else array.reshape(self.graph.ntypes, *sizes)
        return out


def is_parameter(name: str) -> bool:
    """Return whether a constant or variable is a parameter of a model of DeePMD-kit."""
    if match := MEMBER_NAME.fullmatch(name):
        name = match[1] + match[3]
    return name in OUTPUT_NAMES or any(pattern.fullmatch(name) for pattern in PATTERNS)


def is_foreign(names: Iterable[str]) -> bool:
    """Return whether constants or variables of these names belong to a model of DeePMD-kit."""
    return any(is_parameter(name) or name.startswith(("descrpt_attr", "model_attr/tmap")) for name in names)


def read_graph(
    graph: Any,
    arrays: Mapping[str, np.ndarray],
    to_array: Callable[[Any], np.ndarray],
    where: str,
    input_path: Path | None = None,
) -> ModelFile:
    """Read a model of DeePMD-kit.

    Parameters
    ----------
    graph : a `GraphDef`
    arrays : its parameters (see `is_parameter`), by name
    to_array : function from a `TensorProto` to an array
    where : name of the file, for errors
    input_path : input of the training, for files that do not store it
    """
    nodes = {node.name: node for node in graph.node}
    try:
        return _read(GraphNodes(nodes, arrays, to_array), where, input_path)
    except InputError as error:
        raise InputError(str(error) if where in str(error) else f"{where}: {error}") from error


def _read(graph: GraphNodes, where: str, input_path: Path | None) -> ModelFile:
    definition = _definition(graph, where) if input_path is None else section_of_input(input_path)
    check_definition(definition)
    kind = _kind(graph)
    if not 0 < graph.ntypes <= MOST_TYPES:
        raise InputError(f"statistics of {graph.ntypes} types; accepted: 1 to {MOST_TYPES}")
    descriptors = _descriptors(graph, definition)
    fitting = _part(
        "fitting_net",
        graph,
        {"type": kind, **(definition.get("fitting_net") or {})} if definition else {},
        "fitting",
        kind,
    )
    elements = (graph.text("model_attr/tmap") or "").split() or definition.get("type_map")
    type_map = tuple(elements or [f"Type_{number}" for number in range(graph.ntypes)])
    stated = [{"type": part.names.kind, **part.names.stated(part.graph)} for part in (*descriptors, fitting)]
    owns = [part.arrays() for part in (*descriptors, fitting)]
    if not definition:
        for number, part in enumerate((*descriptors, fitting)):
            section = {"descriptor": stated[0], "fitting_net": stated[-1]}
            stated[number] = {**part.names.guessed(part.graph, owns[number], section), **stated[number]}
    if has_types(graph):
        stated, owns = _with_types(graph, descriptors, stated, owns, definition, type_map)
    found = {
        ours: graph.arrays[theirs]
        for theirs, ours in OUTPUT_NAMES.items()
        if theirs in graph.arrays and kind in ("ener", "dos")
    }
    for part, section, own in zip((*descriptors, fitting), stated, owns, strict=True):
        arrays = part.names.completed(own, {**part.given, **section}, part.graph)
        found.update({f"{part.place}/{path}": array for path, array in arrays.items()})
    distance = shortest(graph.number("train_attr/min_nbor_dist"))
    whole: Section = {
        "type_map": list(type_map),
        "descriptor": {"type": "hybrid", "list": stated[:-1]} if graph.members else stated[0],
        "fitting_net": stated[-1],
        "type_embedding": None,  # each descriptor has its own
    }
    if without := types_without_output(graph):
        whole["atom_exclude_types"] = without
    weights = {
        part.place: next((array for path, array in own.items() if "/w" in path), None)
        for part, own in zip((*descriptors, fitting), owns, strict=True)
    }
    size = sum(array.size for array in found.values())
    content = assemble(definition, StatedModel(whole, lambda model, paths: found, size, weights, distance), where)
    return _finished(content, descriptors, fitting)


def _with_types(
    graph: GraphNodes,
    descriptors: list[GraphPart],
    stated: list[Section],
    owns: list[Arrays],
    definition: Section,
    type_map: tuple[str, ...],
) -> tuple[list[Section], list[Arrays]]:
    """Move the model's type embedding into descriptors and fitting net, as we keep it; return sections and arrays."""
    options = embedding_options(graph, definition.get("type_embedding") or {})
    vectors = table(options, type_arrays(graph), type_map)
    stated, owns = list(stated), list(owns)
    for number, part in enumerate(descriptors):
        if part.names in (*MIXED, SE_E2_A_TYPED):
            stated[number], owns[number] = read_types(part.names, stated[number], owns[number], options, type_map)
    check_cutoffs([(part.names, section, own) for part, section, own in zip(descriptors, stated, owns, strict=False)])
    widths = [width_of(part.names, part.given, own) for part, own in zip(descriptors, owns, strict=False)]
    members = [(part.names, section) for part, section in zip(descriptors, stated, strict=False)]
    refuse_assigned_energies(definition.get("fitting_net") or {}, members)
    owns[-1], sections = rearrange_fitting(owns[-1], members, widths, vectors)
    return [*sections, stated[-1]], owns


def _finished(content: ModelFile, descriptors: list[GraphPart], fitting: GraphPart) -> ModelFile:
    """Return the model with parameters that give the results of the graph."""
    model = content.model
    assert isinstance(model, StandardModel)
    configs, whole = descriptors_of(model), content.params["descriptor"]
    each = whole.get("members", [whole])
    done = [part.names.finished(config, own) for part, config, own in zip(descriptors, configs, each, strict=True)]
    last = fitting.names.finished(model.fitting, content.params["fitting"])
    return content.with_params(
        {**content.params, "descriptor": {"members": done} if "members" in whole else done[0], "fitting": last}
    )


def check_definition(definition: Section) -> None:
    """Raise InputError if options that are read before all others are checked have a wrong type."""
    members = {part: definition.get(part) or {} for part in ("descriptor", "fitting_net", "type_embedding")}
    listed = members["descriptor"].get("list") if isinstance(members["descriptor"], dict) else None
    members |= {f"descriptor/list/{k}": member for k, member in enumerate(listed if isinstance(listed, list) else ())}
    for where, section in members.items():
        if not isinstance(section, dict):
            raise InputError(f"model/{where}: must be an object with keys, got {section!r:.100}")
        for key, kind in OPTION_TYPES.items():
            if not isinstance(section.get(key), kind | None):
                raise InputError(f"model/{where}/{key}: {section[key]!r:.100}; expected: {kind.__name__}")
        pairs = section.get("exclude_types") or ()
        if where.startswith("descriptor") and not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise InputError(f"model/{where}/exclude_types: {pairs!r:.100}; expected: pairs of types")
    if not isinstance(definition.get("type_map"), list | None):
        raise InputError(f"model/type_map: {definition['type_map']!r:.100}; expected: a list")


OPTION_TYPES = {"axis_neuron": int, "n_axis_neuron": int, "exclude_types": list, "atom_ener": list}
"""Types of options that are read before all others are checked."""


def _definition(graph: GraphNodes, where: str) -> Section:
    definition = parse_definition(graph.text("train_attr/training_script"), where).get("model") or {}
    return definition if isinstance(definition, dict) else {}


def _kind(graph: GraphNodes) -> str:
    """Return the kind of fitting net.

    Raise InputError for unknown kinds, and for compressed models without their nets.
    """
    kind = graph.text("model_attr/model_type")
    if kind not in MODELS:
        raise InputError(
            f"a model of type {kind!r}, which is not supported. "
            f"Supported: {', '.join(str(name) for name in MODELS if name)}"
        )
    if any(node.op.startswith("TabulateFusion") for node in graph.nodes.values()) and not any(
        name.startswith("filter_") for name in graph.arrays
    ):
        raise InputError(COMPRESSED)
    return MODELS[kind]


def _descriptors(graph: GraphNodes, definition: Section) -> list[GraphPart]:
    """Return the descriptor, or the members of a hybrid."""
    given = definition.get("descriptor") or {}
    if not graph.members:
        return [_part("descriptor", graph, given, "descriptor")]
    if not given:
        raise InputError(f"the file does not tell what the members of its hybrid descriptor are. {ASK}")
    listed = given.get("list")
    if not isinstance(listed, list) or len(listed) != graph.members:
        raise InputError(f"model/descriptor/list: the file has {graph.members} members, the input has {listed!r:.200}")
    return [
        _part(
            "descriptor",
            graph.member(number),
            member,
            f"descriptor/members/{number}",
            where=f"model/descriptor/list/{number}",
        )
        for number, member in enumerate(listed)
    ]


def _part(part: str, graph: GraphNodes, given: Section, place: str, kind: str = "", where: str = "") -> GraphPart:
    """Return a part of the kind that its section states, else of the kind whose names the graph has."""
    kinds, where = KINDS_OF_PARTS[part], where or f"model/{part}"
    if given:
        stated_kind = canonical(part, kind_of(part, {part: given}), f"{where}/type")
        if stated_kind not in kinds:
            raise InputError(f"{where}: {stated_kind!r} cannot be read from graphs. Known: {', '.join(kinds)}")
        return GraphPart(with_vectors(kinds[stated_kind], graph), graph, place, given, where)
    for names in [kinds[kind]] if kind else kinds.values():
        if any(re.fullmatch(next(iter(names.arrays)), name) for name in graph.arrays):
            return GraphPart(names, graph, place, given, where)
    raise InputError(
        f"no {part} that is known here: the file is cut short, or a model of another kind. Known: {', '.join(kinds)}"
    )

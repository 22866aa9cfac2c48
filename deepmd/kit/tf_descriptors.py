"""Descriptors without vectors of types in DeePMD-kit's TensorFlow graphs: names of arrays, and options.

Another kind is another `GraphNames` here, in `tf_type_vectors.py`, or for fitting nets in `tf_fittings.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import spans
from deepmd.array_model.networks import activation
from deepmd.host import plain
from deepmd.kit.model_section import Section
from deepmd.kit.tf_nodes import ASK, LEAVES, Arrays, GraphNodes, activation_of, length, required, shapes_of_nets


@dataclass(frozen=True)
class GraphNames:
    """A kind of descriptor or fitting net.

    Attributes
    ----------
    kind : what an input calls it
    arrays : regular expression of a whole name: function of (match, graph) that returns our path below the part
    trailing : sizes of an array by our path, after that of the types, where they differ
    stated : function of the graph that returns the options that any graph tells
    guessed : function of (graph, arrays by our paths below the part, stated options of the whole model) that returns
        the other options, of graphs without a stored input
    completed : function of (arrays by our paths below the part, its section, graph) that adds what files leave out
    finished : function of (configuration, parameters) that returns the parameters that have the values of these graphs
    """

    kind: str
    arrays: Mapping[str, Callable[[re.Match[str], GraphNodes], str]]
    trailing: Mapping[str, tuple[int, ...]]
    stated: Callable[[GraphNodes], Section]
    guessed: Callable[[GraphNodes, Arrays, Section], Section]
    completed: Callable[[Arrays, Section, GraphNodes], Arrays] = field(default=lambda arrays, section, graph: arrays)
    finished: Callable[[Any, Params], Params] = field(default=lambda descriptor, params: params)


def always(path: str) -> Callable[[re.Match[str], GraphNodes], str]:
    """Return the function that names an array that a model has once."""
    return lambda match, graph: path


STATISTICS = {"descrpt_attr/t_avg": always("davg"), "descrpt_attr/t_std": always("dstd")}


# -- se_e2_a --------------------------------------------------------------------------------------------------------

ENVIRONMENT = ("ProdEnvMatA", "DescrptSeA", "ProdEnvMatAMix")
"""The operator that makes environment matrices, under its names of all times."""


def _embedding(match: re.Match[str], graph: GraphNodes) -> str:
    centre, leaf, layer, neighbour = match.groups()
    net = int(neighbour) if centre == "all" else int(centre) + int(neighbour) * graph.ntypes
    return f"embeddings/{net}/layers/{int(layer) - 1}/{LEAVES[leaf]}"


def _se_e2_a_stated(graph: GraphNodes) -> Section:
    return {"type_one_side": one_sided(graph), **environment_stated(graph)}


def one_sided(graph: GraphNodes) -> bool:
    """Tell whether nets belong to the type of the neighbour alone."""
    return any(name.startswith("filter_type_all/") for name in graph.arrays)


def environment_stated(graph: GraphNodes) -> Section:
    """Return the options that the operator tells that makes environment matrices of four columns."""
    node = next((node for node in graph.nodes.values() if node.op in ENVIRONMENT), None)
    if node is None:
        raise InputError(
            f"no operator {' or '.join(ENVIRONMENT)}: the file is cut short, "
            "or not a model of se_e2_a, se_e3 or se_atten"
        )
    # the operator holds the cutoffs in float32, and their difference
    rcut, smooth = (np.float32(node.attr[name].f) for name in ("rcut_r", "rcut_r_smth"))
    return {
        "sel": [int(size) for size in node.attr["sel_a"].list.i],
        "rcut": float(smooth) + float(rcut - smooth),
        "rcut_smth": float(smooth),
    }


def _se_e2_a_guessed(graph: GraphNodes, arrays: Arrays, section: Section) -> Section:
    cut = graph.nodes.get("filter_type_all/Slice")
    if cut is not None and graph.source(cut, 0).op == "Mul":
        raise InputError(f"the model leaves out pairs of types, but the file does not tell which: {ASK}")
    widths, resnet_dt = shapes_of_nets(arrays, "embeddings")
    nets, ntypes = {int(path.split("/")[1]) for path in arrays if path.startswith("embeddings/")}, graph.ntypes
    one_side = section["descriptor"]["type_one_side"]
    absent = [] if one_side else [(net % ntypes, net // ntypes) for net in range(ntypes**2) if net not in nets]
    pattern = rf"{'layer_0' if graph.hidden else 'final_layer'}_type_\d+/matrix"
    lengths = [length(array) for name, array in graph.arrays.items() if re.fullmatch(pattern, name)]
    if not lengths:
        raise InputError("the fitting nets of single types are missing: the file is cut short")
    fitting = section["fitting_net"]
    rest = lengths[0] - fitting["numb_fparam"]
    masked = fitting["numb_aparam"] > 0 and rest % widths[-1] == 0
    return {
        "neuron": widths,
        "resnet_dt": resnet_dt,
        "axis_neuron": (rest - (0 if masked else fitting["numb_aparam"])) // widths[-1],
        "activation_function": activation_of(graph, "filter_type_"),
        "exclude_types": [pair for pair in absent if pair[0] <= pair[1]],
    }


def with_used_steps(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Drop time steps that checkpoints have for layers without a shortcut."""

    def used(path: str) -> bool:
        if not path.endswith("/idt"):
            return True
        before, after = required(arrays, f"{path.removesuffix('idt')}w").shape
        return after in (before, 2 * before)

    return {path: array for path, array in arrays.items() if used(path)}


def _se_e2_a_completed(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Drop time steps without a use; add zeros for the nets of excluded pairs of types."""
    arrays, ntypes = with_used_steps(arrays, section, graph), graph.ntypes
    excluded = () if one_sided(graph) else section.get("exclude_types") or ()
    present = {path.split("/")[1] for path in arrays if path.startswith("embeddings/")}
    template = {
        path.split("/", 2)[2]: array
        for path, array in arrays.items()
        if path.startswith(f"embeddings/{min(present, default='')}/")
    }
    absent = {str(net) for a, b in excluded for net in (a + b * ntypes, b + a * ntypes)} - present
    return {
        **arrays,
        **{
            f"embeddings/{net}/{rest}": np.zeros_like(array)
            for net in sorted(absent)
            for rest, array in template.items()
        },
    }


def _se_e2_a_finished(descriptor: Any, params: Params) -> Params:
    """Let empty slots of excluded pairs of types contribute nothing, as in these graphs.

    Elsewhere they do where the mean is not zero.
    """
    vanish = descriptor.neuron[0] > 2 and not activation(descriptor.activation_function)(np.zeros(1), xp=plain).any()
    if not descriptor.exclude_types or (not descriptor.type_one_side and vanish):  # the nets of such pairs are zero
        return params
    return without_mean(descriptor, params)


def without_mean(descriptor: Any, params: Params) -> Params:
    """Set the mean of the excluded pairs of types to zero."""
    davg, sections = params["davg"].copy(), spans(descriptor.slots)
    for a, b in descriptor.exclude_types:
        for centre, neighbour in ((a, b), (b, a)):
            davg[centre, slice(*sections[neighbour]), :] = 0.0
    return {**params, "davg": davg}


SE_E2_A = GraphNames(
    "se_e2_a",
    {
        r"filter_type_(all|\d{1,4})/(matrix|bias|idt)_(\d{1,3})_(\d{1,4})": _embedding,
        **STATISTICS,
    },
    {"davg": (-1, 4), "dstd": (-1, 4)},
    _se_e2_a_stated,
    _se_e2_a_guessed,
    _se_e2_a_completed,
    _se_e2_a_finished,
)

# -- se_e2_r and se_e3 ----------------------------------------------------------------------------------------------


def _of_triples(match: re.Match[str], graph: GraphNodes) -> str:
    leaf, layer, first, second = match.groups()
    return f"embeddings/{int(first) + int(second) * graph.ntypes}/layers/{int(layer) - 1}/{LEAVES[leaf]}"


def _se_e2_r_stated(graph: GraphNodes) -> Section:
    node = next((node for node in graph.nodes.values() if node.op in ("ProdEnvMatR", "DescrptSeR")), None)
    if node is None:
        raise InputError("no operator ProdEnvMatR or DescrptSeR: the file is cut short, or not a model of se_e2_r")
    rcut, smooth = (np.float32(node.attr[name].f) for name in ("rcut", "rcut_smth"))
    cutoffs = {"rcut": float(smooth) + float(rcut - smooth), "rcut_smth": float(smooth)}
    return {"sel": [int(size) for size in node.attr["sel"].list.i], **cutoffs, "type_one_side": one_sided(graph)}


def _se_e2_r_finished(descriptor: Any, params: Params) -> Params:
    """Let all slots of excluded pairs of types contribute G(0), or nothing where each pair has a net, which is zero."""
    if (
        descriptor.exclude_types
        and not descriptor.type_one_side
        and activation(descriptor.activation_function)(np.zeros(1), xp=plain).any()
    ):
        raise InputError(
            "model/descriptor/exclude_types: with type_one_side false and the activation "
            f"{descriptor.activation_function}. Pairs that are left out contribute nothing in these graphs, in "
            f"all other "
            "formats what a net gives for a distant neighbour, so the model cannot be carried over"
        )
    return without_mean(descriptor, params)


def _se_e3_stated(graph: GraphNodes) -> Section:
    return {key: value for key, value in _se_e2_a_stated(graph).items() if key != "type_one_side"}


def asked(graph: GraphNodes, arrays: Arrays, section: Section) -> Section:
    """Raise InputError, for parts whose options cannot be guessed."""
    raise InputError(f"the file does not tell the options of its descriptor or fitting net: {ASK}")


def _mirrored(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Add zeros for the nets of pairs of neighbour types in the other order, which are never evaluated."""
    arrays, ntypes = with_used_steps(arrays, section, graph), graph.ntypes
    out = dict(arrays)
    for path, array in arrays.items():
        _, net, rest = path.split("/", 2) if path.startswith("embeddings/") else ("", "", "")
        if net:
            first, second = int(net) % ntypes, int(net) // ntypes
            out.setdefault(f"embeddings/{second + first * ntypes}/{rest}", np.zeros_like(array))
    return out


SE_E2_R = GraphNames(
    "se_e2_r",
    {
        r"filter_type_(all|\d{1,4})/(matrix|bias|idt)_(\d{1,3})_(\d{1,4})": _embedding,
        **STATISTICS,
    },
    {"davg": (-1, 1), "dstd": (-1, 1)},
    _se_e2_r_stated,
    asked,
    _se_e2_a_completed,
    _se_e2_r_finished,
)
SE_E3 = GraphNames(
    "se_e3",
    {
        r"filter_type_all/(matrix|bias|idt)_(\d{1,3})_(\d{1,4})_(\d{1,4})": _of_triples,
        **STATISTICS,
    },
    {"davg": (-1, 4), "dstd": (-1, 4)},
    _se_e3_stated,
    asked,
    _mirrored,
)

# -- loc_frame ------------------------------------------------------------------------------------------------------


def _loc_frame_stated(graph: GraphNodes) -> Section:
    node = next((node for node in graph.nodes.values() if node.op == "Descrpt"), None)
    if node is None:
        raise InputError("no operator Descrpt: the file is cut short, or not a model of loc_frame")
    options = {name: [int(number) for number in node.attr[name].list.i] for name in ("sel_a", "sel_r", "axis_rule")}
    return {**options, "rcut": float(np.float32(node.attr["rcut_r"].f))}


LOC_FRAME = GraphNames(
    "loc_frame",
    # the first name tells a kind where no input is stored; this one has none of its own, so it has to be told
    {"(?!)": always(""), **STATISTICS},
    {},
    _loc_frame_stated,
    asked,
)

SECTIONED = (SE_E2_A, SE_E2_R, SE_E3, LOC_FRAME)

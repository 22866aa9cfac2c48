"""Descriptors without type embedding in DeePMD-kit's TensorFlow graphs: names of arrays, and options.

Another kind is another `GraphNames` here, in tf_type_vectors.py, or for fitting nets in tf_fittings.py. Needs no
TensorFlow.
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
from deepmd.kit.model_section import ASK, LEAVES, Section
from deepmd.kit.tf_nodes import Arrays, GraphNodes, activation_of, length, required, shapes_of_nets


@dataclass(frozen=True)
class GraphNames:
    """Names and options of a kind of descriptor or fitting net in a graph.

    Attributes
    ----------
    kind : `type` in an input
    arrays : regular expression of a whole name -> function of (match, graph) that returns our path below the part
    trailing : sizes of an array after the axis of types, by our path, where they differ from ours
    stated : function of the graph that returns the options that every graph tells
    guessed : function of (graph, arrays by our paths below the part, stated options of the whole model) that returns
        the other options, for graphs without a stored input
    completed : function of (arrays by our paths below the part, its section, graph) that adds arrays that files leave
        out
    finished : function of (configuration, parameters) that returns parameters with which our formulas give the results
        of these graphs
    """

    kind: str
    arrays: Mapping[str, Callable[[re.Match[str], GraphNodes], str]]
    trailing: Mapping[str, tuple[int, ...]]
    stated: Callable[[GraphNodes], Section]
    guessed: Callable[[GraphNodes, Arrays, Section], Section]
    completed: Callable[[Arrays, Section, GraphNodes], Arrays] = field(default=lambda arrays, section, graph: arrays)
    finished: Callable[[Any, Params], Params] = field(default=lambda descriptor, params: params)


def always(path: str) -> Callable[[re.Match[str], GraphNodes], str]:
    """Return the function that names an array that occurs once in a model."""
    return lambda match, graph: path


STATISTICS_NAMES = {"descrpt_attr/t_avg": always("davg"), "descrpt_attr/t_std": always("dstd")}


# -- se_e2_a --------------------------------------------------------------------------------------------------------

ENVIRONMENT_OPS = ("ProdEnvMatA", "DescrptSeA", "ProdEnvMatAMix")
"""Names of the operator of environment matrices in all versions of DeePMD-kit."""


def _embedding_path(match: re.Match[str], graph: GraphNodes) -> str:
    """Return the path of an array of an embedding net.

    Nets are numbered first type + second type * T, of centre and neighbour, or of two neighbours in se_e3; "all" stands
    for all centre types (docs/theory/sectioned.md#order-of-the-nets).
    """
    first, second = match["first"], int(match["second"])
    net = second if first == "all" else int(first) + second * graph.ntypes
    return f"embeddings/{net}/layers/{int(match['layer']) - 1}/{LEAVES[match['leaf']]}"


LAYER = r"(?P<leaf>matrix|bias|idt)_(?P<layer>\d{1,3})"
PAIR_NET_NAMES = {rf"filter_type_(?P<first>all|\d{{1,4}})/{LAYER}_(?P<second>\d{{1,4}})": _embedding_path}
TRIPLE_NET_NAMES = {rf"filter_type_all/{LAYER}_(?P<first>\d{{1,4}})_(?P<second>\d{{1,4}})": _embedding_path}


def _se_e2_a_stated(graph: GraphNodes) -> Section:
    return {"type_one_side": one_sided(graph), **environment_stated(graph)}


def one_sided(graph: GraphNodes) -> bool:
    """Return whether nets belong to the type of the neighbour alone."""
    return any(name.startswith("filter_type_all/") for name in graph.arrays)


def environment_stated(graph: GraphNodes) -> Section:
    """Return `sel` and cutoffs, attributes of the operator of environment matrices of four columns."""
    node = next((node for node in graph.nodes.values() if node.op in ENVIRONMENT_OPS), None)
    if node is None:
        raise InputError(
            f"no operator {' or '.join(ENVIRONMENT_OPS)}: the file is cut short, "
            "or not a model of se_e2_a, se_e3 or se_atten"
        )
    # the operator holds both cutoffs, and their difference, in float32
    rcut, smooth = (np.float32(node.attr[name].f) for name in ("rcut_r", "rcut_r_smth"))
    return {
        "sel": [int(size) for size in node.attr["sel_a"].list.i],
        "rcut": float(smooth) + float(rcut - smooth),
        "rcut_smth": float(smooth),
    }


def _se_e2_a_guessed(graph: GraphNodes, arrays: Arrays, section: Section) -> Section:
    cut = graph.nodes.get("filter_type_all/Slice")
    if cut is not None and graph.source(cut, 0).op == "Mul":
        raise InputError(f"the model leaves out pairs of types, but the file does not tell which. {ASK}")
    # excluded pairs of types have no net: net = centre + neighbour * T
    widths, resnet_dt = shapes_of_nets(arrays, "embeddings")
    nets, ntypes = {int(path.split("/")[1]) for path in arrays if path.startswith("embeddings/")}, graph.ntypes
    one_side = section["descriptor"]["type_one_side"]
    absent = [] if one_side else [(net % ntypes, net // ntypes) for net in range(ntypes**2) if net not in nets]
    pattern = rf"{'layer_0' if graph.hidden else 'final_layer'}_type_\d+/matrix"
    lengths = [length(array) for name, array in graph.arrays.items() if re.fullmatch(pattern, name)]
    if not lengths:
        raise InputError("the fitting nets of single types are missing: the file is cut short")
    # inputs of the first fitting layer: G * axis_neuron features, fparam, and aparam unless it is a mask
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
    """Drop time steps of layers without a shortcut, which checkpoints have and evaluation ignores."""

    def used(path: str) -> bool:
        if not path.endswith("/idt"):
            return True
        before, after = required(arrays, f"{path.removesuffix('idt')}w").shape
        return after in (before, 2 * before)

    return {path: array for path, array in arrays.items() if used(path)}


def _se_e2_a_completed(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Drop unused time steps; add zero nets for excluded pairs of types."""
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
    """Zero the mean of excluded pairs of types, whose empty slots contribute nothing in these graphs.

    In other formats empty slots contribute where the mean is not zero.
    """
    # a net of zeros returns zero: no shortcut in the first layer (width > 2), and an activation that is 0 at 0
    vanish = descriptor.neuron[0] > 2 and not activation(descriptor.activation_function)(np.zeros(1), xp=plain).any()
    if not descriptor.exclude_types or (not descriptor.type_one_side and vanish):
        return params
    return without_mean(descriptor, params)


def without_mean(descriptor: Any, params: Params) -> Params:
    """Return the parameters with a zero mean (davg) in the slots of excluded pairs of types."""
    davg, sections = params["davg"].copy(), spans(descriptor.slots)
    for a, b in descriptor.exclude_types:
        for centre, neighbour in ((a, b), (b, a)):
            davg[centre, slice(*sections[neighbour]), :] = 0.0
    return {**params, "davg": davg}


SE_E2_A = GraphNames(
    "se_e2_a",
    {**PAIR_NET_NAMES, **STATISTICS_NAMES},
    {"davg": (-1, 4), "dstd": (-1, 4)},
    _se_e2_a_stated,
    _se_e2_a_guessed,
    _se_e2_a_completed,
    _se_e2_a_finished,
)

# -- se_e2_r and se_e3 ----------------------------------------------------------------------------------------------


def _se_e2_r_stated(graph: GraphNodes) -> Section:
    node = next((node for node in graph.nodes.values() if node.op in ("ProdEnvMatR", "DescrptSeR")), None)
    if node is None:
        raise InputError("no operator ProdEnvMatR or DescrptSeR: the file is cut short, or not a model of se_e2_r")
    rcut, smooth = (np.float32(node.attr[name].f) for name in ("rcut", "rcut_smth"))
    cutoffs = {"rcut": float(smooth) + float(rcut - smooth), "rcut_smth": float(smooth)}
    return {"sel": [int(size) for size in node.attr["sel"].list.i], **cutoffs, "type_one_side": one_sided(graph)}


def _se_e2_r_finished(descriptor: Any, params: Params) -> Params:
    """Zero the mean of excluded pairs of types, whose slots contribute G(0) then, as in these graphs.

    If each pair of types has a net, excluded pairs contribute nothing in these graphs. Their zero nets do the same only
    if the activation is 0 at 0.
    """
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


def refuse_to_guess(graph: GraphNodes, arrays: Arrays, section: Section) -> Section:
    """Raise InputError: `guessed` of kinds whose options only the input of the training tells."""
    raise InputError(f"the file does not tell the options of its descriptor or fitting net. {ASK}")


def _mirrored(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Add zero nets for pairs of neighbour types in the other order, which are never evaluated."""
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
    {**PAIR_NET_NAMES, **STATISTICS_NAMES},
    {"davg": (-1, 1), "dstd": (-1, 1)},
    _se_e2_r_stated,
    refuse_to_guess,
    _se_e2_a_completed,
    _se_e2_r_finished,
)
SE_E3 = GraphNames(
    "se_e3",
    {**TRIPLE_NET_NAMES, **STATISTICS_NAMES},
    {"davg": (-1, 4), "dstd": (-1, 4)},
    _se_e3_stated,
    refuse_to_guess,
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
    # (?!) matches no name: without arrays of its own, this kind cannot be recognised in a graph without an input
    {"(?!)": always(""), **STATISTICS_NAMES},
    {},
    _loc_frame_stated,
    refuse_to_guess,
)

SECTIONED = (SE_E2_A, SE_E2_R, SE_E3, LOC_FRAME)

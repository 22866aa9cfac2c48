"""Fitting nets in DeePMD-kit's TensorFlow graphs: names of arrays, and options (`GraphNames` of tf_descriptors.py)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.kit.model_section import ASK, LEAVES, Section
from deepmd.kit.tf_descriptors import GraphNames, always, refuse_to_guess
from deepmd.kit.tf_nodes import Arrays, GraphNodes, activation_of, length, required, shapes_of_nets

BIAS_NAME = "fitting_attr/t_bias_atom_e"


def _net(match: re.Match[str], graph: GraphNodes) -> str:
    """Return the path of an array of a net. With a type embedding one net serves all types and has no number."""
    layer, net, leaf = match.groups()
    return f"nets/{net or 0}/layers/{graph.hidden if layer is None else layer}/{LEAVES[leaf]}"


def _bias(match: re.Match[str], graph: GraphNodes) -> str:
    """Return the path of the energy bias, or "" if the graph keeps but never adds the bias.

    In such older graphs the energy bias is part of the bias of the last layer.
    """
    used = any(f"{BIAS_NAME}/read" in node.input for node in graph.nodes.values())
    return "bias_atom_e" if used else ""


FITTING_NET_NAMES = {r"(?:layer_(\d{1,3})|final_layer)(?:_type_(\d{1,4}))?/(matrix|bias|idt)": _net}
CONDITION_NAMES = {
    f"fitting_attr/t_{name}_{theirs}": always(f"{name}_{ours}")
    for name in ("fparam", "aparam")
    for theirs, ours in (("avg", "avg"), ("istd", "inv_std"))
}


def _stated(graph: GraphNodes) -> Section:
    return {f"numb_{name}": int(graph.number(f"fitting_attr/d{name}") or 0) for name in ("fparam", "aparam")}


def _dos_stated(graph: GraphNodes) -> Section:
    count = graph.number("fitting_attr/numb_dos")
    return {**_stated(graph), **({} if count is None else {"numb_dos": int(count)})}


def _guessed(graph: GraphNodes, arrays: Arrays, section: Section) -> Section:
    # more products than types: nets are evaluated for isolated atoms too
    products = [
        n
        for n in graph.nodes.values()
        if n.op == "MatMul" and not n.name.startswith("gradients") and "final_layer_" in "".join(n.input)
    ]
    if len(products) > graph.ntypes:
        raise InputError(
            f"the nets are evaluated without neighbours too (atom_ener), but the file does not tell the energies. {ASK}"
        )
    widths, resnet_dt = shapes_of_nets(arrays, "nets")
    rest = length(required(arrays, min(first_layers(arrays), default="nets/0/layers/0/w")))
    rest, width = rest - section["fitting_net"]["numb_fparam"], section["descriptor"]["neuron"][-1]
    return {
        "neuron": widths[:-1],
        "resnet_dt": resnet_dt,
        "use_aparam_as_mask": section["fitting_net"]["numb_aparam"] > 0 and rest % width == 0,
        "activation_function": activation_of(graph, "layer_"),
    }


def first_layers(arrays: Arrays) -> Arrays:
    """Return the weights of the first layer of each net, by their paths."""
    return {path: array for path, array in arrays.items() if re.fullmatch(r"nets/\d+/layers/0/w", path)}


def for_each_type(graph: GraphNodes) -> bool:
    """Return whether each type has a net of its own."""
    return any(name.startswith("final_layer_type_") for name in graph.arrays)


def types_without_output(graph: GraphNodes) -> list[int]:
    """Return the types without output: all that `sel_type` leaves out."""
    chosen = graph.integers("model_attr/sel_type")
    return [] if not chosen else [number for number in range(graph.ntypes) if number not in chosen]


def _completed(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Add zero nets for types without output. Raise InputError for layers that have a shortcut in other formats only.

    DeePMD-kit's own conversion overlooks such layers.
    """
    last = max((int(path.split("/")[3]) for path in arrays if path.startswith("nets/")), default=0)
    for path, array in arrays.items():
        match = re.fullmatch(r"nets/\d+/layers/(\d+)/w", path)
        # shortcuts in other formats: width kept or doubled; in these graphs: width kept, first layer excepted
        number = int(match[1]) if match and array.ndim == 2 else last
        if (
            number < last
            and array.shape[1] in (array.shape[0], 2 * array.shape[0])
            and not (number and array.shape[0] == array.shape[1])
        ):
            raise InputError(
                f"model/fitting_net/neuron: a layer goes from width {array.shape[0]} to {array.shape[1]}. "
                "These graphs have no shortcut there, all other formats have one, so the model cannot be carried over"
            )
    present = {int(path.split("/")[1]) for path in arrays if path.startswith("nets/")}
    template = {
        path.split("/", 2)[2]: array
        for path, array in arrays.items()
        if path.startswith(f"nets/{min(present, default='')}/")
    }
    absent = {*types_without_output(graph)} - present if for_each_type(graph) else set()
    return {
        **arrays,
        **{f"nets/{net}/{rest}": np.zeros_like(array) for net in sorted(absent) for rest, array in template.items()},
    }


def _polar_completed(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Order the shifts of the diagonal by type: graphs with a net for each type order them by `sel_type`."""
    out, chosen = _completed(arrays, section, graph), graph.integers("model_attr/sel_type")
    if chosen and "constant_matrix" in out and for_each_type(graph):
        shift = np.zeros_like(out["constant_matrix"])
        shift[chosen] = out["constant_matrix"][: len(chosen)]
        out["constant_matrix"] = shift
    return out


def _polar_finished(fitting: Any, params: Params) -> Params:
    """Double the nets of full matrices and divide the shift by the scale.

    Our formula takes (B + B^T) / 2 and scales the shift (docs/theory/fitting_nets.md).
    """
    scale = params["scale"].reshape(-1)
    if fitting.shift_diag and (params["constant_matrix"][scale == 0.0] != 0.0).any():
        raise InputError(
            "model/fitting_net/scale: zero for a type whose diagonal is shifted; "
            "in other formats the scale is a factor of the shift"
        )
    shift = params["constant_matrix"] / np.where(scale == 0.0, 1.0, scale)
    nets = [net if fitting.fit_diag else _doubled(net) for net in params["nets"]]
    return {**params, "nets": nets, "constant_matrix": shift}


def _doubled(net: Params) -> Params:
    """Return a net with twice the output."""
    last = net["layers"][-1]
    return {**net, "layers": [*net["layers"][:-1], {name: 2.0 * array for name, array in last.items()}]}


ENER = GraphNames(
    "ener",
    {**FITTING_NET_NAMES, BIAS_NAME: _bias, **CONDITION_NAMES},
    {"bias_atom_e": (1,)},
    _stated,
    _guessed,
    _completed,
)
DIPOLE = GraphNames("dipole", FITTING_NET_NAMES, {}, _stated, _guessed, _completed)
POLAR = GraphNames(
    "polar",
    {**FITTING_NET_NAMES, "fitting_attr/t_constant_matrix": always("constant_matrix")},
    {},
    _stated,
    refuse_to_guess,
    _polar_completed,
    _polar_finished,
)
DOS = GraphNames("dos", {**FITTING_NET_NAMES, **CONDITION_NAMES}, {}, _dos_stated, _guessed, _completed)

FITTINGS = {names.kind: names for names in (ENER, DIPOLE, POLAR, DOS)}

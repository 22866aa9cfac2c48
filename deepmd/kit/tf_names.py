"""How DeePMD-kit's TensorFlow graphs name the arrays of each kind of descriptor and fitting net, and what else tells of it.

Descriptors that read no vectors of types; `tf_type_vectors.py` has the others, `tf_fittings.py` the fitting nets.
Another kind is another `Names` in `DESCRIPTORS` or `FITTINGS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.networks import activation
from deepmd.array_model.pairs import spans
from deepmd.host import plain
from deepmd.kit.model_section import MOST_TYPES, Section

Arrays = dict[str, np.ndarray]

LEAVES = {"matrix": "w", "bias": "b", "idt": "idt"}

ACTIVATIONS = {
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "GeluCustom": "gelu",
    "Gelu": "gelu",
}
"""Operators that mean an activation without doubt."""

MEMBER = re.compile(r"(filter_type_(?:all|\d{1,4})|descrpt_attr|attention_layer_\d{1,3})_(\d{1,3})(/.*)")
"""Names that belong to a member of a hybrid, whose number they have."""

ASK = "give the input it was trained with (dp convert-backend --input)"


@dataclass(frozen=True)
class Graph:
    """A graph that is not run: its nodes by name, and the arrays by the names of constants or variables."""

    nodes: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    to_array: Callable[[Any], np.ndarray]

    def text(self, name: str) -> str | None:
        """Return a string constant, or None if there is none of this name."""
        if name not in self.nodes:
            return None
        values = self.nodes[name].attr["value"].tensor.string_val
        if len(values) != 1:
            raise InputError(f"{name} is not one text: the graph is damaged")
        return values[0].decode(errors="replace")  # type: ignore[no-any-return]

    def source(self, node: Any, number: int) -> Any:
        """Return the node that an input of another one comes from."""
        if number >= len(node.input) or node.input[number] not in self.nodes:
            raise InputError(f"input {number} of the node {node.name} is missing: the graph is damaged")
        return self.nodes[node.input[number]]

    def _constant(self, name: str, most: int) -> np.ndarray:
        """Return a constant of at most so many numbers."""
        tensor = self.nodes[name].attr["value"].tensor
        sizes = [size.size for size in tensor.tensor_shape.dim]
        if not 0 <= math.prod(sizes) <= most or min(sizes, default=0) < 0:
            raise InputError(f"{name} is not {'one number' if most == 1 else 'a short list'}: it has the sizes {sizes}")
        try:
            return self.to_array(tensor)
        except (TypeError, ValueError) as error:  # of TensorFlow, about bytes that are no numbers
            raise InputError(f"{name} is damaged: {error}") from error

    def number(self, name: str) -> float | None:
        """Return a constant, or None if there is none of this name."""
        if name not in self.nodes:
            return None
        array = self._constant(name, 1)
        if array.size != 1 or array.dtype.kind not in "fiub":
            raise InputError(f"{name} is not one number")
        return float(array.item())

    def integers(self, name: str) -> list[int] | None:
        """Return a constant with integers, or None if there is none of this name."""
        if name not in self.nodes:
            return None
        array = self._constant(name, MOST_TYPES)
        if array.dtype.kind not in "iu":
            raise InputError(f"{name} holds no integers: {array.dtype}")
        return [int(value) for value in array.reshape(-1)]

    @property
    def members(self) -> int:
        """Number of members of a hybrid; 0 for other descriptors."""
        return 1 + max((int(match[2]) for name in self.arrays if (match := MEMBER.fullmatch(name))), default=-1)

    def member(self, number: int) -> Graph:
        """Return what belongs to a member of a hybrid, under the names that it has in a model of its own, and what belongs to none."""

        def own(items: Mapping[str, Any]) -> dict[str, Any]:
            named = {name: MEMBER.fullmatch(name) for name in items}
            return {
                match[1] + match[3] if match else name: items[name]
                for name, match in named.items()
                if not match or int(match[2]) == number
            }

        def others(node: Any) -> bool:
            """Whether it makes the environment matrices of another member."""
            read = [match for name in node.input if (match := MEMBER.fullmatch(name)) and match[1] == "descrpt_attr"]
            return bool(read) and int(read[0][2]) != number

        nodes = own({name: node for name, node in self.nodes.items() if not others(node)})
        return Graph(nodes, own(self.arrays), self.to_array)

    @property
    def ntypes(self) -> int:
        """Number of types, from the statistics."""
        found = [self.arrays[name] for name in ("descrpt_attr/t_avg", "descrpt_attr_0/t_avg") if name in self.arrays]
        if not found:
            raise InputError(
                "the statistics descrpt_attr/t_avg are missing: the file is cut short, or no model with a descriptor"
            )
        return length(found[0])

    @property
    def hidden(self) -> int:
        """Number of hidden layers of the fitting nets."""
        return 1 + max(
            (int(match[1]) for name in self.arrays if (match := re.match(r"layer_(\d{1,3})(?:_type_\d{1,4})?/", name))),
            default=-1,
        )


@dataclass(frozen=True)
class Names:
    """A kind of descriptor or fitting net.

    Attributes
    ----------
    kind : what an input calls it
    arrays : regular expression of a whole name: function of (match, graph) that returns our path below the part
    trailing : sizes of an array by our path, after that of the types, where they differ
    stated : function of the graph that returns the options that it tells whether or not an input is stored
    guessed : function of (graph, arrays by our paths below the part, what is stated of the whole model) that returns the others
    completed : function of (arrays by our paths below the part, the section that holds, graph) that adds what files leave out
    finished : function of the options of the part and its parameters; returns the parameters with which it is what these graphs evaluate
    """

    kind: str
    arrays: Mapping[str, Callable[[re.Match[str], Graph], str]]
    trailing: Mapping[str, tuple[int, ...]]
    stated: Callable[[Graph], Section]
    guessed: Callable[[Graph, Arrays, Section], Section]
    completed: Callable[[Arrays, Section, Graph], Arrays] = field(default=lambda arrays, section, graph: arrays)
    finished: Callable[[Any, Params], Params] = field(default=lambda descriptor, params: params)


def length(array: np.ndarray) -> int:
    """Return the size of the first axis, 0 if there is none."""
    return array.shape[0] if array.ndim else 0


def required(arrays: Arrays, path: str) -> np.ndarray:
    """Return an array that a model must have.

    Raises
    ------
    InputError
        The array is missing, or the path is that of weights and the array is no matrix.
    """
    array = arrays.get(path)
    if array is None or (path.endswith("/w") and array.ndim != 2):
        raise InputError(f"the parameter {path} is {'missing' if array is None else f'of shape {array.shape}'}")
    return array


def always(path: str) -> Callable[[re.Match[str], Graph], str]:
    """Return what names an array that there is once."""
    return lambda match, graph: path


def shapes_of_nets(arrays: Arrays, stem: str) -> tuple[list[int], bool]:
    """Return the widths of the layers of the nets under a path, and whether there are time steps."""
    widths: dict[int, int] = {}
    for path, array in arrays.items():
        if (match := re.fullmatch(rf"{stem}/\d+/layers/(\d+)/w", path)) and array.ndim == 2:
            widths[int(match[1])] = array.shape[1]
    if not widths:
        raise InputError("nets are missing: the file is cut short, or no energy model")
    return [widths[number] for number in sorted(widths)], any(path.endswith("/idt") for path in arrays)


def activation_of(graph: Graph, scope: str) -> str:
    """Return the activation of the nets in a scope, by its operators."""
    found = {
        ACTIVATIONS[node.op] for name, node in graph.nodes.items() if name.startswith(scope) and node.op in ACTIVATIONS
    }
    if len(found) != 1:
        raise InputError(f"the file does not tell the activation of the nets {scope}...: {ASK}")
    return found.pop()


# -- se_e2_a --------------------------------------------------------------------------------------------------------

ENVIRONMENT = ("ProdEnvMatA", "DescrptSeA", "ProdEnvMatAMix")
"""The operator that makes environment matrices, under its names of all times."""


def _embedding(match: re.Match[str], graph: Graph) -> str:
    centre, leaf, layer, neighbour = match.groups()
    net = int(neighbour) if centre == "all" else int(centre) + int(neighbour) * graph.ntypes
    return f"embeddings/{net}/layers/{int(layer) - 1}/{LEAVES[leaf]}"


def _se_e2_a_stated(graph: Graph) -> Section:
    return {"type_one_side": one_sided(graph), **environment_stated(graph)}


def one_sided(graph: Graph) -> bool:
    """Tell whether nets belong to the type of the neighbour alone."""
    return any(name.startswith("filter_type_all/") for name in graph.arrays)


def environment_stated(graph: Graph) -> Section:
    """Return the options that the operator tells that makes environment matrices of four columns."""
    node = next((node for node in graph.nodes.values() if node.op in ENVIRONMENT), None)
    if node is None:
        raise InputError(
            f"no operator {' or '.join(ENVIRONMENT)}: the file is cut short, or not a model of se_e2_a, se_e3 or se_atten"
        )
    # the operator holds the cutoffs in float32, and their difference
    rcut, smooth = (np.float32(node.attr[name].f) for name in ("rcut_r", "rcut_r_smth"))
    return {
        "sel": [int(size) for size in node.attr["sel_a"].list.i],
        "rcut": float(smooth) + float(rcut - smooth),
        "rcut_smth": float(smooth),
    }


def _se_e2_a_guessed(graph: Graph, arrays: Arrays, section: Section) -> Section:
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


def with_used_steps(arrays: Arrays, section: Section, graph: Graph) -> Arrays:
    """Drop time steps that checkpoints have for layers without a shortcut."""

    def used(path: str) -> bool:
        if not path.endswith("/idt"):
            return True
        before, after = required(arrays, f"{path.removesuffix('idt')}w").shape
        return after in (before, 2 * before)

    return {path: array for path, array in arrays.items() if used(path)}


def _se_e2_a_completed(arrays: Arrays, section: Section, graph: Graph) -> Arrays:
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


SE_E2_A = Names(
    "se_e2_a",
    {
        r"filter_type_(all|\d{1,4})/(matrix|bias|idt)_(\d{1,3})_(\d{1,4})": _embedding,
        "descrpt_attr/t_avg": always("davg"),
        "descrpt_attr/t_std": always("dstd"),
    },
    {"davg": (-1, 4), "dstd": (-1, 4)},
    _se_e2_a_stated,
    _se_e2_a_guessed,
    _se_e2_a_completed,
    _se_e2_a_finished,
)

# -- se_e2_r and se_e3 ----------------------------------------------------------------------------------------------


def _of_triples(match: re.Match[str], graph: Graph) -> str:
    leaf, layer, first, second = match.groups()
    return f"embeddings/{int(first) + int(second) * graph.ntypes}/layers/{int(layer) - 1}/{LEAVES[leaf]}"


def _se_e2_r_stated(graph: Graph) -> Section:
    node = next((node for node in graph.nodes.values() if node.op in ("ProdEnvMatR", "DescrptSeR")), None)
    if node is None:
        raise InputError("no operator ProdEnvMatR or DescrptSeR: the file is cut short, or not a model of se_e2_r")
    rcut, smooth = (np.float32(node.attr[name].f) for name in ("rcut", "rcut_smth"))
    cutoffs = {"rcut": float(smooth) + float(rcut - smooth), "rcut_smth": float(smooth)}
    return {"sel": [int(size) for size in node.attr["sel"].list.i], **cutoffs, "type_one_side": one_sided(graph)}


def _se_e2_r_finished(descriptor: Any, params: Params) -> Params:
    """Let all slots of excluded pairs of types contribute G(0), or nothing where each pair has a net: those of excluded pairs are zero."""
    if (
        descriptor.exclude_types
        and not descriptor.type_one_side
        and activation(descriptor.activation_function)(np.zeros(1), xp=plain).any()
    ):
        raise InputError(
            f"model/descriptor/exclude_types: with type_one_side false and the activation {descriptor.activation_function}. Pairs that are left out "
            "contribute nothing in these graphs, in all other formats what a net gives for a distant neighbour, so the model cannot be carried over"
        )
    return without_mean(descriptor, params)


def _se_e3_stated(graph: Graph) -> Section:
    return {key: value for key, value in _se_e2_a_stated(graph).items() if key != "type_one_side"}


def asked(graph: Graph, arrays: Arrays, section: Section) -> Section:
    """Raise InputError, for parts whose options cannot be guessed."""
    raise InputError(f"the file does not tell the options of its descriptor or fitting net: {ASK}")


def _mirrored(arrays: Arrays, section: Section, graph: Graph) -> Arrays:
    """Add the nets of pairs of neighbour types in the other order, which are never evaluated: there are none in these files."""
    arrays, ntypes = with_used_steps(arrays, section, graph), graph.ntypes
    out = dict(arrays)
    for path, array in arrays.items():
        _, net, rest = path.split("/", 2) if path.startswith("embeddings/") else ("", "", "")
        if net:
            first, second = int(net) % ntypes, int(net) // ntypes
            out.setdefault(f"embeddings/{second + first * ntypes}/{rest}", np.zeros_like(array))
    return out


SE_E2_R = Names(
    "se_e2_r",
    {
        r"filter_type_(all|\d{1,4})/(matrix|bias|idt)_(\d{1,3})_(\d{1,4})": _embedding,
        "descrpt_attr/t_avg": always("davg"),
        "descrpt_attr/t_std": always("dstd"),
    },
    {"davg": (-1, 1), "dstd": (-1, 1)},
    _se_e2_r_stated,
    asked,
    _se_e2_a_completed,
    _se_e2_r_finished,
)
SE_E3 = Names(
    "se_e3",
    {
        r"filter_type_all/(matrix|bias|idt)_(\d{1,3})_(\d{1,4})_(\d{1,4})": _of_triples,
        "descrpt_attr/t_avg": always("davg"),
        "descrpt_attr/t_std": always("dstd"),
    },
    {"davg": (-1, 4), "dstd": (-1, 4)},
    _se_e3_stated,
    asked,
    _mirrored,
)

# -- loc_frame ------------------------------------------------------------------------------------------------------


def _loc_frame_stated(graph: Graph) -> Section:
    node = next((node for node in graph.nodes.values() if node.op == "Descrpt"), None)
    if node is None:
        raise InputError("no operator Descrpt: the file is cut short, or not a model of loc_frame")
    options = {name: [int(number) for number in node.attr[name].list.i] for name in ("sel_a", "sel_r", "axis_rule")}
    return {**options, "rcut": float(np.float32(node.attr["rcut_r"].f))}


LOC_FRAME = Names(
    "loc_frame",
    # the first name tells a kind where no input is stored; this one has none of its own, so it has to be told
    {"(?!)": always(""), "descrpt_attr/t_avg": always("davg"), "descrpt_attr/t_std": always("dstd")},
    {},
    _loc_frame_stated,
    asked,
)

SECTIONED = (SE_E2_A, SE_E2_R, SE_E3, LOC_FRAME)

"""Read-only view of a TensorFlow graph of DeePMD-kit: nodes, attributes, constants. Needs no TensorFlow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.kit.model_section import ASK, MOST_TYPES

Arrays = dict[str, np.ndarray]

ACTIVATIONS = {
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "GeluCustom": "gelu",
    "Gelu": "gelu",
}
"""Operators that identify an activation."""

MEMBER_NAME = re.compile(r"(filter_type_(?:all|\d{1,4})|descrpt_attr|attention_layer_\d{1,3})_(\d{1,3})(/.*)")
"""Names that belong to a member of a hybrid: scope, number of the member, rest."""


@dataclass(frozen=True)
class GraphNodes:
    """A graph that is not run: nodes by name, and arrays by the names of their constants or variables."""

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
        """Return the node that feeds an input of a node."""
        if number >= len(node.input) or node.input[number] not in self.nodes:
            raise InputError(f"input {number} of the node {node.name} is missing: the graph is damaged")
        return self.nodes[node.input[number]]

    def _constant(self, name: str, most: int) -> np.ndarray:
        """Return a constant of at most `most` numbers, after a check of the sizes that it claims."""
        tensor = self.nodes[name].attr["value"].tensor
        sizes = [size.size for size in tensor.tensor_shape.dim]
        if not 0 <= math.prod(sizes) <= most or min(sizes, default=0) < 0:
            raise InputError(f"{name} is not {'one number' if most == 1 else 'a short list'}: it has the sizes {sizes}")
        try:
            return self.to_array(tensor)
        except (TypeError, ValueError) as error:  # raised by TensorFlow for bytes that are no numbers
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
        return 1 + max((int(match[2]) for name in self.arrays if (match := MEMBER_NAME.fullmatch(name))), default=-1)

    def member(self, number: int) -> GraphNodes:
        """Return the graph of a member of a hybrid, named as a model of its own; nodes without a number stay."""

        def own(items: Mapping[str, Any]) -> dict[str, Any]:
            named = {name: MEMBER_NAME.fullmatch(name) for name in items}
            return {
                match[1] + match[3] if match else name: items[name]
                for name, match in named.items()
                if not match or int(match[2]) == number
            }

        def others(node: Any) -> bool:
            """Return whether a node makes the environment matrices of another member."""
            read = [
                match for name in node.input if (match := MEMBER_NAME.fullmatch(name)) and match[1] == "descrpt_attr"
            ]
            return bool(read) and int(read[0][2]) != number

        nodes = own({name: node for name, node in self.nodes.items() if not others(node)})
        return GraphNodes(nodes, own(self.arrays), self.to_array)

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


def length(array: np.ndarray) -> int:
    """Return the size of the first axis, 0 if there is none."""
    return array.shape[0] if array.ndim else 0


def required(arrays: Arrays, path: str) -> np.ndarray:
    """Return an array that a model must have; weights (`.../w`) must be a matrix."""
    array = arrays.get(path)
    if array is None or (path.endswith("/w") and array.ndim != 2):
        raise InputError(f"the parameter {path} is {'missing' if array is None else f'of shape {array.shape}'}")
    return array


def shapes_of_nets(arrays: Arrays, stem: str) -> tuple[list[int], bool]:
    """Return the widths of the layers of the nets below a path, and whether there are time steps."""
    widths: dict[int, int] = {}
    for path, array in arrays.items():
        if (match := re.fullmatch(rf"{stem}/\d+/layers/(\d+)/w", path)) and array.ndim == 2:
            widths[int(match[1])] = array.shape[1]
    if not widths:
        raise InputError("nets are missing: the file is cut short, or no energy model")
    return [widths[number] for number in sorted(widths)], any(path.endswith("/idt") for path in arrays)


def activation_of(graph: GraphNodes, scope: str) -> str:
    """Return the activation of the nets in a scope, by its operators."""
    found = {
        ACTIVATIONS[node.op] for name, node in graph.nodes.items() if name.startswith(scope) and node.op in ACTIVATIONS
    }
    if len(found) != 1:
        raise InputError(f"the file does not tell the activation of the nets {scope}*. {ASK}")
    return found.pop()

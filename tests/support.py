"""Where pure functions run, which rows of a parametrization are slow, and how stored trees are compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from deepmd import host
from deepmd.io.model_file import map_variables
from deepmd.testing.backends import NAMES as FRAMEWORKS
from deepmd.testing.backends import require

__all__ = ["FRAMEWORKS", "RUNNERS", "TF_LATER", "convert", "differences", "mark_slow", "require", "stored_tree"]


TF_LATER = ("torch", pytest.param("tf", marks=pytest.mark.slow))
"""Both frameworks, TensorFlow in slow tests only."""


def mark_slow(rows: Iterable[Any], quick: Iterable[Any]) -> list[Any]:
    """Return the rows of a parametrization, those that are not `quick` marked as slow."""
    rows, quick = list(rows), list(quick)
    unknown = [row for row in quick if row not in rows]
    assert not unknown, f"no rows of the parametrization: {unknown}"
    slow = [pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=pytest.mark.slow) for row in rows]
    return [row if row in quick else marked for row, marked in zip(rows, slow, strict=True)]


def options(part: object) -> Any:
    """Return a model or one of its parts with the options of its kind, which its contract does not name."""
    return part


def convert(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the arrays of nested dataclasses, dicts, lists and tuples; numbers and None stay."""
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{field.name: convert(getattr(tree, field.name), function) for field in fields(tree)})
    if isinstance(tree, dict):
        return {key: convert(value, function) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(convert(value, function) for value in tree)
    return tree if tree is None or isinstance(tree, int | float | str) else function(tree)


def _numpy(function, args, dynamic):
    return function(*args, xp=host.plain)


def _read_only(function, args, dynamic):
    def frozen(array):
        array = array.copy()
        array.flags.writeable = False
        return array

    return function(*convert(args, frozen), xp=host.plain)


def _autograd(function, args, dynamic):
    from deepmd.adapters.numpy.namespace import differentiable

    return function(*args, xp=differentiable)


def _strict(function, args, dynamic):
    standard = require("array_api_strict")
    from deepmd.testing import strict

    def back(array):
        assert type(array) is type(standard.zeros(1)), f"left the standard: {type(array)}"
        return strict.to_numpy(array)

    with strict.flags():
        return convert(function(*convert(args, strict.from_numpy), xp=strict.xp), back)


def _torch(function, args, dynamic):
    torch = require("torch")
    from deepmd.adapters.torch.arrays import to_numpy
    from deepmd.adapters.torch.device import choose_device
    from deepmd.adapters.torch.namespace import xp

    return convert(function(*convert(args, lambda array: torch.tensor(array, device=choose_device())), xp=xp), to_numpy)


def _tf_graph(function, args, dynamic):
    tf = require("tensorflow")
    from deepmd.adapters.tf.graph import session
    from deepmd.adapters.tf.namespace import xp

    feed = {}

    def placeholder(array):
        node = tf.compat.v1.placeholder(
            array.dtype, [None if axis < dynamic else size for axis, size in enumerate(array.shape)]
        )
        feed[node] = array
        return node

    graph = tf.Graph()
    with graph.as_default():
        outputs = function(*convert(args, placeholder), xp=xp)
    with session(graph) as running:
        return convert(outputs, lambda node: running.run(node, feed))


def stored_tree(path):
    """Return the tree of a `.dp` file with its arrays."""
    with h5py.File(path) as file:
        return map_variables(lambda name: file[name][...], json.loads(file.attrs["json"]))


def differences(found, expected, where=""):
    """Return where two trees differ, in keys, values or arrays."""
    if isinstance(expected, dict) and isinstance(found, dict):
        out = [f"{where}/{key}: only in one" for key in found.keys() ^ expected.keys()]
        return out + [
            item
            for key in found.keys() & expected.keys()
            for item in differences(found[key], expected[key], f"{where}/{key}")
        ]
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(found) == len(expected):
        return [
            item
            for k, pair in enumerate(zip(found, expected, strict=True))
            for item in differences(*pair, f"{where}/{k}")
        ]
    if isinstance(expected, np.ndarray) or isinstance(found, np.ndarray):
        same = (
            np.shape(found) == np.shape(expected) and np.array_equal(found, expected) and found.dtype == expected.dtype
        )
    else:
        same = found == expected
    return [] if same else [f"{where}: {found!r}, expected {expected!r}"]


RUNNERS = SimpleNamespace(
    numpy=_numpy, read_only=_read_only, autograd=_autograd, strict=_strict, torch=_torch, tf_graph=_tf_graph
)
"""run(function, arguments, dynamic): NumPy in, NumPy out.

In a TF graph the first `dynamic` axes of each array are unknown.
"""

"""Where pure functions run, and the tables of tests that are not expected to pass, with reasons, and of those that take long."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from deepmd import host
from deepmd.io.model_file import map_variables
from deepmd.testing.backends import NAMES as FRAMEWORKS
from deepmd.testing.backends import require

__all__ = ["FRAMEWORKS", "RUNNERS", "SLOW", "UNSUPPORTED", "convert", "differences", "mark", "require", "stored_tree"]


@dataclass(frozen=True)
class Outcome:
    """`skip`: cannot be run; `xfail`: runs and must fail, so that the row goes away with its reason."""

    kind: str
    reason: str


UNSUPPORTED: dict[str, Outcome] = {
    # pattern of test ids: outcome. Empty: every backend does everything, float16 and bfloat16 on the CPU included;
    # their forces are
    # compared with float64, because finite differences are out of reach of half precisions
}

SLOW = (
    # patterns of test ids: they take long, and quick ones would notice most of what they notice
    "*test_golden_conversions.py::Test*",  # every ordered pair; quick: through every format once
    "*::test_through_every_format[dpa3*",
    "*::test_through_every_format[se_e3*",
    "*::test_through_every_format[linear*",
    "*::test_through_every_format[polar]",
    "*::test_through_every_format[dos]",
    "*test_dpa_training.py::test_every_conversion*",
    "*::test_conversion_of_a_compressed_model_and_back*",
    "*test_dpa.py::TestOptions*",  # quick: the golden cases with options
    "*test_dpa.py::TestFittings*",
    "*test_dpa_gradients.py*charge and spin*",
    "*test_dpa_gradients.py*dpa2-tf*",
    "*test_savedmodel.py*dpa*",
    "*test_savedmodel.py::test_charge_and_spin_out_of_range",
    "*test_compress.py::test_every_format_keeps_the_expansion[se_e2_a_float32]",
    "*test_compress.py::test_every_format_keeps_the_expansion[se_e2_a_two_side]",
    "*test_compress.py::test_every_format_keeps_the_expansion[linear]",
    "*test_compress.py::test_every_format_keeps_the_expansion[zbl]",
    "*test_compress.py::test_parts_without_expansion_stay_as_they_are[.pb*",
    "*::test_a_killed_training_continues_as_if_unbroken[tf-die3]",
    "*::test_a_killed_training_continues_as_if_unbroken[tf-die5]",
    "*::test_a_signal_keeps_everything[tf*",
    "*test_descriptor_kinds.py*expanded]",
    "*::test_a_member_stays_directly_evaluated[tf]",
    "*::test_members_of_a_hybrid_are_expanded_unless_the_input_says_otherwise[tf]",
    "*::test_expansions_and_nets_walk_the_same_path[tf]",
    "*::test_members_of_a_hybrid_have_one_embedding[tf]",
    "*::test_other_descriptors[se_e2_r-tf]",
    "*::test_other_descriptors[se_e3*-tf]",
    "*::TestActivations::*-tf]",
    "*test_wild_geometry.py::test_many*",  # quick: fewer structures
)


def named(item: pytest.Item, pattern: str) -> bool:
    """Whether a pattern names a test; brackets stand for themselves."""
    return fnmatch.fnmatchcase(item.nodeid.replace("[", "<"), pattern.replace("[", "<"))


def mark(items: list[pytest.Item]) -> None:
    """Mark the tests that the tables name; where all tests are there, every row of `SLOW` must name one."""
    unused = set(SLOW)
    for item in items:
        for pattern, outcome in UNSUPPORTED.items():
            if named(item, pattern):
                item.add_marker(getattr(pytest.mark, outcome.kind)(reason=outcome.reason))
        if slow := {pattern for pattern in SLOW if named(item, pattern)}:
            item.add_marker(pytest.mark.slow)
            unused -= slow
    files = {
        path
        for folder in ("consistency", "golden", "train", "unit")
        for path in (Path(__file__).parent / folder).glob("test_*.py")
    }
    if unused and files <= {item.path for item in items}:
        raise pytest.UsageError(f"tests/support.py: no test is named by these rows of SLOW: {sorted(unused)}")


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
        return np.asarray(array)

    with strict.flags():
        return convert(function(*convert(args, standard.asarray), xp=strict.xp), back)


def _torch(function, args, dynamic):
    torch = require("torch")
    from deepmd.adapters.torch.namespace import xp

    return convert(
        function(*convert(args, lambda array: torch.from_numpy(array.copy())), xp=xp),
        lambda tensor: tensor.detach().numpy(),
    )


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

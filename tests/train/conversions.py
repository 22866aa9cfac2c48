"""Pairs of formats, checkpoints included, and the comparison of two files bit by bit."""

from __future__ import annotations

import numpy as np

from deepmd.array_model.tree import flatten
from deepmd.io import load_model
from deepmd.plan.plans import count_terms

FORMATS = [".dp", ".yaml", ".pth", ".pb"]

CHECKPOINTS = {"torch": "model.ckpt-3.pt", "tf": "model.ckpt-3.index"}

PAIRS = [(a, b) for a in [*FORMATS, *CHECKPOINTS] for b in FORMATS if a != b] + [
    (a, ".savedmodel") for a in CHECKPOINTS
]
"""Between formats `.savedmodel` is converted in tests/golden."""


def same_file(path, other):
    a, b = load_model(path), load_model(other)
    assert a.model == b.model
    assert a.definition == b.definition
    assert a.min_nbor_dist == b.min_nbor_dist
    assert count_terms(a.plan or ()) == count_terms(b.plan or ())
    for tree, wanted in ((a.arrays, flatten(b.arrays)),):
        leaves = flatten(tree)
        assert leaves.keys() == wanted.keys()
        for name, array in leaves.items():
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
            assert np.asarray(array).dtype == np.asarray(wanted[name]).dtype

"""Combinations and pair tables with outputs of DeePMD-kit 3.2 (torch): periodic and open boundary, every backend."""

from __future__ import annotations

from itertools import product

import pytest
from golden.golden_cases import BOUNDARIES, MODEL_CASES, content_of, sample_of, stored_in
from support import FRAMEWORKS
from tolerances import assert_close

from deepmd.testing.samples import Subject

QUICK = [*product(MODEL_CASES, ("numpy", "torch")), ("pairtab", "tf")]
"""The graph of zbl is compared as a file (test_golden_conversions.py)."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(row, id="-".join(row), marks=() if row in QUICK else pytest.mark.slow)
        for row in product(MODEL_CASES, FRAMEWORKS)
    ],
)
def golden(request):
    case, backend = request.param
    content = content_of(case)
    return Subject(content.model, content.params, backend), stored_in(case)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_equals_deepmd_kit(golden, boundary):
    subject, stored = golden
    sample, expected = sample_of(stored, boundary)
    results = subject([sample])
    assert set(results) == set(subject.model.output.names)
    assert results.pop("descriptor").shape == (sample.natoms, 0)
    for name, values in results.items():
        assert_close(values.reshape(expected[name].shape), expected[name], "golden", "float64", floor=0.0, what=name)

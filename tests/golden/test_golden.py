"""Outputs of DeePMD-kit 3.2: periodic and open boundary, on every backend, by nets and by their expansions."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import product

import pytest
from golden.golden_cases import (
    BOUNDARIES,
    CASES,
    DIRECT,
    FITTINGS,
    OPTIONS,
    OVERFLOW,
    STORED,
    content_of,
    sample_of,
    shortest,
    stored_in,
)
from support import FRAMEWORKS, mark_slow
from tolerances import assert_close

from deepmd.array_model.components import descriptors_of, exchange_descriptors
from deepmd.array_model.tree import map_leaves
from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.data.packing import SelWarning, pack
from deepmd.plan.expansions import ask_evaluation, choose_plan
from deepmd.testing.samples import Subject

EXPANDED_ON_TF = ("se_e2_a", "se_e2_a_float32", "se_atten_strip", "hybrid")
NETS_ON_TF = (
    *("se_e2_a_fparam", "se_e2_r", "se_atten_attn", "se_e3_tebd", "loc_frame_rule", "dpa2"),
    *("polar", "dos", "property"),
)
"""Cases of quick tests with TensorFlow, where a graph is built for each in a second or more.

Those of dpa3 and of dipoles are compared as files (tests/unit/test_native_files.py, test_golden_conversions.py), that
of se_e3 with other backends (tests/consistency/test_se_e3.py).
"""

EVALUATED = [
    (case, backend, how)
    for case, backend, how in product(CASES, FRAMEWORKS, ("direct", "spectral"))
    if how == "direct" or case not in DIRECT
] + [(case, "numpy", "direct") for case in OPTIONS]
EXPANDED = [
    case for case in CASES if case not in (*DIRECT, *FITTINGS, "hybrid")
]  # the members of the hybrid are tested alone

FACTORS = (1.0, 2.0, 4.0)
"""Factors of the weights of embedding nets: weights grow in training, and the number of terms with them."""

IMPOSSIBLE = {("se_e2_a", 4.0), ("se_e2_a_two_side", 4.0), ("se_e2_a_fparam", 4.0), ("se_e2_a_sel_overflow", 4.0)}
"""Cases and factors that have no expansion from the shortest distance that is assumed if none is known.

From their own they have one.
"""

NEVER = {("se_e2_r", 4.0), ("se_e3", 2.0), ("se_e3", 4.0)}
"""Cases and factors that need more terms than are allowed from any distance."""

GROWN = [
    (*each, backend)
    for each in product(EXPANDED, FACTORS)
    for backend in FRAMEWORKS
    if each not in NEVER and (backend != "tf" or each not in IMPOSSIBLE)
]
"""Graphs of more than 300 terms take TensorFlow ten seconds each, and show nothing that those of 200 do not."""


def in_terms(content, params, closest=None):
    """The plan with an expansion, if there is one, and the reason if not."""
    asked = exchange_descriptors(
        content.model, (ask_evaluation(part, "spectral") for part in descriptors_of(content.model))
    )
    return choose_plan(asked, params, closest, stored=True)


QUICK = [
    (case, backend, how)
    for case, backend, how in EVALUATED
    if backend != "tf" or case in {"direct": NETS_ON_TF, "spectral": EXPANDED_ON_TF}[how]
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(row, id="-".join(row), marks=() if row in QUICK else pytest.mark.slow) for row in EVALUATED],
)
def golden(request):
    case, backend, evaluation = request.param
    content = content_of(case)
    plan = None
    if evaluation == "spectral":
        plan, reason = in_terms(content, content.params)
        assert any(plan), reason
    return case, Subject(content.model, content.params, backend, chosen=plan), stored_in(case)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_equals_deepmd_kit(golden, boundary):
    case, subject, stored = golden
    sample, expected = sample_of(stored, boundary)
    results = subject([sample])
    assert set(results) == set(subject.model.output.names)
    for name, values in results.items():
        if case in STORED and name == "descriptor":
            continue
        key, shape = STORED.get(case, {}).get(name, (name, values.shape))
        assert_close(values, expected[key].reshape(shape), "golden", CASES.get(case, "float64"), floor=0.0, what=name)


@pytest.mark.parametrize("case", [*CASES, *OPTIONS])
def test_overflow_is_told(case):
    layout, stored = content_of(case).model.layout(), stored_in(case)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SelWarning)
        pack(
            find_neighbours([Structure(stored["pbc/coord"], stored["pbc/cell"], stored["pbc/type"])], layout.rcut),
            layout,
            2,
        )
    assert bool(caught) == (case in OVERFLOW)


def grown(content, factor):
    """The parameters with larger weights of the embedding nets."""
    nets = map_leaves(lambda leaf: factor * leaf, content.params["descriptor"]["embeddings"])
    return {**content.params, "descriptor": {**content.params["descriptor"], "embeddings": nets}}


@pytest.mark.parametrize(("case", "factor"), sorted(NEVER))
def test_nets_without_expansion_are_evaluated_directly(case, factor):
    content = content_of(case)
    plan, reason = in_terms(content, grown(content, factor), shortest(case))
    assert (plan, reason) == ((None,), "the embedding nets need more than 512 terms")


@pytest.mark.parametrize(
    ("case", "factor", "backend"),
    mark_slow(GROWN, [row for row in GROWN if row[2] == "numpy" or row == ("se_e2_a", 2.0, "torch")]),
)
def test_expansion_equals_nets(case, factor, backend):
    content = content_of(case)
    params = grown(content, factor)
    plan, reason = in_terms(content, params)
    if (case, factor) in IMPOSSIBLE:
        assert (plan, reason) == ((None,), "the embedding nets need more than 512 terms")
        plan, reason = in_terms(content, params, shortest(case))
    assert any(plan), reason
    direct = Subject(content.model, params, backend)
    spectral = replace(direct, chosen=plan)
    for boundary in BOUNDARIES:
        sample, _ = sample_of(stored_in(case), boundary)
        results, expected = spectral([sample]), direct([sample])
        for name in ("energy", "force", "virial", "descriptor"):
            assert_close(results[name], expected[name], "spectral", CASES[case], floor=0.0, what=f"{boundary}: {name}")


def test_tables_have_no_stale_rows():
    assert {case for case, _ in IMPOSSIBLE | NEVER} <= set(CASES)
    assert {factor for _, factor in IMPOSSIBLE | NEVER} <= set(FACTORS)

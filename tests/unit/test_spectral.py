"""Chebyshev expansions: exact where they can be, planned as needed, continued with equal value and slope."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from support import FRAMEWORKS
from tolerances import TOLERANCES, assert_close

from deepmd.array_model import spectral
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.neighbours import spans
from deepmd.array_model.tree import flatten, map_leaves
from deepmd.data.neighbours import Structure
from deepmd.host import plain
from deepmd.plan import chebyshev as series
from deepmd.plan.expansions import MARGIN, TOLERANCE, choose_plan
from deepmd.plan.plans import count_terms, domain_start
from deepmd.testing import ModelAgreement
from deepmd.testing.conformance import REALISTIC
from deepmd.testing.samples import Sample, Subject

COUNTS = [1, 2, 3, 8, 64]
WIDTHS = (3, 0, 2)


@pytest.fixture
def rng():
    """A generator of its own for each test, so that no test depends on those before it."""
    return np.random.default_rng(8)


def matrices(count):
    return series.transform(count), series.derivative(count)


# -- matrices
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
def test_nodes_are_those_of_the_literature(count):
    assert_close(sorted(series.nodes(count)), chebyshev.chebpts1(count), "function")


@pytest.mark.parametrize("count", COUNTS)
def test_transform_inverts_the_evaluation_at_the_nodes(count):
    values_of = chebyshev.chebvander(series.nodes(count), count - 1)
    assert_close(matrices(count)[0] @ values_of, np.eye(count), "function")


@pytest.mark.parametrize("count", COUNTS)
def test_derivative_is_that_of_numpy(count):
    expected = np.zeros((count, count))
    expected[: max(count - 1, 1)] = chebyshev.chebder(np.eye(count), axis=0)
    assert_close(matrices(count)[1], expected, "function")


@given(st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=12), st.floats(-1.0, 1.0))
def test_exact_for_polynomials(powers, x):
    """K terms represent every polynomial of a degree below K, and its derivative."""
    count = 12
    transform, derivative = matrices(count)
    polynomial = np.polynomial.Polynomial(powers)
    coefficients = transform @ polynomial(series.nodes(count))
    for c, exact in ((coefficients, polynomial), (derivative @ coefficients, polynomial.deriv())):
        assert_close(chebyshev.chebval(x, c), exact(x), "function", floor=count * np.abs(powers).sum())


@pytest.mark.parametrize("count", [2, 8, 64])
def test_even_and_odd_terms_taken_apart(count):
    x = np.linspace(-1.0, 1.0, 101)
    even = chebyshev.chebvander(2.0 * x * x - 1.0, count // 2 - 1)
    both = np.concatenate([even, x[:, None] * even], axis=1)
    assert_close(both @ series.halves(count), chebyshev.chebvander(x, count - 1), "function")


def contracting(c_K):
    """What contracts the moments, (2K, ...), of coefficients: those of the values, then of the slopes."""
    count = len(c_K)
    split = series.halves(count)
    return np.concatenate([split @ c_K, split @ matrices(count)[1] @ c_K])


@pytest.mark.parametrize("count", [2, 8, 64])
def test_tables_lead_from_values_at_the_nodes_to_what_contracts_moments(count, rng):
    values = rng.normal(size=(count, 3))
    assert_close(series.constants(count) @ values, contracting(matrices(count)[0] @ values), "function")


def test_value_at_the_cutoff(run, rng):
    c_KG = rng.normal(size=(6, 3))
    assert_close(run(spectral.at_start, contracting(c_KG)), chebyshev.chebval(-1.0, c_KG)[None], "function")


# -- moments
# ------------------------------------------------------------------------------------------------------------


def slow_moments(x_NM, columns, widths, count):
    """The definition, one neighbour at a time."""
    out = [np.zeros((len(x_NM), len(columns), 4, count // 2)) for _ in widths]
    for n, c in np.ndindex(len(x_NM), len(columns)):
        for section, (start, stop) in enumerate(spans(widths)):
            for m in range(start, stop):
                x = x_NM[n, m]
                inside, beyond = min(x, 1.0), max(x - 1.0, 0.0)
                for k in range(count // 2):
                    term = np.cos(2 * k * np.arccos(inside)) * columns[c][n, m]
                    out[section][n, c, :, k] += term * np.array([1.0, inside, beyond, beyond * inside])
    return [sums.reshape(len(x_NM), len(columns), 2 * count) for sums in out]


@pytest.mark.parametrize("count", [2, 4, 10])
@pytest.mark.parametrize("rows", [4, 0])
def test_moments_equal_slow_twin(run, rows, count, rng):
    x_NM = np.concatenate([rng.uniform(-1.0, 1.0, (rows, 4)), np.full((rows, 1), 1.3)], axis=1)
    columns = [rng.normal(size=x_NM.shape) for _ in range(4)]
    rows_NCM = np.stack(columns, axis=1)
    for (start, stop), slow in zip(spans(WIDTHS), slow_moments(x_NM, columns, WIDTHS, count), strict=True):
        each = run(
            lambda x, rows, *, xp: spectral.moments(x, rows, count, xp=xp),
            x_NM[:, start:stop],
            rows_NCM[:, :, start:stop],
        )
        assert_close(each, slow, "function")


@pytest.mark.parametrize("count", [2, 10])
def test_the_written_adjoint_is_that_of_the_sums(run, count, rng):
    """Of both arguments, on both sides of the end of the domain.

    Sections without neighbours and types without atoms included.
    """
    x_NM = np.concatenate([rng.uniform(-1.0, 0.99, (4, 4)), np.full((4, 1), 1.3)], axis=1)
    columns_NCM = rng.normal(size=(4, 3, 5))
    coefficients = [
        [contracting(rng.normal(size=count))[:, None] * rng.normal(size=6) for _ in WIDTHS] for _ in range(3)
    ]
    weights, counts = rng.normal(size=(4, 3, 6)), (3, 0, 1)

    def sums(x, columns, *, xp):
        return spectral.contract_moments(x, columns, WIDTHS, counts, coefficients, count, xp=xp)

    def written(x, columns, coefficients, weights, *, xp):
        out, adjoint = spectral.contract_with_adjoint(x, columns, WIDTHS, counts, coefficients, count, xp=xp)
        return [out, *adjoint(weights)]

    out, by_x, by_columns = run(written, x_NM, columns_NCM, coefficients, weights)
    assert_close(out, sums(x_NM, columns_NCM, xp=plain), "function")
    for gradient, number in ((by_x, 0), (by_columns, 1)):
        expected = np.zeros_like(gradient)
        for place in np.ndindex(gradient.shape):
            sides = []
            for step in (1e-5, -1e-5):
                arguments = [x_NM.copy(), columns_NCM.copy()]
                arguments[number][place] += step
                sides.append(np.sum(weights * sums(*arguments, xp=plain)))
            expected[place] = (sides[0] - sides[1]) / 2e-5
        assert_close(gradient, expected, "finite difference")


# -- how many terms
# -----------------------------------------------------------------------------------------------------


def needed(function, tolerance=TOLERANCE["float64"]):
    return series.terms_needed(lambda nodes: function(nodes).reshape(len(nodes), -1), tolerance)


@given(st.integers(0, 60), st.floats(0.1, 1e6))
def test_a_polynomial_needs_its_own_terms(degree, size):
    coefficients = size * np.eye(61)[degree]
    assert needed(lambda x: chebyshev.chebval(x, coefficients)) == 8 * (degree // 8 + 1)


@pytest.mark.parametrize("slope", [1.0, 3.0, 9.0, 20.0])
def test_no_neglected_coefficient_counts_and_no_term_is_kept_in_vain(slope):
    def function(x):
        return np.tanh(slope * x + 0.3)

    # NumPy's interpolation leaves 1e-14 of noise in every coefficient, too much for this weight
    all_terms = (matrices(1024)[0] @ function(series.nodes(1024)))[:512]
    weighted = np.abs(all_terms) * np.maximum(np.arange(512), 1) ** 2
    relevant = np.flatnonzero(weighted > TOLERANCE["float64"] * weighted.max()).max() + 1
    count = needed(function)
    assert count - 8 < relevant <= count
    x = np.linspace(-1.0, 1.0, 1001)
    c = matrices(count)[0] @ function(series.nodes(count))
    assert_close(chebyshev.chebval(x, c), function(x), "spectral")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_functions_that_are_not_finite_have_no_expansion(wrong):
    assert series.terms_needed(lambda nodes: np.where(nodes > 0.9, wrong, nodes)[:, None], 1e-10) is None


def test_steeper_functions_need_more_terms():
    counts = [needed(lambda x, slope=slope: np.tanh(slope * x)) for slope in (1.0, 2.0, 4.0, 8.0, 16.0)]
    assert counts == sorted(set(counts))
    assert all(count % 8 == 0 for count in counts)
    assert needed(lambda x: np.tanh(8.0 * x), TOLERANCE["float32"]) < needed(lambda x: np.tanh(8.0 * x))


@pytest.mark.parametrize("function", [np.abs, np.sign, lambda x: np.tanh(200.0 * x), lambda x: np.full_like(x, np.nan)])
def test_no_number_of_terms_is_enough(function):
    assert needed(function) is None


def test_every_column_counts():
    both = needed(lambda x: np.stack([np.ones_like(x), np.tanh(5.0 * x)], axis=1))
    assert both == needed(lambda x: np.tanh(5.0 * x))


def test_a_function_that_is_zero_needs_the_least():
    assert needed(np.zeros_like) == 8


# -- plans of a descriptor
# ----------------------------------------------------------------------------------------------

BASE = SeE2A(
    sel=(8, 8), rcut=4.0, rcut_smth=1.0, neuron=(3, 6), axis_neuron=2, type_one_side=True, evaluation="spectral"
)


class Realistic(ModelAgreement):
    deviations = REALISTIC


def model_of(config):
    model = StandardModel(("O", "H"), config, EnergyFitting(neuron=(5,)))
    return model, Realistic.parameters(model)


def plan(config, closest=1.0, *, factor=1.0, stored=False, before=None):
    """Choose the plan of a model whose embedding weights are multiplied by a factor; return it, and the reason."""
    model, params = model_of(config)
    params["descriptor"]["embeddings"] = map_leaves(lambda leaf: factor * leaf, params["descriptor"]["embeddings"])
    return choose_plan(model, params, closest, stored=stored, before=before)


def terms(*arguments, **options):
    (count,) = count_terms(plan(*arguments, **options)[0])
    return count


def test_terms_rise_with_the_weights():
    counts = [terms(BASE, factor=factor) for factor in (0.5, 1.0, 2.0, 3.0)]
    assert counts == sorted(set(counts))
    assert all(count % 8 == 0 for count in counts)


def test_terms_rise_with_the_domain():
    assert terms(BASE, 2.0) < terms(BASE, 1.0) < terms(BASE, 0.7)


def test_single_precision_needs_fewer_terms():
    assert terms(replace(BASE, precision="float32")) < terms(BASE)


@pytest.mark.parametrize("evaluation", ["auto", "spectral"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activation_function": "relu"}, "the embedding nets need more than 512 terms"),
        ({"precision": "float16"}, "the precision is float16"),
        ({"precision": "bfloat16"}, "the precision is bfloat16"),
    ],
)
def test_where_there_is_no_expansion(evaluation, changes, reason):
    assert plan(replace(BASE, evaluation=evaluation, **changes)) == ((None,), reason)


@pytest.mark.parametrize("name", ["davg", "dstd"])
def test_statistics_that_differ_between_slots_have_no_expansion(name):
    model, params = model_of(BASE)
    params["descriptor"][name][1, 3, 2] += 0.1
    assert choose_plan(model, params, 1.0, stored=True) == ((None,), f"{name} differs between the slots of a type")


def test_direct_evaluation_is_nothing_to_explain():
    assert plan(replace(BASE, evaluation="direct")) == ((None,), "")


def test_a_plan_is_never_lowered():
    """Weights that shrink keep their terms, those that grow get more; what was evaluated directly still is."""
    before = terms(BASE)
    for factor, wanted in ((0.3, before), (1.0, before), (2.0, terms(BASE, factor=2.0))):
        (expansion,), _ = plan(BASE, factor=factor, before=[before])
        assert expansion.terms == len(expansion.tables["nodes"]) == wanted
    assert terms(BASE, factor=0.3) < before < terms(BASE, factor=2.0)
    assert plan(BASE, before=[0]) == ((None,), "")


@pytest.mark.parametrize(("number", "wanted"), [(8, None), (400, 400)])
def test_a_number_is_the_least_number_of_terms_in_training(number, wanted):
    config = replace(BASE, evaluation=number)
    assert terms(config) == (wanted or terms(BASE))
    assert terms(config, stored=True) == terms(BASE, stored=True)


@pytest.mark.parametrize(("closest", "start"), [(None, 0.5), (1.0, 0.9), (2.0, 1.8)])
@pytest.mark.parametrize("stored", [True, False])
def test_where_the_domain_starts(closest, start, stored):
    (expansion,), _ = plan(BASE, closest, stored=stored)
    assert domain_start((expansion, None)) == pytest.approx(start)
    tables = expansion.tables
    s = environment_rows(np.array([start, 0.0, 0.0]), BASE.rcut_smth, BASE.rcut, 0.0, xp=plain)[0]
    assert_close(spectral.abscissa(s, tables["scale"]), 1.0, "function")
    assert domain_start((None, None)) == domain_start(()) == 0.0
    if not stored:
        assert_close(tables["nodes"] * tables["scale"] - 1.0, series.nodes(expansion.terms), "function")


@pytest.mark.parametrize("one_sided", [True, False])
def test_stored_coefficients_are_those_that_follow_the_nets(one_sided):
    config = replace(BASE, type_one_side=one_sided)
    model, params = model_of(config)
    (stored,), _ = plan(config, stored=True)
    (following,), _ = plan(config, before=[stored.terms])
    assert following.terms == stored.terms
    for centre in range(2):
        (kept, kept_starts), (fresh, starts) = (
            model.descriptor.contractions(params["descriptor"], each, centre, xp=plain) for each in (stored, following)
        )
        assert_close(kept_starts, starts, "function")
        for each, other in zip(kept, fresh, strict=True):
            assert_close(each, other, "function")


def test_training_plans_more_terms_than_are_needed_now():
    """They stay what they are until more than that are needed."""
    exact, planned = terms(BASE, stored=True), terms(BASE)
    assert 1.25 * exact <= planned < 1.25 * exact + 8
    assert terms(BASE, factor=1.1, before=[planned]) == planned


def test_parameters_are_left_alone():
    model, params = model_of(BASE)
    before = {path: leaf.copy() for path, leaf in flatten(params).items()}
    choose_plan(model, params, 1.0, stored=True)
    after = flatten(params)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[path], after[path]) for path in before)


# -- beyond the domain
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 10])
def test_an_expansion_continues_linearly(run, count, rng):
    """With the value and the slope at the end of the domain."""
    c = rng.normal(size=count)
    x = np.array([-1.0, -0.3, 0.999, 1.0, 1.001, 1.5, 3.0])
    c_K1 = contracting(c)[:, None]

    def function(x_N1, c_K1, *, xp):
        return xp.matmul(spectral.moments(x_N1, xp.expand_dims(xp.ones_like(x_N1), axis=1), count, xp=xp), c_K1)

    inside, slope = np.minimum(x, 1.0), chebyshev.chebval(1.0, chebyshev.chebder(c))
    expected = chebyshev.chebval(inside, c) + (x - inside) * slope
    assert_close(np.reshape(run(function, x[:, None], c_K1), -1), expected, "function")


END = 1.8
"""Where the domain of the pair below starts, Angstrom."""


PAIRS = [*product(FRAMEWORKS, (True, False))]


# slow: a graph of TensorFlow whose coefficients follow the nets differs by the nets in it
@pytest.fixture(
    scope="module",
    params=[pytest.param(row, id=str(row), marks=pytest.mark.slow if row == ("tf", False) else ()) for row in PAIRS],
)
def pair(request):
    """Energies, and forces on the second atom along the line, of an O and an H at some distances: expansion, nets."""
    backend, stored = request.param
    model, params = model_of(BASE)
    expansion = Subject(model, params, backend, chosen=plan(BASE, END / MARGIN, stored=stored)[0])
    model, params = model_of(replace(BASE, evaluation="direct"))
    nets = Subject(model, params, "numpy")
    line = np.array([0.6, 0.0, 0.8])

    def evaluate(distances, subject=expansion):
        structures = [Structure(np.stack([0.0 * line, r * line]), None, np.array([0, 1])) for r in distances]
        results = subject([Sample(structure, {}) for structure in structures])
        return results["energy"], results["force"].reshape(-1, 2, 3)[:, 1, :] @ line

    return evaluate, lambda distances: evaluate(distances, nets)


def test_outside_and_inside(pair):
    """Inside the domain it is the nets that are evaluated, outside it is not."""
    expansion, nets = pair
    for inside, outside in zip(expansion([END, 2.2, 3.9]), nets([END, 2.2, 3.9]), strict=True):
        assert_close(inside, outside, "spectral")
    assert np.all(np.abs(expansion([1.0])[1] / nets([1.0])[1] - 1.0) > TOLERANCES["float64"]["finite difference"])


def test_energy_and_force_are_continuous_at_the_end(pair):
    evaluate, _ = pair
    energy, force = evaluate([END * (1.0 - 1e-8), END * (1.0 + 1e-8)])
    assert_close(energy[0], energy[1], "finite difference")
    assert_close(force[0], force[1], "finite difference")


def test_forces_beyond_the_end_are_derivatives(pair):
    evaluate, _ = pair
    distances, step = np.array([0.7, 1.0, 1.4, 1.79, 1.81, 2.5]), 3e-5
    ahead, behind = (evaluate(distances + shift)[0] for shift in (step, -step))
    assert_close(evaluate(distances)[1], -(ahead - behind) / (2.0 * step), "finite difference")

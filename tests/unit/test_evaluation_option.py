"""DeepPot's option `evaluation`: nets or their expansions, and what is said where expansions do not reach."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support import FRAMEWORKS, mark_slow, options
from tolerances import assert_close

from deepmd.array_model.errors import InputError
from deepmd.infer import DeepPot
from deepmd.infer.deep_pot import ExpansionWarning
from deepmd.io import load_model, save_model
from deepmd.plan.expansions import MARGIN, UNKNOWN_DISTANCE

GOLDEN = Path(__file__).parents[1] / "golden" / "se_e2_a"
MODEL = GOLDEN / "model.dp"
NAMES = ("energy", "force", "virial", "atom_energy", "atom_virial")


@pytest.fixture(scope="module")
def frame():
    """Coordinates, cell and types of the golden case."""
    with np.load(GOLDEN / "expected.npz") as stored:
        return stored["pbc/coord"], stored["pbc/cell"], stored["pbc/type"]


@pytest.fixture
def saved(tmp_path):
    """Save the golden model with another descriptor, section of the input or shortest distance."""

    def save(descriptor=None, **changes):
        content = replace(load_model(MODEL), **changes)
        if descriptor:
            content = replace(
                content,
                model=replace(
                    options(content.model), descriptor=replace(options(content.model).descriptor, **descriptor)
                ),
            )
        save_model(tmp_path / "model.dp", content)
        return tmp_path / "model.dp"

    return save


def dimer(*distances):
    """Coordinates of two atoms in as many frames as there are distances."""
    return np.array([[[0.0, 0.0, 0.0], [r, 0.0, 0.0]] for r in distances]), None, [0, 1]


# -- what is evaluated
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", mark_slow(FRAMEWORKS, ["numpy", "torch"]))
def test_results_do_not_depend_on_it(frame, backend):
    direct = DeepPot(MODEL, backend=backend, evaluation="direct")
    spectral_ = DeepPot(MODEL, backend=backend, evaluation="spectral")
    assert direct.evaluation == "direct"
    assert isinstance(spectral_.evaluation, int)
    for name, actual, expected in zip(
        NAMES, spectral_.eval(*frame, atomic=True), direct.eval(*frame, atomic=True), strict=True
    ):
        assert_close(actual, expected, "spectral", what=name)
    assert_close(spectral_.eval_descriptor(*frame), direct.eval_descriptor(*frame), "spectral")
    assert direct.outside == spectral_.outside == 0


def test_expansions_are_the_default():
    assert (
        DeepPot(MODEL).evaluation
        == DeepPot(MODEL, evaluation="auto").evaluation
        == DeepPot(MODEL, evaluation="spectral").evaluation
    )


@pytest.mark.parametrize("asked", ["direct", "spectral", "auto"])
def test_the_input_of_the_model_says_and_the_argument_overrules(saved, asked):
    path = saved(definition={"descriptor": {"type": "se_e2_a", "evaluation": asked}})
    assert (DeepPot(path).evaluation == "direct") == (asked == "direct")
    assert DeepPot(path, evaluation="direct").evaluation == "direct"
    assert isinstance(DeepPot(path, evaluation="auto").evaluation, int)


@pytest.mark.parametrize(("given", "message"), [("spektral", "Did you mean"), ("nets", ""), (64, ""), (True, "")])
def test_unknown_values_name_the_accepted_ones(given, message):
    with pytest.raises(InputError, match=f"evaluation is {given!r}; accepted: auto, direct, spectral.*{message}"):
        DeepPot(MODEL, evaluation=given)


def test_the_shortest_distance_of_the_data_sets_the_domain(saved):
    """The longer it is, the fewer terms are needed."""
    assert (
        DeepPot(saved(min_nbor_dist=1.5)).evaluation
        < DeepPot(saved(min_nbor_dist=0.8)).evaluation
        < DeepPot(MODEL).evaluation
    )


# -- where there is no expansion
# ----------------------------------------------------------------------------------------


def test_no_expansion_is_told_to_those_who_asked(saved, frame):
    path = saved(descriptor={"activation_function": "relu"})
    with pytest.warns(
        ExpansionWarning, match="evaluated directly: the embedding nets need more than 512 terms"
    ) as caught:
        asked = DeepPot(path, evaluation="spectral")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    silent = DeepPot(path)  # a warning is an error in tests
    assert asked.evaluation == silent.evaluation == "direct"
    for one, other in zip(asked.eval(*frame), DeepPot(path, evaluation="direct").eval(*frame), strict=True):
        assert np.array_equal(one, other)


# -- atoms nearer than the expansions reach
# -----------------------------------------------------------------------------


OUTSIDE = [(backend, *row) for backend in FRAMEWORKS for row in ((None, UNKNOWN_DISTANCE), (1.5, 1.5 * MARGIN))]


@pytest.mark.parametrize(
    ("backend", "closest", "start"),
    mark_slow(OUTSIDE, [row for row in OUTSIDE if row[0] != "tf" or row[1] is None]),
)
def test_pairs_outside_are_counted_and_told_once(saved, backend, closest, start):
    potential = DeepPot(saved(min_nbor_dist=closest), backend=backend)
    potential.eval(*dimer(1.001 * start, 2.0))
    assert potential.outside == 0
    with pytest.warns(
        ExpansionWarning, match=rf"{0.9 * start:.3f} Angstrom apart, .* \({start:.3f}\): the nets"
    ) as caught:
        potential.eval(*dimer(0.9 * start, 2.0))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    first = potential.outside
    assert first > 0
    potential.eval(*dimer(0.9 * start, 0.8 * start, 2.0))  # a second warning would be an error
    assert potential.outside == 3 * first
    potential.eval_descriptor(*dimer(0.9 * start))
    assert potential.outside == 4 * first


def test_direct_evaluation_reaches_everywhere():
    potential = DeepPot(MODEL, evaluation="direct")
    potential.eval(*dimer(0.01))
    assert potential.outside == 0


def test_virtual_atoms_are_nowhere():
    potential = DeepPot(MODEL)
    coord, cell, *_ = dimer(0.1)
    potential.eval(coord, cell, [0, -1])
    assert potential.outside == 0


@pytest.mark.parametrize(
    ("backend", "closest"),
    mark_slow(product(FRAMEWORKS, [None, 2.0]), product(["numpy", "torch"], [None, 2.0])),
)
def test_the_nets_are_evaluated_outside_of_the_domain(saved, backend, closest):
    """Some blocks have a nearer pair, some not; all are those of the nets."""
    path = saved(min_nbor_dist=closest)
    frames = dimer(0.1, 0.3, 0.49, 1.3, 1.7, 2.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExpansionWarning)
        both = (DeepPot(path, backend=backend, auto_batch_size=2, **how) for how in ({}, {"evaluation": "direct"}))
        for name, actual, expected in zip(NAMES, *(each.eval(*frames, atomic=True) for each in both), strict=True):
            assert_close(actual, expected, "spectral", what=name)

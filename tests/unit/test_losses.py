"""The ener loss against its formulas, and its options."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import TOLERANCES, assert_close

from deepmd.array_model.neighbours import FIELDS, Neighbours
from deepmd.host import plain
from deepmd.losses import TERMS, EnerLoss, huber, total

RNG = np.random.default_rng(6)
FRAME = np.array([0, 1, 0, 1, 1])
NATOMS = np.array([2.0, 3.0])
SIZES = {"energy": (2,), "force": (5, 3), "virial": (2, 9), "atom_energy": (5,)}
PREDICTION = {name: RNG.normal(size=size) for name, size in SIZES.items()}
LABEL = {name.replace("energy", "ener") if "_" in name else name: RNG.normal(size=size) for name, size in SIZES.items()}
LABEL["atom_pref"] = RNG.uniform(0.0, 2.0, (5, 1)) * np.ones(3)
LABEL["atom_ener_coeff"] = RNG.uniform(0.5, 1.5, 5)
ON = {f"start_pref_{term}": 1.0 for term in TERMS}

DE, DV = LABEL["energy"] - PREDICTION["energy"], LABEL["virial"] - PREDICTION["virial"]
DF, DA = LABEL["force"] - PREDICTION["force"], LABEL["atom_ener"] - PREDICTION["atom_energy"]
PREF, N, N1 = LABEL["atom_pref"], NATOMS, NATOMS[:, None]
NORM, SIZE = np.sqrt((DF**2).sum(axis=1)), np.sqrt((LABEL["force"] ** 2).sum(axis=1, keepdims=True))


def slow_huber(x, delta):
    return np.array([0.5 * v * v if abs(v) < delta else delta * (abs(v) - 0.5 * delta) for v in x.ravel()]).reshape(
        x.shape
    )


MSE = {"e": DE**2 / N, "f": DF**2, "v": DV**2 / N1, "ae": DA**2, "pf": PREF * DF**2}
MAE = {"e": abs(DE / N), "f": abs(DF), "v": abs(DV / N1), "ae": abs(DA), "pf": PREF * abs(DF)}
CASES = {
    # name: (options, contribution of each term before the mean)
    "mse": ({}, MSE),
    "mae": ({"loss_func": "mae"}, MAE),
    "mae of norms": ({"loss_func": "mae", "f_use_norm": True}, {**MAE, "f": NORM}),
    "intensive": ({"intensive_ener_virial": True}, {**MSE, "e": (DE / N) ** 2, "v": (DV / N1) ** 2}),
    "relative": ({"relative_f": 0.5}, {**MSE, "f": (DF / (SIZE + 0.5)) ** 2}),
    "huber": (
        {"use_huber": True, "huber_delta": 0.3},
        {
            "e": slow_huber(DE / N, 0.3),
            "f": slow_huber(DF, 0.3),
            "v": slow_huber(DV / N1, 0.3),
            "ae": slow_huber(DA, 0.3),
            "pf": MSE["pf"],
        },
    ),
    "three deltas, norms": (
        {"use_huber": True, "huber_delta": (0.1, 0.6, 0.2), "f_use_norm": True},
        {
            "e": slow_huber(DE / N, 0.1),
            "f": slow_huber(NORM, 0.6),
            "v": slow_huber(DV / N1, 0.2),
            "ae": slow_huber(DA, 0.1),
            "pf": MSE["pf"],
        },
    ),
    "coefficients": (
        {"enable_atom_ener_coeff": True},
        {
            **MSE,
            "e": (LABEL["energy"] - np.bincount(FRAME, LABEL["atom_ener_coeff"] * PREDICTION["atom_energy"])) ** 2 / N,
        },
    ),
}


def loss_of(loss):
    def function(prediction, label, frame_N, natoms_F, *, xp):
        pairs = Neighbours(**{**dict.fromkeys(FIELDS), "frame_N": frame_N})
        errors = loss.errors(prediction, label, pairs, natoms_F, xp=xp)
        return errors, total(errors, loss.prefactors(0.5))

    return function


@pytest.mark.parametrize("name", CASES)
def test_equals_formulas(run, name):
    options, expected = CASES[name]
    loss = EnerLoss(**{**ON, **options})
    errors, sum_of_all = run(loss_of(loss), PREDICTION, LABEL, FRAME, NATOMS)
    assert tuple(errors) == tuple(TERMS)
    for term in TERMS:
        assert_close(errors[term]["loss"], expected[term].mean(), "function", what=term)
    weights = loss.prefactors(0.5)
    assert_close(sum_of_all, sum(weights[term] * expected[term].mean() for term in TERMS), "function")


def test_shown_are_plain_means_per_atom(run):
    errors, _ = run(loss_of(EnerLoss(**ON)), PREDICTION, LABEL, FRAME, NATOMS)
    shown = {"e": (DE / N) ** 2, "f": DF**2, "v": (DV / N1) ** 2, "ae": DA**2, "pf": PREF * DF**2}
    for term in TERMS:
        assert_close(errors[term]["shown"], shown[term].mean(), "function", what=term)


def test_only_terms_with_a_prefactor(run):
    loss = EnerLoss(start_pref_v=0.0, limit_pref_v=0.0)
    assert tuple(loss.terms()) == ("e", "f")
    assert tuple(loss.labels()) == ("energy", "force")
    few = {name: PREDICTION[name] for name in ("energy", "force")}
    errors, _ = run(loss_of(loss), few, {name: LABEL[name] for name in few}, FRAME, NATOMS)
    assert set(errors) == {"e", "f"}


@pytest.mark.parametrize(
    ("available", "default", "expected"),
    [
        ({"force", "atom_pref"}, False, {"f": True, "pf": True}),
        ({"force"}, False, {"f": True, "pf": False}),
        ({"force"}, True, {"f": True, "pf": True}),
        ({"atom_pref"}, True, {"f": False, "pf": False}),
    ],
)
def test_weighted_forces_need_their_weights(available, default, expected):
    """Without `atom_pref` in the data there is no such term, unless `use_default_pf` makes the weights one."""
    loss = EnerLoss(start_pref_e=0.0, limit_pref_e=0.0, start_pref_pf=1.0, use_default_pf=default)
    assert loss.find_labelled(frozenset(available)) == expected


@given(st.floats(0.0, 1.0))
def test_prefactors_go_from_start_to_limit(ratio):
    loss = EnerLoss(start_pref_e=2.0, limit_pref_e=4.0, start_pref_f=10.0, limit_pref_f=0.0)
    prefactors = loss.prefactors(ratio)
    assert abs(prefactors["e"] - (4.0 - 2.0 * ratio)) < TOLERANCES["float64"]["function"]
    assert abs(prefactors["f"] - 10.0 * ratio) < TOLERANCES["float64"]["function"] * 10.0


@given(st.floats(1e-3, 10.0))
def test_huber_is_continuous_with_its_slope(delta):
    step = 1e-6 * delta
    below, at, above = huber(delta + step * np.array([-1.0, 0.0, 1.0]), delta, xp=plain)
    assert abs((above - below) / (2.0 * step) - delta) < 1e-5 * delta
    assert abs(above - 2.0 * at + below) <= 1.1 * step * step + 1e-14 * delta * delta


def test_norm_of_a_perfect_force_has_a_gradient():
    """The square root must not divide by zero when label and prediction agree."""
    from autograd import grad

    from deepmd.adapters.numpy.namespace import differentiable

    loss = EnerLoss(start_pref_e=0.0, limit_pref_e=0.0, loss_func="mae", f_use_norm=True)

    def value(force):
        return total(
            loss.errors({"force": force}, {"force": LABEL["force"]}, None, NATOMS, xp=differentiable), {"f": 1.0}
        )

    assert np.all(np.isfinite(grad(value)(LABEL["force"])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_pref_e": -1.0}, "must not be negative"),
        ({"huber_delta": 0.0}, "must be positive"),
        ({"loss_func": "rmse"}, "mse, mae"),
        ({"f_use_norm": True}, "needs use_huber or loss_func mae"),
        ({"start_pref_e": 0.0, "limit_pref_e": 0.0, "start_pref_f": 0.0, "limit_pref_f": 0.0}, "nothing to train on"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        EnerLoss(**options)

"""The losses of other outputs than energies against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.neighbours import FIELDS, Neighbours
from deepmd.array_model.outputs import Output
from deepmd.losses import DosLoss, PropertyLoss, Target, TensorLoss, total

FRAME, TYPE = np.array([0, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
NATOMS = np.array([2.0, 3.0])
WIDTH = 3
WITHOUT = {"all atoms": (), "atoms of one type": (0,)}
OUTPUTS = {
    "dipole": Output("dipole", WIDTH, label="dipole", atomic_label="atom_dipole"),
    "dos": Output("dos", WIDTH, label="dos", atomic_label="atom_dos"),
    "gap": Output("property", WIDTH, label="gap", atomic_label="atom_gap"),
    "mean gap": Output("property", WIDTH, intensive=True, label="gap", atomic_label="atom_gap"),
}
DRAWN = {
    side: {"total": rng.normal(size=(2, WIDTH)), "atomic": rng.normal(size=(5, WIDTH))}
    for side, rng in (("prediction", np.random.default_rng(8)), ("label", np.random.default_rng(9)))
}
DELTA_Fd, DELTA_Nd = (DRAWN["label"][part] - DRAWN["prediction"][part] for part in ("total", "atomic"))
WEIGHT = np.array([0.3, 1.7, 2.5, 0.8, 1.1])
DEVIATION = (0.4, 2.0, 5.0)


def errors_of(run, loss, target):
    """Errors of the drawn prediction, and the loss."""
    output, suited = target.output, loss.with_target(target)
    prediction = dict(zip((output.name, output.atomic), DRAWN["prediction"].values(), strict=True))
    label = dict(zip((output.label, output.atomic_label), DRAWN["label"].values(), strict=True))

    def function(prediction, label, frame_N, type_N, natoms_F, *, xp):
        pairs = Neighbours(**{**dict.fromkeys(FIELDS), "type_N": type_N, "frame_N": frame_N})
        errors = suited.errors(prediction, label, pairs, natoms_F, xp=xp)
        return errors, total(errors, suited.prefactors(1.0))

    return run(function, prediction, {**label, "atomic_weight": WEIGHT}, FRAME, TYPE, NATOMS)


def mean_square(delta_Nd, without):
    """Mean square of atomic differences over the atoms that have an output."""
    return np.mean(delta_Nd[~np.isin(TYPE, without)] ** 2)


def weighted_square(delta_Fd, without):
    """Mean square of totals, frames weighted by their atoms that have an output, and the same per such atom."""
    atoms = np.array([np.sum((frame == FRAME) & ~np.isin(TYPE, without)) for frame in range(2)])
    square = sum(n * np.sum(row**2) for n, row in zip(atoms, delta_Fd, strict=True)) / (WIDTH * atoms.sum())
    return square, square / atoms.mean() ** 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT)
def test_tensor(run, without, weighted):
    loss = TensorLoss(pref=0.7, pref_atomic=1.9, enable_atomic_weight=weighted)
    errors, value = errors_of(run, loss, Target(OUTPUTS["dipole"], without))
    local = mean_square(DELTA_Nd * (WEIGHT[:, None] if weighted else 1.0), without)
    whole, shown = weighted_square(DELTA_Fd, without)
    assert_close(errors["local"]["loss"], local, "function")
    assert_close(errors["local"]["shown"], local, "function")
    assert_close(errors["global"]["loss"], whole, "function")
    assert_close(errors["global"]["shown"], shown, "function")
    assert_close(value, 0.7 * whole + 1.9 * local, "function")


def test_a_batch_without_output_counts_as_nothing(run):
    loss = TensorLoss(pref=0.7, pref_atomic=1.9)
    errors, value = errors_of(run, loss, Target(OUTPUTS["dipole"], without=(0, 1)))
    assert [float(each) for term in errors.values() for each in term.values()] == [0.0] * 4
    assert float(value) == 0.0


@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT)
def test_dos(run, without):
    prefactors = {"dos": 0.3, "cdf": 1.1, "ados": 2.0, "acdf": 0.6}
    loss = DosLoss(
        **{f"{side}_pref_{term}": value for term, value in prefactors.items() for side in ("start", "limit")}
    )
    errors, value = errors_of(run, loss, Target(OUTPUTS["dos"], without))
    sums_Fd, sums_Nd = np.cumsum(DELTA_Fd, axis=1), np.cumsum(DELTA_Nd, axis=1)
    expected = {
        "dos": weighted_square(DELTA_Fd, without),
        "cdf": weighted_square(sums_Fd, without),
        "ados": (mean_square(DELTA_Nd, without),) * 2,
        "acdf": (mean_square(sums_Nd, without),) * 2,
    }
    assert errors.keys() == expected.keys()
    for term, (contribution, shown) in expected.items():
        assert_close(errors[term]["loss"], contribution, "function", what=term)
        assert_close(errors[term]["shown"], shown, "function", what=term)
    assert_close(value, sum(prefactors[term] * each for term, (each, _) in expected.items()), "function")


def smooth(x, beta):
    size = np.abs(x)
    return np.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta)


BETA = 0.6
MEASURED = {
    "mae": np.abs,
    "mse": np.square,
    "rmse": np.square,
    "smooth_mae": lambda x: smooth(x, BETA),
}
"""What each measure sums or averages; the root of `rmse` is taken where the curve is written."""


@pytest.mark.parametrize("loss_func", MEASURED)
@pytest.mark.parametrize("name", ["gap", "mean gap"])
def test_property(run, name, loss_func):
    loss = PropertyLoss(loss_func=loss_func, metric=tuple(MEASURED), beta=BETA)
    errors, value = errors_of(run, loss, Target(OUTPUTS[name], deviation=DEVIATION))
    delta_Fd = DELTA_Fd if name == "mean gap" else DELTA_Fd / NATOMS[:, None]
    scaled_Fd = delta_Fd / np.array(DEVIATION)
    each = MEASURED[loss_func](scaled_Fd)
    expected = np.sqrt(each.mean()) if loss_func == "rmse" else each.sum()
    assert_close(value, expected, "function")
    for metric, measure in MEASURED.items():
        assert_close(errors[metric]["shown"], measure(delta_Fd).mean(), "function", what=metric)

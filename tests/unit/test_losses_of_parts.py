"""Sums of a loss over the parts of a batch, as several processes add them up, give the loss of the whole batch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.neighbours import FIELDS, Neighbours
from deepmd.array_model.outputs import Output
from deepmd.host import plain
from deepmd.losses import TERMS, DosLoss, EnerLoss, PropertyLoss, Target, TensorLoss

FRAME, TYPE = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 1])
PARTS = ((slice(0, 2), slice(0, 1)), (slice(2, 5), slice(1, 2)))
"""Atoms and frames of each part."""
ALL_ON = {f"start_pref_{term}": 1.0 for term in TERMS}
GAP = Output("property", 3, label="gap", atomic_label="atom_gap")
LOSSES = {
    "mse": EnerLoss(**ALL_ON),
    "mae of norms": EnerLoss(**ALL_ON, loss_func="mae", f_use_norm=True),
    "huber": EnerLoss(**ALL_ON, use_huber=True, huber_delta=0.3, relative_f=0.5),
    "coefficients": EnerLoss(**ALL_ON, enable_atom_ener_coeff=True, intensive_ener_virial=True),
    "tensor": TensorLoss(pref=0.7, pref_atomic=1.9, enable_atomic_weight=True).with_target(
        Target(Output("dipole", 3, label="dipole", atomic_label="atom_dipole"), without=(0,))
    ),
    "dos": DosLoss(start_pref_dos=1.0, start_pref_cdf=1.0, start_pref_acdf=1.0).with_target(
        Target(Output("dos", 3, label="dos", atomic_label="atom_dos"))
    ),
    **{
        f"property, {measure}": PropertyLoss(loss_func=measure, metric=("mae", "rmse")).with_target(Target(GAP))
        for measure in ("smooth_mae", "mse", "rmse")
    },
}


def errors_of(loss, part, total):
    """Errors of a part of the batch; `total` replaces the sums over the batch."""
    rng = np.random.default_rng(8)

    def drawn(label):
        values = rng.uniform(0.5, 1.5, (5 if label.per_atom else 2, *label.sizes))
        return values[part[0] if label.per_atom else part[1]]

    terms = loss.every_term().values()
    prediction = {term.output: drawn(term.values) for term in terms}
    label = {name: drawn(each) for name, each in loss.labels().items()}
    frames = FRAME[part[0]] - FRAME[part[0]][0]
    neighbours = Neighbours(**{**dict.fromkeys(FIELDS), "frame_N": frames, "type_N": TYPE[part[0]]})

    def summed(x, **axis):
        return plain.sum(x, **axis) if axis else total(plain.sum(x))

    xp = SimpleNamespace(**{**vars(plain), "sum": summed})
    return loss.errors(prediction, label, neighbours, np.array([2.0, 3.0])[part[1]], xp=xp)


@pytest.mark.parametrize("name", LOSSES)
def test_parts_make_the_whole(name):
    """Every sum over the batch is `xp.sum` without axis, and what it adds up depends on no other sum."""
    loss = LOSSES[name]
    whole = errors_of(loss, (slice(None), slice(None)), lambda x: x)
    sums = []
    for rows in PARTS:
        own = []

        def note(x, own=own):
            own.append(x)
            return x

        errors_of(loss, rows, note)
        sums.append(own)
    for rows in PARTS:
        totals = iter(np.sum(sums, axis=0))
        errors = errors_of(loss, rows, lambda x, totals=totals: next(totals))
        for term, values in whole.items():
            for kind in ("loss", "shown"):
                assert_close(errors[term][kind], values[kind], "function", what=f"{term}, {kind}")

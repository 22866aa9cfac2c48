"""Gradients of the loss of models that pass messages, with respect to each parameter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from consistency.gradients import OFF, Realistic, example_of, gradients_by
from consistency.small_models import DPA2, DPA3
from support import TF_LATER

from deepmd.losses import EnerLoss


# slow: TensorFlow is compared with torch by tests/train/test_dpa_training.py
@pytest.mark.parametrize("backend", TF_LATER)
@pytest.mark.parametrize(
    "descriptor",
    [
        pytest.param(DPA2, id="dpa2"),
        pytest.param(DPA3, id="dpa3"),
        pytest.param(replace(DPA3, add_chg_spin_ebd=True), id="charge and spin", marks=pytest.mark.slow),
    ],
)
def test_gradients(backend, descriptor):
    loss = EnerLoss(**{**OFF, "start_pref_e": 0.5, "start_pref_f": 2.0, "start_pref_v": 0.3})
    example = example_of(descriptor, parameters=Realistic.parameters)
    example.compare(loss, *gradients_by(backend, example, loss))

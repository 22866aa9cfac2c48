"""Gradients of the loss of models that pass messages, with respect to each parameter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gradients import DIRECT, OFF, Example, Realistic, gradients_by
from small_models import DPA2, DPA3

from deepmd.losses import EnerLoss


@pytest.mark.parametrize("backend", ["torch", "tf"])
@pytest.mark.parametrize(
    "descriptor", [DPA2, DPA3, replace(DPA3, add_chg_spin_ebd=True)], ids=["dpa2", "dpa3", "charge and spin"]
)
def test_gradients(backend, descriptor):
    loss = EnerLoss(**{**OFF, "start_pref_e": 0.5, "start_pref_f": 2.0, "start_pref_v": 0.3})
    example = Example(DIRECT, descriptor, Realistic.parameters)
    example.compare(loss, *gradients_by(backend, example, loss))

"""Spectral evaluation has all the physics of direct evaluation, and its numbers, on every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
from consistency.suites import DescriptorAgreement, DescriptorConformance

from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.plan.plans import domain_start
from deepmd.testing import variants
from deepmd.testing.conformance import REALISTIC

BASE = SeE2A(
    sel=(24, 24), rcut=3.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2, type_one_side=True, evaluation="spectral"
)
TWO_SIDED = replace(BASE, type_one_side=False, resnet_dt=True)


class TestSpectral(DescriptorConformance):
    deviations = REALISTIC
    configs = variants(BASE, exclude_types=[((0, 1),)], sel=[(24, 0)], precision=["float32"])

    def test_is_an_expansion(self, subject):
        """What is tested is what was asked for, and holds coefficients only."""
        (expansion,) = subject.plan
        assert expansion.terms % 8 == 0
        assert ("coefficients" in expansion.tables) == self.stored
        assert ("nodes" in expansion.tables) != self.stored
        assert domain_start(subject.plan) < subject.closest


class TestTwoSided(DescriptorConformance):
    on_tensorflow = ("base",)
    deviations = REALISTIC
    configs = variants(TWO_SIDED, exclude_types=[((0, 0),)], env_protection=[0.1])


class TestThreeTypes(DescriptorConformance):
    deviations = REALISTIC
    type_map = ("O", "H", "C")
    configs = {"base": replace(TWO_SIDED, sel=(16, 16, 16), exclude_types=((0, 2), (1, 1)))}


class TestFollowing(TestSpectral):
    """Expansions whose coefficients follow the nets, as in training."""

    stored = False
    on_tensorflow = ("base",)
    configs = {**variants(BASE, precision=["float32"]), "two-sided": TWO_SIDED}


class TestOptions(DescriptorAgreement):
    deviations = REALISTIC
    configs = variants(
        BASE,
        activation_function=["gelu", "silu", "softplus", "sigmoid", "linear"],
        neuron=[(3,), (1, 2, 4, 4)],
        axis_neuron=[4],
        set_davg_zero=[True],
        rcut_smth=[0.0],
        sel=[(2, 3)],
    )


@pytest.mark.parametrize("name", ["relu", "relu6", "silut"])
def test_what_is_not_smooth_has_no_expansion(name):
    """So that a suite over them would fail rather than test direct evaluation."""
    config = replace(BASE, activation_function=name)

    class Kinked(DescriptorAgreement):
        configs = {name: config}

    subject = Kinked.subject_of(name, "numpy")
    with pytest.raises(AssertionError, match="more than 512 terms"):
        _ = subject.plan

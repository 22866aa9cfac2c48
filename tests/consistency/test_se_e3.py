"""se_e3 in all its options, on every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deepmd.array_model.descriptors.se_e3 import SeE3
from deepmd.array_model.errors import InputError
from deepmd.host import plain
from deepmd.testing import DescriptorAgreement, DescriptorConformance, variants
from deepmd.testing.conformance import REALISTIC
from deepmd.testing.samples import Subject

BASE = SeE3(sel=(8, 8), rcut=3.0, rcut_smth=0.5, neuron=(2, 4))


class TestSeE3(DescriptorConformance):
    configs = variants(replace(BASE, sel=(24, 24)), exclude_types=[((0, 1),)])


class TestThreeTypes(DescriptorAgreement):
    type_map = ("O", "H", "C")
    configs = {"base": replace(BASE, sel=(6, 0, 6), exclude_types=((0, 2), (1, 1)))}


class TestOptions(DescriptorAgreement):
    configs = variants(BASE, resnet_dt=[True], env_protection=[0.1], set_davg_zero=[True], activation_function=["silu"], precision=["float32"])


class TestHalf(DescriptorAgreement):
    """Its angles are products of two rows, which small deviations blow up beyond the digits that half precision has."""

    deviations = REALISTIC
    configs = {"half": replace(BASE, precision="half")}


SPECTRAL = replace(BASE, evaluation="spectral")


class TestSpectral(DescriptorConformance):
    deviations = (0.4, 0.6)
    configs = variants(replace(SPECTRAL, sel=(24, 24)), exclude_types=[((0, 1),)])


class TestSpectralOptions(DescriptorAgreement):
    deviations = (0.4, 0.6)
    type_map = ("O", "H", "C")
    configs = {
        "three": replace(SPECTRAL, sel=(6, 0, 6), exclude_types=((0, 2), (1, 1)), resnet_dt=True),
        "float32": replace(SPECTRAL, sel=(6, 6, 6), precision="float32"),
    }


class TestFollowing(TestSpectralOptions):
    """Expansions whose coefficients follow the nets, as in training."""

    stored = False
    configs = {"three": TestSpectralOptions.configs["three"]}


def test_small_nets_are_cheaper_than_their_expansions():
    """Left the choice, only wide ones are expanded."""
    for neuron, expanded in (((2, 4), False), ((10, 20, 40), True)):
        subject = TestSpectral.subject_of("base", "numpy")
        model = replace(subject.model, descriptor=replace(BASE, neuron=neuron))
        model, _, reason = model.expanded(TestSpectral.parameters(model), subject.closest, stored=True, xp=plain)
        assert isinstance(model.evaluation, int) == expanded
        assert ("cost less than" in reason) != expanded


def test_beyond_the_domain_forces_are_derivatives():
    """Where atoms are nearer than the expansion reaches, it continues with equal value and slope."""
    within = TestSpectral.subject_of("base", "numpy")
    model, params, _ = within.model.expanded(within.params, 1.6 * within.closest, stored=True, xp=plain)
    assert model.domain_start(params) > within.closest
    TestSpectral().test_forces(Subject(model, params, "numpy"))


@pytest.mark.parametrize("name", ["davg", "dstd"])
def test_statistics_that_differ_between_slots_are_refused(name):
    """One empty slot stands for all those that no atom of a batch fills."""
    model, params = TestSeE3.subject_of("base", "numpy").model, TestSeE3.subject_of("base", "numpy").params["descriptor"]
    tree = model.descriptor.serialize(params, ("O", "H"))
    model.descriptor.deserialize(tree)
    tree["@variables"] = {**tree["@variables"], name: params[name] + (params[name][:1] * 0.0 + 1.0).cumsum(axis=1)}
    with pytest.raises(InputError, match=f"{name} that differs between slots"):
        model.descriptor.deserialize(tree)

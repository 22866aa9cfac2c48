"""se_e3 in all its options, on every backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from consistency.suites import DescriptorAgreement, DescriptorConformance
from support import options

from deepmd.array_model.descriptors.se_e3 import SeE3
from deepmd.array_model.errors import InputError
from deepmd.array_model.neighbours import spans
from deepmd.array_model.networks import apply_net
from deepmd.host import plain
from deepmd.kit.layouts.descriptors import descriptor_from_dict, descriptor_to_dict
from deepmd.plan.expansions import choose_plan, expand_nets
from deepmd.plan.plans import domain_start
from deepmd.testing import variants
from deepmd.testing.conformance import REALISTIC
from deepmd.testing.samples import Subject
from deepmd.testing.tolerances import assert_close

BASE = SeE3(sel=(8, 8), rcut=3.0, rcut_smth=0.5, neuron=(2, 4))


class TestSeE3(DescriptorConformance):
    on_tensorflow = ("base",)
    configs = variants(replace(BASE, sel=(24, 24)), exclude_types=[((0, 1),)])


class TestThreeTypes(DescriptorAgreement):
    type_map = ("O", "H", "C")
    configs = {"base": replace(BASE, sel=(6, 0, 6), exclude_types=((0, 2), (1, 1)))}


class TestOptions(DescriptorAgreement):
    configs = variants(
        BASE,
        resnet_dt=[True],
        env_protection=[0.1],
        set_davg_zero=[True],
        activation_function=["silu"],
        precision=["float32"],
    )


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
    on_tensorflow = ("three",)
    configs = {"three": TestSpectralOptions.configs["three"]}


def test_small_nets_are_cheaper_than_their_expansions():
    """Left the choice, only wide ones are expanded."""
    for neuron, pays in (((2, 4), False), ((10, 20, 40), True)):
        subject = TestSpectral.subject_of("base", "numpy")
        model = replace(options(subject.model), descriptor=replace(BASE, neuron=neuron))
        plan, reason = choose_plan(model, TestSpectral.parameters(model), subject.closest, stored=True)
        assert any(plan) == pays
        assert ("cost less than" in reason) != pays


def test_beyond_the_domain_forces_are_derivatives():
    """Where atoms are nearer than the expansion reaches, it continues with equal value and slope."""
    within = TestSpectral.subject_of("base", "numpy")
    plan, _ = choose_plan(within.model, within.params, 1.6 * within.closest, stored=True)
    assert domain_start(plan) > within.closest
    TestSpectral().test_forces(Subject(within.model, within.params, "numpy", chosen=plan))


@pytest.mark.parametrize("evaluation", ["direct", "spectral"])
@pytest.mark.parametrize("exclude_types", [(), ((0, 1),)])
def test_slots_are_those_of_the_formula(evaluation, exclude_types):
    """Means of directions make empty slots count: sum over all pairs of slots (docs/theory/sectioned.md#se_e3)."""
    descriptor = replace(BASE, sel=(40, 50), exclude_types=exclude_types, evaluation=evaluation)
    given = TestSpectral.subject_of("base", "numpy")
    params = TestSpectral.parameters(replace(options(given.model), descriptor=descriptor))["descriptor"]
    params["davg"] = params["davg"] + np.asarray([[[0.0, 0.1, -0.2, 0.3]], [[0.0, -0.1, 0.3, 0.2]]])
    pairs = (
        replace(given, model=replace(options(given.model), descriptor=descriptor))
        .pack(given.systems["one_frame"])
        .neighbours
    )
    assert all(width < sel for width, sel in zip(pairs.widths, descriptor.slots, strict=True))
    expansion, _ = expand_nets(descriptor, params, given.closest, stored=True)
    assert (expansion is not None) == (evaluation == "spectral")

    raw = np.split(descriptor.raw_rows(pairs, xp=plain)[0], [pairs.widths[0]], axis=1)
    sections = []
    for rows, (start, stop) in zip(raw, spans(descriptor.slots), strict=True):
        full = np.concatenate([rows, np.zeros((len(rows), stop - start - rows.shape[1], 4))], axis=1)
        section = ((full - params["davg"][pairs.type_N, start:stop]) / params["dstd"][pairs.type_N, start:stop])[
            :, :, 1:
        ]
        for a, b in [both for pair in exclude_types for both in (pair, pair[::-1])]:
            if b == len(sections):
                hidden = (pairs.type_N == a)[:, None] & pairs.mask_NM[:, slice(*spans(pairs.widths)[b])]
                section[:, : rows.shape[1]][hidden] = 0.0
        sections.append(section)
    expected = 0.0
    for first, second in ((0, 0), (0, 1), (1, 1)):
        t = np.einsum("njc,nkc->njk", sections[first], sections[second])
        values = apply_net(descriptor.net(), params["embeddings"][first + 2 * second], t[..., None], xp=plain)
        expected = expected + np.einsum("njk,njkd->nd", t, values) / (
            descriptor.slots[first] * descriptor.slots[second]
        )
    actual = descriptor.apply(params, pairs, expansion, xp=plain).invariant_ND
    assert_close(actual, expected, "spectral" if evaluation == "spectral" else "descriptor")


@pytest.mark.parametrize("name", ["davg", "dstd"])
def test_statistics_that_differ_between_slots_are_refused(name):
    """One empty slot stands for all those that no atom of a batch fills."""
    model, params = (
        TestSeE3.subject_of("base", "numpy").model,
        TestSeE3.subject_of("base", "numpy").params["descriptor"],
    )
    tree = descriptor_to_dict(options(model).descriptor, params, ("O", "H"))
    descriptor_from_dict(tree)
    tree["@variables"] = {**tree["@variables"], name: params[name] + (params[name][:1] * 0.0 + 1.0).cumsum(axis=1)}
    with pytest.raises(InputError, match=f"{name} that differs between slots"):
        descriptor_from_dict(tree)

"""se_e2_r in all its options, on every backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from consistency.suites import DescriptorAgreement, DescriptorConformance

from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.host import plain
from deepmd.kit.layouts.descriptors import descriptor_from_dict, descriptor_to_dict
from deepmd.testing import variants
from deepmd.testing.conformance import REALISTIC

BASE = SeE2R(sel=(24, 24), rcut=3.0, rcut_smth=0.5, neuron=(2, 4))


class TestSeE2R(DescriptorConformance):
    configs = variants(BASE, exclude_types=[((0, 1),)], sel=[(2, 3)], type_one_side=[False])


class TestThreeTypes(DescriptorAgreement):
    type_map = ("O", "H", "C")
    on_tensorflow = ("base",)
    configs = variants(replace(BASE, sel=(16, 0, 16), exclude_types=((0, 2), (1, 1))), type_one_side=[False])


class TestOptions(DescriptorAgreement):
    configs = variants(
        BASE,
        resnet_dt=[True],
        env_protection=[0.1],
        set_davg_zero=[True],
        activation_function=["silu"],
        precision=["float32", "half"],
    )


class TestSpectral(DescriptorAgreement):
    deviations = REALISTIC
    configs = {
        **variants(
            replace(BASE, evaluation="spectral"), exclude_types=[((0, 1),)], sel=[(2, 3)], precision=["float32"]
        ),
        "two-sided": replace(BASE, evaluation="spectral", type_one_side=False, exclude_types=((0, 1),)),
    }


class TestFollowing(TestSpectral):
    """Expansions whose coefficients follow the nets, as in training."""

    stored = False
    on_tensorflow = ("excluded",)
    configs = {"excluded": replace(BASE, evaluation="spectral", exclude_types=((0, 1),))}


@pytest.mark.parametrize("one_sided", [True, False])
def test_the_number_of_nets_counts(one_sided):
    """DeePMD-kit's torch stores `type_one_side` as given, but has one net for each neighbour type in either case."""
    descriptor, types = replace(BASE, type_one_side=one_sided), ("O", "H")
    params = descriptor.init(types, np.random.default_rng, xp=plain)
    tree = descriptor_to_dict(descriptor, params, types)
    assert tree["type_one_side"] is one_sided
    for said in (True, False):
        read, again = descriptor_from_dict({**tree, "type_one_side": said})
        assert read.type_one_side is one_sided
        assert len(again["embeddings"]) == (2 if one_sided else 4)

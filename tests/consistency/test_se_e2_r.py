"""se_e2_r in all its options, on every backend."""

from __future__ import annotations

from dataclasses import replace

from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.testing import DescriptorAgreement, DescriptorConformance, variants
from deepmd.testing.conformance import REALISTIC

BASE = SeE2R(sel=(24, 24), rcut=3.0, rcut_smth=0.5, neuron=(2, 4))


class TestSeE2R(DescriptorConformance):
    configs = variants(BASE, exclude_types=[((0, 1),)], sel=[(2, 3)])


class TestThreeTypes(DescriptorAgreement):
    type_map = ("O", "H", "C")
    configs = {"base": replace(BASE, sel=(16, 0, 16), exclude_types=((0, 2), (1, 1)))}


class TestOptions(DescriptorAgreement):
    configs = variants(
        BASE, resnet_dt=[True], env_protection=[0.1], set_davg_zero=[True], activation_function=["silu"], precision=["float32", "half"]
    )


class TestSpectral(DescriptorAgreement):
    deviations = REALISTIC
    configs = variants(replace(BASE, evaluation="spectral"), exclude_types=[((0, 1),)], sel=[(2, 3)], precision=["float32"])


class TestFollowing(TestSpectral):
    """Expansions whose coefficients follow the nets, as in training."""

    stored = False
    configs = {"excluded": replace(BASE, evaluation="spectral", exclude_types=((0, 1),))}

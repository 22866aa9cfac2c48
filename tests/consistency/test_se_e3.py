"""se_e3 in all its options, on every backend."""

from __future__ import annotations

from dataclasses import replace

from deepmd.array_model.descriptors.se_e3 import SeE3
from deepmd.testing import DescriptorAgreement, DescriptorConformance, variants
from deepmd.testing.conformance import REALISTIC

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

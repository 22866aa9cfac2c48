"""se_e3_tebd in all its options, on every backend."""

from __future__ import annotations

from dataclasses import replace

from consistency.suites import DescriptorAgreement, DescriptorConformance

from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.testing import variants

# without a mean of the rows: with one, results depend on the type of the first atom
BASE = SeE3Tebd(sel=48, rcut=3.0, rcut_smth=0.5, neuron=(2, 4), tebd_dim=3)
STRIP = replace(BASE, tebd_input_mode="strip", exclude_types=((0, 1),))


class TestSeE3Tebd(DescriptorConformance):
    configs = {"base": BASE, "strip": STRIP}


class TestThreeTypes(DescriptorAgreement):
    type_map = ("O", "H", "C")
    on_tensorflow = ("base",)
    configs = variants(
        replace(BASE, set_davg_zero=False, exclude_types=((0, 2), (1, 1))), sel=[4], use_econf_tebd=[True]
    )


class TestOptions(DescriptorAgreement):
    configs = {
        **variants(
            replace(STRIP, set_davg_zero=False, sel=(8, 8)),
            smooth=[False],
            concat_output_tebd=[False],
            resnet_dt=[True],
        ),
        **variants(
            BASE, use_tebd_bias=[True], env_protection=[0.1], activation_function=["silu"], precision=["float32"]
        ),
    }

"""se_atten and se_atten_v2 in all their options, on every backend."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from consistency.suites import DescriptorAgreement, DescriptorConformance

from deepmd import DeepPot
from deepmd.array_model.descriptors.se_atten import SeAtten, SeAttenV2
from deepmd.infer.inputs import OrderWarning
from deepmd.testing.conformance import REALISTIC

# without a mean of the rows: with one, results depend on the type of the first atom
BASE = SeAtten(sel=48, rcut=3.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2, tebd_dim=3, attn=3, attn_layer=0)
SMOOTH = replace(BASE, attn_layer=2, smooth_type_embedding=True)
MEAN = replace(SMOOTH, set_davg_zero=False)


class TestSeAtten(DescriptorConformance):
    configs = {
        "none": BASE,
        "smooth": SMOOTH,
        "strip": SeAttenV2(sel=48, rcut=3.0, neuron=(2, 4), axis_neuron=2, tebd_dim=3, attn=3, attn_layer=1),
    }


class TestMean(DescriptorAgreement):
    on_tensorflow = ("smooth",)
    type_map = ("O", "H", "C")
    configs = {
        "smooth": replace(MEAN, exclude_types=((0, 2), (1, 1))),
        "masked": replace(
            MEAN, smooth_type_embedding=False, exclude_types=((0, 1),), use_econf_tebd=True, type_one_side=True
        ),
        "overflow": replace(MEAN, sel=4, tebd_input_mode="strip", attn_layer=1),
    }


class TestOptions(DescriptorAgreement):
    configs = {
        "plain": replace(
            MEAN, attn_dotr=False, normalize=False, scaling_factor=2.0, concat_output_tebd=False, attn_layer=1
        ),
        "scaled": replace(MEAN, temperature=0.6, ln_eps=1e-3, use_tebd_bias=True, env_protection=0.1, attn_layer=1),
        "strip": replace(BASE, tebd_input_mode="strip", type_one_side=True, resnet_dt=True, activation_function="silu"),
        "float32": replace(SMOOTH, precision="float32"),
    }


EXPANDED = replace(BASE, evaluation="spectral")
STRIPPED = replace(EXPANDED, tebd_input_mode="strip", resnet_dt=True)


class TestSpectral(DescriptorConformance):
    deviations = REALISTIC
    configs = {
        "base": EXPANDED,
        "strip": STRIPPED,
        "v2": SeAttenV2(
            sel=48, rcut=3.0, neuron=(2, 4), axis_neuron=2, tebd_dim=3, attn_layer=0, evaluation="spectral"
        ),
    }


class TestSpectralOptions(DescriptorAgreement):
    type_map = ("O", "H", "C")
    deviations = REALISTIC
    configs = {
        "mean": replace(EXPANDED, set_davg_zero=False, exclude_types=((0, 2), (1, 1))),
        "one-sided": replace(
            EXPANDED, set_davg_zero=False, type_one_side=True, use_econf_tebd=True, exclude_types=((0, 1),)
        ),
        "strip": replace(STRIPPED, set_davg_zero=False, type_one_side=True, use_tebd_bias=True),
        "smooth strip": replace(STRIPPED, set_davg_zero=False, smooth_type_embedding=True, exclude_types=((1, 1),)),
        "overflow": replace(STRIPPED, set_davg_zero=False, smooth_type_embedding=True, sel=4),
        "float32": replace(EXPANDED, precision="float32"),
    }


class TestFollowing(TestSpectralOptions):
    """Expansions whose coefficients follow the nets, as in training."""

    stored = False
    on_tensorflow = ("mean",)


@pytest.mark.parametrize(
    "options",
    [{"attn_mask": True}, {"lmax": 2}, {"tebd_input_mode": "both"}, {"attn_layer": -1}, {"sel": 0}, {"ln_eps": 0.0}],
)
def test_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        replace(BASE, **options)


def test_deprecated_name_of_strip():
    assert SeAtten(stripped_type_embedding=True) == SeAtten(tebd_input_mode="strip")
    with pytest.raises(ValueError, match="smooth_type_embedding"):
        SeAttenV2(smooth_type_embedding=False)


def test_models_whose_first_atom_matters_are_told():
    golden = Path(__file__).parents[1] / "golden"
    with pytest.warns(OrderWarning, match="depend on the type of the first atom"):
        DeepPot(golden / "se_atten" / "model.dp")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DeepPot(golden / "se_e2_a" / "model.dp")

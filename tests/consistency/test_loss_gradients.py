"""Gradients of the loss with respect to parameters: force terms need second derivatives, which are checked here."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from consistency.gradients import (
    BEYOND,
    DESCRIPTOR,
    DIRECT,
    OFF,
    WITHIN,
    Example,
    Realistic,
    example_of,
    gradients_by,
    in_torch,
    tf_running,
)
from consistency.suites import ModelConformance
from support import TF_LATER, mark_slow
from tolerances import assert_close

from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_atten import SeAtten
from deepmd.array_model.descriptors.se_e2_a_typed import SeE2ATyped
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.descriptors.se_e3 import SeE3
from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.array_model.fittings.dipole import DipoleFitting
from deepmd.array_model.fittings.dos import DosFitting
from deepmd.array_model.fittings.polar import PolarFitting
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.tree import flatten
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.losses import DosLoss, EnerLoss, PropertyLoss, Target, TensorLoss
from deepmd.plan.plans import direct_plan
from deepmd.testing.samples import Subject

EVERY = {
    f"start_pref_{term}": weight for term, weight in (("e", 0.5), ("f", 2.0), ("v", 0.3), ("ae", 0.7), ("pf", 1.1))
}
LOSSES = {
    "e": EnerLoss(**{**OFF, "start_pref_e": 1.0}),
    "f": EnerLoss(**{**OFF, "start_pref_f": 1.0}),
    "v": EnerLoss(**{**OFF, "start_pref_v": 1.0}),
    "ae": EnerLoss(**{**OFF, "start_pref_ae": 1.0}),
    "pf": EnerLoss(**{**OFF, "start_pref_pf": 1.0}),
    "huber": EnerLoss(**EVERY, use_huber=True, huber_delta=(0.1, 0.2, 0.05)),
    "huber of norms": EnerLoss(**EVERY, use_huber=True, huber_delta=0.2, f_use_norm=True),
    "mae": EnerLoss(**{**OFF, "start_pref_f": 1.0}, loss_func="mae"),
    "mae of norms": EnerLoss(**EVERY, loss_func="mae", f_use_norm=True),
    "relative": EnerLoss(**EVERY, relative_f=0.5),
    "intensive, coefficients": EnerLoss(**EVERY, intensive_ener_virial=True, enable_atom_ener_coeff=True),
}

CASES = [*((DIRECT, name) for name in LOSSES), *((BEYOND, name) for name in ("e", "f", "v"))]


@pytest.fixture(scope="module")
def example(request):
    return example_of(start=request.param)


@pytest.fixture(scope="module")
def in_tensorflow(example):
    with tf_running(example) as evaluate:
        yield evaluate


def for_cases(cases):
    return pytest.mark.parametrize(("example", "name"), cases, ids=str, indirect=["example"], scope="module")


@for_cases(CASES)
def test_torch(example, name):
    example.compare(LOSSES[name], *in_torch(example, LOSSES[name]))


@for_cases(mark_slow(CASES, quick=[(DIRECT, "huber of norms"), (BEYOND, "f")]))
def test_tensorflow(example, in_tensorflow, name):
    example.compare(LOSSES[name], *in_tensorflow(LOSSES[name]))


class OtherExample(Example):
    """A model of something else than energies."""

    def __init__(self, fitting, without=()):
        self.model = StandardModel(("O", "H"), DESCRIPTOR, fitting, atom_exclude_types=without)
        self.params, self.plan = ModelConformance.parameters(self.model), direct_plan(self.model)
        self.subject = Subject(self.model, self.params, "numpy")
        samples = [*self.subject.systems["triclinic_small"], *self.subject.systems["open"]]
        self.packed = self.subject.pack(samples)
        self.conditions = self.subject.conditions(samples, self.packed)
        self.natoms_F = np.array([float(sample.natoms) for sample in samples])
        rng, values, output = (
            np.random.default_rng(9),
            self.subject.evaluate(self.packed, self.conditions),
            self.model.output,
        )
        names = {output.label: output.name, output.atomic_label: output.atomic}
        self.wanted = frozenset(names.values())
        self.labels = {label: values[name] + rng.normal(0.0, 0.5, values[name].shape) for label, name in names.items()}
        self.labels["atomic_weight"] = rng.uniform(0.5, 1.5, len(self.packed.neighbours.type_N))
        self.paths = list(flatten(self.params["fitting"]["nets"]))
        self.paths = [f"fitting/nets/{path}" for path in self.paths] + ["descriptor/embeddings/0/layers/0/w"]


DOS_TERMS = {f"{kind}_pref_{term}": 1.0 for kind in ("start", "limit") for term in ("dos", "cdf", "ados", "acdf")}
OTHERS = {
    "dipole": (DipoleFitting(neuron=(3,)), (), TensorLoss(pref=1.0, pref_atomic=0.5)),
    "dipole of one type": (
        DipoleFitting(neuron=(3,)),
        (1,),
        TensorLoss(pref=1.0, pref_atomic=0.5, enable_atomic_weight=True),
    ),
    "polar": (PolarFitting(neuron=(3,), fit_diag=False), (), TensorLoss(pref=1.0, pref_atomic=0.5)),
    "dos": (DosFitting(neuron=(3,), numb_dos=3), (), DosLoss(**DOS_TERMS)),
    "property": (PropertyFitting(neuron=(3,), property_name="gap", task_dim=2, intensive=True), (), PropertyLoss()),
    "rmse of a property": (
        PropertyFitting(neuron=(3,), property_name="gap", task_dim=2),
        (),
        PropertyLoss(loss_func="rmse", metric=("rmse", "mae")),
    ),
}


ON_TF = ("dipole of one type", "dos", "rmse of a property")
"""A loss of each class; polarizabilities and dipoles have one."""


@pytest.mark.parametrize(
    ("backend", "name"),
    mark_slow(product(["torch", "tf"], OTHERS), [*product(["torch"], OTHERS), *product(["tf"], ON_TF)]),
)
def test_other_losses(backend, name):
    fitting, without, loss = OTHERS[name]
    example = OtherExample(fitting, without)
    loss = loss.with_target(Target.of(example.model, example.params))
    example.compare(loss, *gradients_by(backend, example, loss))


MIXED = SeAtten(sel=40, rcut=3.0, neuron=(2, 4), axis_neuron=2, tebd_dim=2, attn_layer=0, set_davg_zero=False)
WITH_EXPANSION = {
    "one-sided": DESCRIPTOR,
    "two-sided": replace(DESCRIPTOR, type_one_side=False, neuron=(2, 4)),
    "se_e3": SeE3(sel=(8, 8), rcut=3.0, rcut_smth=0.5, neuron=(2, 4), resnet_dt=True),
    "se_atten": MIXED,
    "se_atten, strip": replace(MIXED, tebd_input_mode="strip", resnet_dt=True),
    "se_atten, gated": replace(MIXED, tebd_input_mode="strip", smooth_type_embedding=True, type_one_side=True),
}


# slow: an expansion by TensorFlow is compared with differences of the loss above, on both sides of its start
@pytest.mark.parametrize("backend", TF_LATER)
@pytest.mark.parametrize("name", WITH_EXPANSION)
def test_expansions_have_the_gradients_of_the_nets(name, backend):
    """Each trainable parameter is moved as direct evaluation would move it."""
    loss = EnerLoss(**{**OFF, "start_pref_e": 0.5, "start_pref_f": 2.0, "start_pref_v": 0.3})
    direct, spectral = (example_of(WITH_EXPANSION[name], start, Realistic.parameters) for start in (DIRECT, WITHIN))
    value, expected = gradients_by(backend, direct, loss)
    actual_value, actual = gradients_by(backend, spectral, loss)
    assert_close(actual_value, value, "spectral")
    assert len(direct.trainable) > 8
    for path in direct.trainable:
        assert_close(actual[path], expected[path], "gradient", floor=0.0, what=path)


NEAR = SeE2R(sel=(9, 9), rcut=2.6, rcut_smth=0.5, neuron=(2,), resnet_dt=True)
ATTENTIVE = SeAtten(sel=12, rcut=3.0, neuron=(2,), axis_neuron=1, tebd_dim=2, attn=2, attn_layer=1, set_davg_zero=False)
DESCRIPTORS = {
    "se_e2_a with types": SeE2ATyped(
        **vars(replace(DESCRIPTOR, type_one_side=False)), types=TypeEmbedding((3,), activation_function="tanh")
    ),
    "se_e2_r": NEAR,
    "se_e3": SeE3(sel=(8, 8), rcut=3.0, rcut_smth=0.5, neuron=(2,), resnet_dt=True),
    "se_e3_tebd": SeE3Tebd(sel=12, rcut=3.0, rcut_smth=0.5, neuron=(2,), tebd_dim=2, set_davg_zero=False),
    "se_atten": replace(ATTENTIVE, smooth_type_embedding=True, use_tebd_bias=True),
    "se_atten, masked": replace(ATTENTIVE, normalize=False, attn_dotr=False, tebd_input_mode="strip", resnet_dt=True),
    "hybrid": Hybrid(
        (NEAR, SeE3Tebd(sel=12, rcut=3.0, neuron=(2,), tebd_dim=2, tebd_input_mode="strip", use_tebd_bias=True))
    ),
}


# slow: TensorFlow is compared with torch by tests/train/test_descriptor_kinds.py
@pytest.mark.parametrize("backend", TF_LATER)
@pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS)
def test_other_descriptors(backend, descriptor):
    loss = EnerLoss(**{**OFF, "start_pref_e": 0.5, "start_pref_f": 2.0, "start_pref_v": 0.3})
    example = example_of(descriptor)
    example.compare(loss, *gradients_by(backend, example, loss))

"""The standard model and the energy fitting in all their options, on every backend."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from consistency.suites import ModelAgreement, ModelConformance
from tolerances import assert_close

from deepmd.array_model.contracts import Features, Widths
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.host import plain
from deepmd.testing import variants

DESCRIPTOR = SeE2A(sel=(24, 24), rcut=3.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2, type_one_side=True)
FITTING = EnergyFitting(neuron=(4, 4), resnet_dt=True)
MODEL = StandardModel(("O", "H"), DESCRIPTOR, FITTING)


class TestFitting(ModelAgreement):
    configs = {
        name: replace(MODEL, fitting=fitting)
        for name, fitting in variants(
            FITTING,
            resnet_dt=[False],
            activation_function=["gelu"],
            neuron=[(), (8,)],
            precision=["float32", "float16", "bfloat16"],
            numb_fparam=[2],
            numb_aparam=[3],
            atom_ener=[(-1.5, None), (None, 0.5), (-1.0, 2.0), (0.7,)],
            exclude_types=[(0,), (0, 1)],
        ).items()
    }

    def test_excluded_types(self, reference):
        """Atoms of an excluded type keep the bias of the model only."""
        (sample,) = reference.systems["open"]
        excluded = np.isin(sample.structure.types, reference.model.fitting.exclude_types)
        bias = reference.params["out_bias"][0, sample.structure.types[excluded], 0]
        assert np.array_equal(reference([sample])["atom_energy"][excluded], bias)


@pytest.mark.parametrize(
    ("atom_ener", "subtracted"),
    [
        ((), (False, False)),
        ((-1.5, None), (True, False)),
        ((None, 0.5), (False, True)),
        ((-1.0, 2.0), (True, True)),
        ((0.7,), (True, True)),
    ],
)
def test_nets_of_assigned_types_vanish_without_neighbours(atom_ener, subtracted):
    """What their nets say of features of zero is subtracted; the other nets stay as they are."""
    widths, rng = Widths(3, 0), np.random.default_rng(1)
    plain_fitting, fitting = (EnergyFitting(neuron=(4,), atom_ener=given) for given in ((), atom_ener))
    params = fitting.init(2, 2, widths, lambda _: rng, xp=plain)
    types = np.array([0, 0, 1])
    pairs = SimpleNamespace(type_N=types, counts=(2, 1))
    outer = np.zeros((2, 1)), np.ones((2, 1))

    def values(fitting, features_ND):
        features = Features(features_ND, None)
        return fitting.apply(params, features, widths, pairs, {}, outer, xp=plain)[:, 0]

    features_ND, none_ND = rng.normal(size=(3, 3)), np.zeros((3, 3))
    vacuum = values(plain_fitting, none_ND)
    assert np.all(vacuum != 0.0)
    expected = values(plain_fitting, features_ND) - np.where(np.array(subtracted)[types], vacuum, 0.0)
    assert_close(values(fitting, features_ND), expected, "function")


class TestConditions(ModelConformance):
    on_tensorflow = ("base",)
    configs = {
        name: replace(MODEL, fitting=fitting)
        for name, fitting in variants(
            replace(FITTING, numb_fparam=1, numb_aparam=2),
            use_aparam_as_mask=[True],
            atom_ener=[(None, 1.0)],
        ).items()
    }

    def test_conditions_matter(self, reference):
        """A frame parameter changes every atom of its frame, an atomic one its own atom only, and none as a mask."""
        sample = reference.systems["open"][0]
        base = reference([sample, sample])["atom_energy"].reshape(2, -1)

        def changed(name, change):
            conditions = {**sample.conditions, name: sample.conditions[name] + change}
            return reference([sample, replace(sample, conditions=conditions)])["atom_energy"].reshape(2, -1)

        frame = changed("fparam", 1.0)
        assert np.array_equal(frame[0], base[0])
        assert np.all(frame[1] != base[1])
        atom = changed("aparam", np.arange(sample.natoms)[:, None] * [1.0, 0.0, 0.0, 0.0])
        assert np.array_equal(atom[:, 0], base[:, 0])
        assert np.all((atom[1, 1:] == base[1, 1:]) == reference.model.fitting.use_aparam_as_mask)


class TestStandardModel(ModelConformance):
    configs = variants(MODEL, pair_exclude_types=[((0, 1),), ((0, 0), (1, 1))], atom_exclude_types=[(0,), (0, 1)])

    def test_excluded_atoms(self, reference):
        """Excluded atoms have no energy but remain neighbours."""
        excluded = reference.model.atom_exclude_types
        sample = reference.systems["open"][0]
        hit = np.isin(sample.structure.types, excluded)
        full = replace(reference, model=replace(reference.model, atom_exclude_types=()), backend="numpy")
        assert not reference([sample])["atom_energy"][hit].any()
        expected = np.where(hit, 0.0, full([sample])["atom_energy"])
        assert_close(reference([sample])["atom_energy"], expected, "energy")


class TestEverythingAtOnce(ModelConformance):
    """Options that are right alone may be wrong together."""

    configs = {
        "all": StandardModel(
            ("O", "H", "C"),
            replace(
                DESCRIPTOR,
                sel=(16, 16, 16),
                type_one_side=False,
                resnet_dt=True,
                exclude_types=((0, 0),),
                env_protection=0.05,
            ),
            replace(FITTING, numb_fparam=2, numb_aparam=1, atom_ener=(None, -1.0), exclude_types=(2,)),
            pair_exclude_types=((1, 2),),
            atom_exclude_types=(1,),
        )
    }


class TestMixedPrecision(ModelAgreement):
    on_tensorflow = ("mixed",)
    configs = {
        "mixed": replace(
            MODEL, descriptor=replace(DESCRIPTOR, precision="float32"), fitting=replace(FITTING, precision="float16")
        )
    }

"""Pair tables, sums of models and Deep Potentials with a table: the physics that every model must have."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import ClassVar

import numpy as np
import pytest
from consistency.small_models import DPA2, DPA3
from consistency.suites import ModelConformance
from support import FRAMEWORKS, mark_slow
from tolerances import assert_close

from deepmd.array_model.components import change_descriptors, in_precision
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.linear import LinearModel
from deepmd.array_model.models.pairtab import PairTabModel
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.models.zbl import ZblModel
from deepmd.host import plain
from deepmd.io.pair_table import splines
from deepmd.plan import slots
from deepmd.testing.samples import Subject

TYPES = ("O", "H")
POTENTIAL = StandardModel(
    TYPES, SeE2A(sel=(30, 30), rcut=4.0, rcut_smth=0.5, neuron=(3, 6), axis_neuron=2), EnergyFitting(neuron=(5,))
)


def table(rcut, **options):
    return PairTabModel(TYPES, rcut, 60, start=0.25, stop=rcut, step=0.25, intervals=round(rcut / 0.25) - 1, **options)


ANGLES = SeE2A(sel=(26, 30), rcut=3.5, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2)
TYPED = SeE3Tebd(sel=48, rcut=2.5, rcut_smth=0.5, neuron=(2, 4), tebd_dim=3)
BOTH = StandardModel(TYPES, Hybrid((TYPED, ANGLES)), EnergyFitting(neuron=(5,)))
PASSING = tuple(StandardModel(TYPES, descriptor, EnergyFitting(neuron=(5,))) for descriptor in (DPA2, DPA3))

CONFIGS = {
    "pairtab": table(4.0),
    "linear": LinearModel(TYPES, (POTENTIAL, table(4.5)), pair_exclude_types=((1, 1),), weights=(0.5, 2.0)),
    "hybrid of both kinds": LinearModel(TYPES, (BOTH, POTENTIAL, table(4.5)), weights=(0.5, 2.0, 1.5)),
    "messages": LinearModel(TYPES, (*PASSING, table(3.25)), weights=(0.5, 2.0, 1.5)),
    "messages and sections": LinearModel(
        TYPES, (PASSING[0], BOTH, POTENTIAL), pair_exclude_types=((1, 1),), weights=(0.5, 2.0, 1.5)
    ),
    "zbl": ZblModel(TYPES, (POTENTIAL, table(4.0)), atom_exclude_types=(1,), sw_rmin=0.5, sw_rmax=3.5, smin_alpha=0.3),
}


class TestModelKinds(ModelConformance):
    """Other backends are compared by the golden cases and by training."""

    configs: ClassVar = CONFIGS
    backends: ClassVar = ("numpy",)

    @classmethod
    def parameters(cls, model):
        rng = np.random.default_rng(20)
        params = model.init(lambda _: rng, xp=plain)
        cls.fill(model, params, rng)
        params["out_bias"] = params["out_bias"] + rng.normal(size=params["out_bias"].shape)
        return in_precision(model, params, xp=plain)

    @classmethod
    def fill(cls, model, params, rng):
        """Random energies that end at zero in every table, random statistics in every descriptor."""
        for member, own in zip(getattr(model, "models", ()), params.get("models", ()), strict=True):
            cls.fill(member, own, rng)
        if model.kind == "pairtab":
            fade = (1.0 - np.linspace(0.0, 1.0, model.intervals + 1)[:, None]) ** 4
            energies = fade * rng.normal(size=(model.intervals + 1, 3))
            params["tab_data"] = splines(energies, model.ntypes).reshape(-1)
        if "descriptor" in params:
            params["descriptor"] = cls.statistics(model, params["descriptor"], rng)

    def test_cutoff(self, reference):
        """Energy and force end continuously.

        A table ends as smoothly as its energies do, so that no power is asked for.
        """
        rcut = reference.model.layout().rcut
        sample = reference.systems["open"][0].selected(np.arange(2)).changed(types=np.array([0, 1]))
        gaps = (1e-4, -1e-4, -0.1)
        pairs = [sample.changed(coord=np.array([[0.0, 0.0, 0.0], [rcut - gap, 0.0, 0.0]])) for gap in gaps]
        results = reference(pairs)
        within, beyond = results["energy"][:2]
        # one by one, because rows of one product of matrices may differ by a rounding
        assert reference(pairs[1:2])["energy"] == reference(pairs[2:])["energy"]
        assert abs(within - beyond) < 1e-8
        force = results["force"].reshape(3, -1)
        assert not force[1:].any()
        assert np.abs(force[0]).max() < 1e-4


SUMS = ["linear", "hybrid of both kinds", "messages", "messages and sections"]
QUICK = [*product(SUMS, ["numpy"]), ("linear", "torch"), ("messages and sections", "torch"), ("linear", "tf")]


@pytest.mark.parametrize(("name", "backend"), mark_slow(product(SUMS, FRAMEWORKS), QUICK))
def test_members_do_not_notice_each_other(name, backend):
    """Cut from one list, each has the energies that it has alone, statistics that tell empty slots apart included."""
    model = replace(CONFIGS[name], pair_exclude_types=())
    params = TestModelKinds.parameters(model)
    params["out_bias"] = 0.0 * params["out_bias"]
    whole = Subject(model, params, backend)
    samples = whole.systems["several_frames"]
    alone = [Subject(member, own, "numpy")(samples) for member, own in zip(model.models, params["models"], strict=True)]
    for name, value in whole(samples).items():
        if name != "descriptor":
            expected = sum(weight * each[name] for weight, each in zip(model.member_weights, alone, strict=True))
            assert_close(value, expected, "energy", what=name)


@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, 1.0])
def test_without_add_bias_the_table_has_no_share_of_the_bias(u):
    """Of two atoms the soft minimum is their distance, so that the share of the table is the switch at it."""
    model = CONFIGS["zbl"]
    params = TestModelKinds.parameters(model)
    sample = Subject(model, params, "numpy").systems["open"][0].selected(np.arange(2))
    r = model.sw_rmin + u * (model.sw_rmax - model.sw_rmin)
    sample = sample.changed(types=np.zeros(2, dtype=int), coord=np.array([[0.0, 0.0, 0.0], [r, 0.0, 0.0]]))
    with_bias, without = (
        Subject(replace(model, add_bias=add), params, "numpy")([sample])["atom_energy"] for add in (True, False)
    )
    share = u**3 * (-6.0 * u**2 + 15.0 * u - 10.0) + 1.0
    assert_close(with_bias - without, np.full(2, share * params["out_bias"][0, 0, 0]), "energy")


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("source", ["data", "another model"])
def test_a_table_has_as_many_slots_as_the_deep_potential(source, summed):
    """Also where these are found in the data, or taken from the model that training starts from; also in a sum."""
    network, table_ = change_descriptors(POTENTIAL, lambda descriptor: replace(descriptor, sel="auto")), table(4.0)
    automatic = ZblModel(TYPES, (network, replace(table_, sel=1)), sw_rmin=0.5, sw_rmax=3.5, smin_alpha=0.3)
    known = replace(automatic, models=(POTENTIAL, replace(table_, sel=sum(POTENTIAL.layout().sel))))
    if summed:
        automatic, known = (LinearModel(TYPES, (each,)) for each in (automatic, known))
    assert slots.find_automatic(automatic) == ("auto",)
    if source == "data":
        resolved = slots.resolve_sel(automatic, lambda rcut: (7, 9))
        network, table_ = (resolved.models[0] if summed else resolved).models
        assert table_.sel == sum(network.layout().sel) == 8 + 12
    else:
        assert slots.take_sel(automatic, known) == known


def test_what_is_given_is_not_taken_from_another_model():
    """One automatic `sel` does not open the others, whose difference has to be told."""
    given = change_descriptors(POTENTIAL, lambda descriptor: replace(descriptor, sel=(1, 2)))
    automatic = change_descriptors(POTENTIAL, lambda descriptor: replace(descriptor, sel="auto"))
    taken = slots.take_sel(LinearModel(TYPES, (given, automatic)), LinearModel(TYPES, (POTENTIAL, POTENTIAL)))
    assert taken.models == (given, POTENTIAL)

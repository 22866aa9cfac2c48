"""Stored forms of kinds that DeePMD-kit does not have: those of plug-ins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from support import differences, options

from deepmd.array_model import registry
from deepmd.array_model.descriptors.loc_frame import LocFrame
from deepmd.array_model.descriptors.se_atten import SeAtten
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io.model_file import ModelFile, from_json, from_tree, to_json, to_tree
from deepmd.kit.layouts import model_to_dict
from deepmd.kit.rows import nest


@dataclass(frozen=True)
class Sections(SeE2R):
    power: float = 2.0


@dataclass(frozen=True)
class Attentive(SeAtten):
    power: float = 2.0


@dataclass(frozen=True)
class Alone(LocFrame):
    power: float = 2.0


@dataclass(frozen=True)
class Fitted(EnergyFitting):
    power: float = 2.0


class Other(StandardModel):
    pass


DESCRIPTORS = {
    "sections": Sections(sel=(3, 5), neuron=(2, 4), precision="float64", seed=1, power=3.0),
    "attentive": Attentive(
        sel=(8,), neuron=(2, 4), attn=3, attn_layer=1, ln_eps=1e-3, precision="float64", seed=1, power=3.0
    ),
    "alone": Alone(sel_a=(1, 2), sel_r=(2, 2), power=3.0),
}


@pytest.fixture
def plug_ins(monkeypatch):
    """Kinds of plug-ins, registered for one test."""
    monkeypatch.setattr(registry, "KINDS", {role: dict(known) for role, known in registry.KINDS.items()})
    for kind, name, cls in (
        *(("descriptor", name, type(each)) for name, each in DESCRIPTORS.items()),
        ("fitting_net", "fitted", Fitted),
    ):
        registry.register(kind, name)(cls)
    registry.register("model", "other")(Other)


def content_of(descriptor, cls=StandardModel):
    model = cls(
        ("O", "H"),
        descriptor=descriptor,
        fitting=Fitted(neuron=(3,), trainable=(True, True), precision="float64", seed=2, power=4.0),
    )
    return ModelFile(model, model.init(np.random.default_rng, xp=plain))


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_plug_in_needs_no_code_for_files(plug_ins, name):
    content = content_of(DESCRIPTORS[name])
    arrays = flatten(content.params)
    for again in (from_tree(to_tree(content, "numpy"), "tree"), from_json(to_json(content, "numpy"), arrays, "json")):
        without = (
            replace(each, seed=None) if hasattr(each, "seed") else each
            for each in (content.model.descriptor, content.model.fitting)
        )
        assert (options(again.model).descriptor, options(again.model).fitting) == tuple(without)
        assert differences(again.params, content.params) == []


def test_a_kind_of_model_needs_a_form(plug_ins):
    content = content_of(DESCRIPTORS["sections"], Other)
    with pytest.raises(InputError, match="model other: no form for files is known"):
        model_to_dict(content.model, content.params)


def test_keys_of_digits_are_numbers_of_a_list_in_paths_only():
    assert nest([("layers/0", {"w": 1}), ("layers/1", {"w": 2})]) == {"layers": [{"w": 1}, {"w": 2}]}
    assert nest([("preset", {"0": 1.5}), ("", {"tables": {"1": {"2": 3}}})]) == {
        "preset": {"0": 1.5},
        "tables": {"1": {"2": 3}},
    }

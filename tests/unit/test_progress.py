"""What a checkpoint says of its training, in both versions."""

import pytest

from deepmd.adapters.training import Progress, read_progress
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel

MEMBER = SeE2A(sel=(8, 8), neuron=(2, 4), axis_neuron=2)
MODEL = StandardModel(("O", "H"), Hybrid((MEMBER, MEMBER)), EnergyFitting(neuron=(3,)))
STORED = {"step": 7, "seed": 5}


@pytest.mark.parametrize("terms", [(48, 0), None])
def test_terms_are_those_of_each_part(terms):
    stored = {**STORED, "terms": None if terms is None else list(terms)}
    assert read_progress(stored, 2, {}, MODEL) == Progress(7, 5, {}, terms)


@pytest.mark.parametrize(
    ("stored", "terms"),
    [({"evaluation": 48}, (48, 48)), ({"evaluation": "direct"}, (0, 0)), ({}, (0, 0)), ({"evaluation": "auto"}, None)],
)
def test_version_1_has_one_number_for_all_parts(stored, terms):
    assert read_progress({**STORED, **stored}, 1, {}, MODEL).terms == terms


@pytest.mark.parametrize("terms", [[48], [48, 48, 0], [48, "48"], [48, 1.5], [True, 48]])
def test_terms_of_another_model(terms):
    with pytest.raises(ValueError, match="a number for each of 2 descriptors"):
        read_progress({**STORED, "terms": terms}, 2, {}, MODEL)

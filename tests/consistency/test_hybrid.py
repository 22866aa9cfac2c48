"""hybrid: members with and without sections, with cutoffs and numbers of slots of their own, on every backend."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from itertools import product

import numpy as np
import pytest
from consistency.small_models import DPA2, DPA3
from consistency.suites import DescriptorAgreement, DescriptorConformance, ModelConformance
from support import mark_slow
from tolerances import assert_close

from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.data.neighbours import find_neighbours
from deepmd.data.packing import pack
from deepmd.infer import DeepPot
from deepmd.io import save_model
from deepmd.io.model_file import ModelFile
from deepmd.testing.conformance import REALISTIC
from deepmd.testing.samples import Subject

ANGLES = SeE2A(sel=(24, 24), rcut=3.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2)
NEAR = SeE2R(sel=(20, 20), rcut=2.2, rcut_smth=0.4, neuron=(3,))
ANGLES_EXPANDED = replace(ANGLES, sel=(9, 9, 9), evaluation="spectral")
MIXED = SeE3Tebd(sel=48, rcut=2.5, rcut_smth=0.5, neuron=(2, 4), tebd_dim=3)


class Realistic(ModelConformance):
    deviations = REALISTIC


class TestHybrid(DescriptorConformance):
    configs = {"sections": Hybrid((ANGLES, NEAR)), "both": Hybrid((MIXED, ANGLES))}


class TestOptions(DescriptorAgreement):
    deviations = REALISTIC
    type_map = ("O", "H", "C")
    configs = {
        "overflow": Hybrid((replace(ANGLES, sel=(2, 1, 3)), replace(NEAR, sel=(1, 4, 0)))),
        "mixed": Hybrid((MIXED, replace(MIXED, sel=5, tebd_input_mode="strip", rcut=3.0))),
        "expanded": Hybrid(
            (replace(NEAR, sel=(9, 9, 9), evaluation="spectral"), replace(MIXED, sel=9), ANGLES_EXPANDED)
        ),
        "both, overflow": Hybrid(
            (replace(NEAR, sel=(1, 2, 0)), replace(MIXED, sel=4), replace(ANGLES, sel=(0, 1, 3), precision="float32"))
        ),
    }


MEMBERS = {"sections": (ANGLES, NEAR), "both": (MIXED, ANGLES, NEAR)}
"""Members, the last two of which are expanded."""


@pytest.mark.parametrize(
    ("name", "backend"),
    mark_slow(product(MEMBERS, ["torch", "tf"]), [("sections", "torch"), ("both", "torch")]),
)
def test_members_are_evaluated_with_their_adjoints_block_by_block(tmp_path, monkeypatch, name, backend):
    """Members as they would be alone: sums with the adjoint written out, in blocks, equal the nets at once."""
    pytest.importorskip({"tf": "tensorflow"}.get(backend, backend))
    inference = import_module(f"deepmd.adapters.{backend}.namespace").inference
    used, original = [], inference.with_adjoint

    def counted(*arguments):
        used.append(1)
        return original(*arguments)

    monkeypatch.setattr(inference, "with_adjoint", counted)
    model = StandardModel(("O", "H"), Hybrid(MEMBERS[name]), EnergyFitting(neuron=(5,)))
    params = Realistic.parameters(model)
    save_model(tmp_path / "model.dp", ModelFile(model, params))
    (sample,) = Subject(model, params, "numpy").systems["one_frame"]
    frame = sample.structure.coord[None], sample.structure.cell[None], sample.structure.types
    with DeepPot(tmp_path / "model.dp", backend=backend, auto_batch_size=3) as potential:
        assert isinstance(potential.evaluation, int)
        results = potential.eval(*frame, atomic=True)
    calls = len(used)
    assert calls > 0
    assert calls % 2 == 0
    with DeepPot(tmp_path / "model.dp", backend=backend, evaluation="direct") as potential:
        expected = potential.eval(*frame, atomic=True)
    assert len(used) == calls
    for value, wanted in zip(results, expected, strict=True):
        assert_close(value, wanted, "spectral")


@pytest.mark.parametrize("members", [(ANGLES, NEAR), (NEAR, MIXED, ANGLES)], ids=["sections", "both"])
def test_equals_its_members(members):
    """Members do not notice each other if all neighbours have slots and statistics are those of empty slots, too."""
    model = StandardModel(("O", "H"), Hybrid(members), EnergyFitting(neuron=()))
    params = ModelConformance.parameters(model)
    whole = Subject(model, params, "numpy")
    samples = whole.systems["several_frames"]
    alone = []
    for member, own in zip(members, params["descriptor"]["members"], strict=True):
        single = StandardModel(("O", "H"), member, EnergyFitting(neuron=()))
        alone.append(
            Subject(single, {**ModelConformance.parameters(single), "descriptor": own}, "numpy")(samples)["descriptor"]
        )
    assert_close(whole(samples)["descriptor"], np.concatenate(alone, axis=1), "descriptor")


def nearest(neighbours, most):
    """The `most` nearest neighbours of each atom."""
    order = np.lexsort((neighbours.dist, neighbours.i))
    rank = np.arange(len(order)) - np.searchsorted(neighbours.i[order], neighbours.i[order])
    kept = order[rank < most]
    return replace(neighbours, **{name: getattr(neighbours, name)[kept] for name in ("i", "j", "disp", "dist")})


@pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")
@pytest.mark.parametrize("name", ["overflow", "both, overflow"])
def test_members_share_a_list_that_overflows(name):
    """Overflow: the list keeps the nearest up to the largest total of slots; each member those of each section."""
    members = tuple(replace(member, precision="float64") for member in TestOptions.configs[name].members)
    model = StandardModel(TestOptions.type_map, Hybrid(members), EnergyFitting(neuron=()))
    params = Realistic.parameters(model)
    whole = Subject(model, params, "numpy")
    samples, rcut = whole.systems["several_frames"], model.layout().rcut
    found = find_neighbours([sample.structure for sample in samples], rcut)
    mixed = [sum(member.layout().sel) for member in members if member.layout().mixed]
    most = max(sum(member.layout().sel) for member in members) if mixed else sum(model.layout().sel)
    assert np.bincount(found.i).max() > most
    shared, alone = nearest(found, most), []
    for member, own in zip(members, params["descriptor"]["members"], strict=True):
        single = StandardModel(TestOptions.type_map, member, EnergyFitting(neuron=()))
        packed = pack(shared, replace(single.layout(), by_section=True), 3)
        subject = Subject(single, {**Realistic.parameters(single), "descriptor": own}, "numpy")
        alone.append(subject(samples, packed=packed)["descriptor"])
    assert_close(whole(samples)["descriptor"], np.concatenate(alone, axis=1), "descriptor")


@pytest.mark.parametrize("passing", [DPA2, DPA3], ids=["dpa2", "dpa3"])
def test_members_that_pass_messages_are_refused(passing):
    with pytest.raises(ValueError, match=r"descriptors that pass messages .* are not supported as members yet"):
        Hybrid((ANGLES, passing))

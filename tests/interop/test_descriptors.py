"""Descriptors with options that no stored case has: our files, evaluated by DeePMD-kit's NumPy backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_atten import SeAtten, SeAttenV2
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.descriptors.se_e3 import SeE3
from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.io import save_model
from deepmd.io.model_file import ModelFile
from deepmd.testing import ModelConformance
from deepmd.testing.samples import Subject, make_sample

EVALUATE = """
import numpy as np
import deepmd.dpmodel.model.model
from deepmd.dpmodel.model.base_model import BaseModel
from deepmd.dpmodel.utils.serialization import load_dp_model

given, out = np.load("inputs.npz"), {}
for name in sorted({key.split("|")[0] for key in given.files}):
    coord, types, cell = (given[f"{name}|{key}"][None] for key in ("coord", "types", "cell"))
    model = BaseModel.deserialize(load_dp_model(f"{name}.dp")["model"])
    for boundary, box in (("pbc", cell.reshape(1, 9)), ("nopbc", None)):
        out[f"{name}|{boundary}"] = model.call(coord, types, box=box)["atom_energy"].reshape(-1)
np.savez("outputs.npz", **out)
"""

ANGLES = SeE2A(sel=(20, 20), rcut=4.0, neuron=(3, 6), axis_neuron=2, type_one_side=True)
DISTANCES = SeE2R(sel=(20, 20), rcut=3.5, neuron=(3, 6), type_one_side=True)
TRIPLES = SeE3(sel=(9, 9), rcut=3.0, neuron=(2, 4))
TYPED = SeE3Tebd(sel=20, rcut=3.0, neuron=(2, 4), tebd_dim=3, set_davg_zero=False, use_tebd_bias=False)
ATTENTIVE = SeAtten(
    sel=20, rcut=3.0, neuron=(2, 4), axis_neuron=2, tebd_dim=3, attn=3, attn_layer=1, set_davg_zero=False, ln_eps=1e-3
)
STRIP = replace(TYPED, tebd_input_mode="strip", exclude_types=((1, 1),))

DESCRIPTORS = {
    "se_e2_r": replace(DISTANCES, exclude_types=((0, 1),), env_protection=0.1),
    "se_e2_r-overflow": replace(DISTANCES, sel=(2, 3)),
    "se_e3": replace(TRIPLES, exclude_types=((0, 1),), env_protection=0.1),
    "se_e3-three": replace(TRIPLES, sel=(8, 2, 8), exclude_types=((0, 2),), resnet_dt=True),
    "se_e3_tebd": replace(TYPED, sel=5, exclude_types=((0, 1),), env_protection=0.1),
    "se_e3_tebd-three": replace(TYPED, use_econf_tebd=True, use_tebd_bias=True),
    "se_e3_tebd-strip": STRIP,
    "se_e3_tebd-not-smooth": replace(STRIP, smooth=False, concat_output_tebd=False),
    "se_atten": ATTENTIVE,
    "se_atten-strip": replace(
        ATTENTIVE, sel=(9, 9), attn_layer=0, tebd_input_mode="strip", type_one_side=True, use_tebd_bias=True
    ),
    "se_atten_v2": SeAttenV2(
        sel=20, rcut=3.0, neuron=(2, 4), axis_neuron=2, tebd_dim=3, attn_layer=0, set_davg_zero=False
    ),
    "hybrid-sections": Hybrid((replace(ANGLES, sel=(3, 30)), replace(DISTANCES, sel=(24, 2), rcut=2.5), TRIPLES)),
    "hybrid-both": Hybrid(
        (
            replace(ANGLES, sel=(2, 1)),
            replace(TYPED, sel=4),
            replace(TYPED, sel=7, rcut=2.5),
            replace(DISTANCES, sel=(1, 3)),
        )
    ),
    "hybrid-mixed-three": Hybrid((replace(TYPED, sel=4), replace(STRIP, sel=30, rcut=2.5))),
}
HIDDEN = {"hybrid-both": ((1, 1),), "hybrid-mixed-three": ((0, 1),)}
"""`pair_exclude_types`, where members keep fewer neighbours than there are."""

CELL = 3.9 * np.array([[0.9, 0.1, 0.0], [-0.2, 0.95, 0.1], [0.3, 0.2, 1.0]])


@pytest.fixture(scope="module")
def both(kit, place):
    """Atomic energies by us and by DeePMD-kit."""
    folder, inputs, ours = place / "descriptors", {}, {}
    folder.mkdir()
    for name, descriptor in DESCRIPTORS.items():
        type_map = ("O", "H", "C") if name.endswith("three") else ("O", "H")
        model = StandardModel(type_map, descriptor, EnergyFitting(neuron=(5,)), pair_exclude_types=HIDDEN.get(name, ()))
        params = ModelConformance.parameters(model)
        save_model(folder / f"{name}.dp", ModelFile(model, params))
        subject = Subject(model, params, "numpy")
        for boundary in ("pbc", "nopbc"):
            sample = make_sample(7, 8, CELL, len(type_map), periodic=boundary == "pbc")
            ours[f"{name}|{boundary}"] = subject([sample], frozenset({"atom_energy"}))["atom_energy"]
        inputs.update(
            {f"{name}|coord": sample.structure.coord, f"{name}|types": sample.structure.types, f"{name}|cell": CELL}
        )
    np.savez(folder / "inputs.npz", **inputs)
    kit.run(["python", "-c", EVALUATE], folder)
    return ours, dict(np.load(folder / "outputs.npz"))


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_equal_atomic_energies(both, name):
    ours, theirs = both
    for boundary in ("pbc", "nopbc"):
        assert_close(ours[f"{name}|{boundary}"], theirs[f"{name}|{boundary}"], "golden", what=boundary)

"""The classes for other quantities than energies: which class a model gets, and what `eval` returns with and without `atomic`."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from deepmd import infer
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.fittings.dipole import DipoleFitting
from deepmd.array_model.fittings.dos import DosFitting
from deepmd.array_model.fittings.polar import PolarFitting
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.host import plain
from deepmd.io import save_model
from deepmd.io.model_file import ModelFile

DESCRIPTOR = SeE2A(sel=(3, 3), rcut=4.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2)
COORDS, TYPES = np.random.default_rng(0).uniform(0.0, 4.0, (2, 3, 3)), [0, 1, 1]

TOTAL, ATOMIC, BOTH = ("total",), ("atomic",), ("total", "atomic")
CASES = {
    # class: (fitting, components, what eval returns by default, with atomic, without)
    "DeepDipole": (DipoleFitting(neuron=(3,)), 3, ATOMIC, ATOMIC, TOTAL),
    "DeepPolar": (PolarFitting(neuron=(3,)), 9, ATOMIC, ATOMIC, TOTAL),
    "DeepGlobalPolar": (PolarFitting(neuron=(3,)), 9, TOTAL, ATOMIC, TOTAL),
    "DeepDOS": (DosFitting(neuron=(3,), numb_dos=4), 4, BOTH, BOTH, BOTH),
    "DeepProperty": (PropertyFitting(neuron=(3,), property_name="gap", task_dim=2), 2, TOTAL, BOTH, TOTAL),
}


@pytest.mark.parametrize("name", CASES)
def test_what_eval_returns(name, tmp_path):
    fitting, width, default, *chosen = CASES[name]
    model = StandardModel(("O", "H"), DESCRIPTOR, fitting)
    save_model(tmp_path / "m.dp", ModelFile(model, model.init(lambda _: np.random.default_rng(3), xp=plain), {}, 0.5))
    potential = getattr(infer, name)(tmp_path / "m.dp")
    shapes = {"total": (2, width), "atomic": (2, 3, width)}
    results = {}
    for expected, options in ((default, {}), (chosen[0], {"atomic": True}), (chosen[1], {"atomic": False})):
        out = potential.eval(COORDS, None, TYPES, **options)
        out = out if isinstance(out, tuple) else (out,)
        assert [array.shape for array in out] == [shapes[what] for what in expected]
        results.update(zip(expected, out, strict=True))
    assert_close(results["atomic"].sum(axis=1), results["total"], "energy")

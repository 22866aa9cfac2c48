"""se_e2_a in all its options, on every backend."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from consistency.suites import DescriptorAgreement, DescriptorConformance
from support import FRAMEWORKS, mark_slow
from tolerances import assert_close

from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.networks import ACTIVATIONS
from deepmd.host import plain
from deepmd.testing import variants
from deepmd.testing.samples import Subject

BASE = SeE2A(sel=(24, 24), rcut=3.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2, type_one_side=True)
OTHER_ACTIVATIONS = [*(name for name in ACTIVATIONS if name != "tanh"), "silut:1.5", "Tanh"]


class TestSeE2A(DescriptorConformance):
    configs = variants(BASE, exclude_types=[((0, 1),)], sel=[(2, 3), (24, 0)], precision=["float32"])


class TestTwoSided(DescriptorConformance):
    on_tensorflow = ("base",)
    configs = variants(
        replace(BASE, type_one_side=False, resnet_dt=True), exclude_types=[((0, 0),)], env_protection=[0.1]
    )


class TestThreeTypes(DescriptorConformance):
    type_map = ("O", "H", "C")
    configs = variants(replace(BASE, sel=(16, 16, 16), type_one_side=False, exclude_types=((0, 2), (1, 1))))


class TestActivations(DescriptorAgreement):
    configs = {name: replace(BASE, activation_function=name) for name in OTHER_ACTIVATIONS}


class TestOptions(DescriptorAgreement):
    on_tensorflow = ("precision=bfloat16",)
    configs = variants(
        BASE,
        resnet_dt=[True],
        exclude_types=[((1, 0), (1, 1))],
        set_davg_zero=[True],
        axis_neuron=[1, 4],
        neuron=[(3,), (1, 2, 4, 4)],
        rcut_smth=[0.0],
        sel=[(60, 40)],
        precision=["half", "bfloat16"],
    )


def slow_descriptor(config, params, sample):
    """The definition, slot by slot, for all `sel` slots of each atom (open boundary, no excluded types)."""
    coord, types = sample.structure.coord, sample.structure.types
    out = []
    for i, position in enumerate(coord):
        order = sorted((np.linalg.norm(other - position), j) for j, other in enumerate(coord) if j != i)
        order = [(r, j) for r, j in order if r <= config.rcut][: sum(config.sel)]
        g, slot = 0.0, 0
        for kind, sel in enumerate(config.sel):
            near = [(r, j) for r, j in order if types[j] == kind][:sel]
            weights = params["embeddings"][kind if config.type_one_side else types[i] + kind * len(config.sel)]
            for k in range(sel):
                row = np.zeros(4)
                if k < len(near):
                    r, j = near[k]
                    u = max((r - config.rcut_smth) / (config.rcut - config.rcut_smth), 0.0)
                    row = (
                        (1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u * u)) / r * np.array([1.0, *(coord[j] - position) / r])
                    )
                row = (row - params["davg"][types[i], slot]) / params["dstd"][types[i], slot]
                x = row[:1]
                for layer in weights["layers"]:
                    y = np.tanh(x @ layer["w"] + layer["b"])
                    x = y + (x if len(y) == len(x) else np.tile(x, 2) if len(y) == 2 * len(x) else 0.0)
                g, slot = g + np.outer(x, row), slot + 1
        g = g / sum(config.sel)
        out.append((g @ g[: config.axis_neuron].T).reshape(-1))
    return np.array(out)


TWINS = {"base": BASE, "two-sided": replace(BASE, type_one_side=False), "overflow": replace(BASE, sel=(2, 1))}


@pytest.mark.parametrize(
    ("name", "backend"),
    mark_slow(product(TWINS, FRAMEWORKS), [*product(TWINS, ["numpy", "torch"]), ("overflow", "tf")]),
)
def test_equals_slow_twin(name, backend):
    """Statistics that differ from slot to slot and from axis to axis show which slot each neighbour is in."""
    config, rng = TWINS[name], np.random.default_rng(1)
    model = StandardModel(("O", "H"), config, EnergyFitting(neuron=()))
    params = model.init(lambda _: rng, xp=plain)
    statistics = params["descriptor"]
    statistics["davg"], statistics["dstd"] = (
        rng.normal(0.0, 0.1, statistics["davg"].shape),
        rng.uniform(0.05, 0.2, statistics["dstd"].shape),
    )
    subject = Subject(model, params, backend)
    (sample,) = subject.systems["open"]
    assert_close(subject([sample])["descriptor"], slow_descriptor(config, statistics, sample), "descriptor")

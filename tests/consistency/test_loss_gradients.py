"""Gradients of the loss with respect to parameters: force terms need second derivatives, which are checked here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import require
from tolerances import assert_close

from deepmd.adapters.evaluation import OUTPUTS
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.losses import EnerLoss, total
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.tree import flatten, replace_leaves
from deepmd.host import plain
from deepmd.testing import ModelConformance
from deepmd.testing.samples import Subject

OFF = {f"{kind}_pref_{term}": 0.0 for kind in ("start", "limit") for term in ("e", "f", "v", "ae", "pf")}
EVERY = {f"start_pref_{term}": weight for term, weight in (("e", 0.5), ("f", 2.0), ("v", 0.3), ("ae", 0.7), ("pf", 1.1))}
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
STEP = 1e-5


class Example:
    """A model, three frames, and labels that it does not fit."""

    def __init__(self):
        descriptor = SeE2A(sel=(20, 20), rcut=3.0, rcut_smth=0.5, neuron=(2,), axis_neuron=2, resnet_dt=True, type_one_side=True)
        fitting = EnergyFitting(neuron=(3,), numb_fparam=1, numb_aparam=1, atom_ener=(None, -1.0))
        self.model = StandardModel(("O", "H"), descriptor, fitting)
        self.params = ModelConformance.parameters(self.model)
        self.subject = Subject(self.model, self.params, "numpy")
        samples = [*self.subject.systems["triclinic_small"], *self.subject.systems["open"], *self.subject.systems["one_atom"]]
        self.packed = self.subject.pack(samples)
        self.conditions = self.subject.conditions(samples, self.packed)
        self.natoms_F = np.array([float(len(sample.aparam)) for sample in samples])
        rng = np.random.default_rng(9)
        values = self.subject.evaluate(self.packed, self.conditions)
        self.labels = {name: values[name] + rng.normal(0.0, 0.5, values[name].shape) for name in ("energy", "force", "virial")}
        self.labels["atom_ener"] = values["atom_energy"] + rng.normal(0.0, 0.5, values["atom_energy"].shape)
        self.labels["atom_pref"] = rng.uniform(0.0, 2.0, (len(values["force"]), 1)) * np.ones(3)
        self.labels["atom_ener_coeff"] = rng.uniform(0.5, 1.5, len(values["atom_energy"]))

    def loss(self, loss, predictions, labels, pairs, natoms_F, xp):
        return total(loss.errors(predictions, labels, pairs, natoms_F, xp=xp), loss.prefactors(1.0))

    def value(self, loss, params):
        """The loss by NumPy."""
        predictions = replace(self.subject, params=params).evaluate(self.packed, self.conditions)
        return float(self.loss(loss, predictions, self.labels, self.packed.pairs, self.natoms_F, plain))

    def compare(self, loss, value, gradients):
        """Compare with the change of NumPy's loss along one random direction of each parameter."""
        assert_close(value, self.value(loss, self.params), "energy")
        rng, leaves = np.random.default_rng(10), flatten(self.params)
        directions = {path: rng.normal(size=leaf.shape) * np.abs(leaf).max() for path, leaf in leaves.items()}
        expected, actual = [], []
        for path, direction in directions.items():
            sides = [self.value(loss, replace_leaves(self.params, {**leaves, path: leaves[path] + h * direction})) for h in (STEP, -STEP)]
            expected.append((sides[0] - sides[1]) / (2.0 * STEP))
            actual.append(0.0 if gradients[path] is None else (gradients[path] * direction).sum())
        assert np.count_nonzero(expected) > len(expected) // 2
        assert_close(actual, expected, "finite difference")


@pytest.fixture(scope="module")
def example():
    return Example()


@pytest.mark.parametrize("name", LOSSES)
def test_torch(example, name):
    torch = require("torch")
    from deepmd.adapters.torch.arrays import conditions_to_torch, pairs_to_torch, params_to_torch, to_torch
    from deepmd.adapters.torch.evaluate import predict
    from deepmd.adapters.torch.namespace import xp

    tensors = params_to_torch(example.params)
    leaves = flatten(tensors)
    for leaf in leaves.values():
        leaf.requires_grad_()
    pairs, conditions = pairs_to_torch(example.packed.pairs), conditions_to_torch(example.conditions)
    sizes = len(example.packed.atoms), example.packed.num_frames
    predictions = predict(example.model, tensors, pairs, conditions, *sizes, frozenset(OUTPUTS), training=True)
    labels = {key: to_torch(array) for key, array in example.labels.items()}
    value = example.loss(LOSSES[name], predictions, labels, pairs, to_torch(example.natoms_F), xp)
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    gradients = {path: None if gradient is None else gradient.numpy() for path, gradient in zip(leaves, found, strict=True)}
    example.compare(LOSSES[name], value.detach().numpy(), gradients)


@pytest.fixture(scope="module")
def tf_graph(example):
    """One graph with the predictions, fed with the example; each loss adds its nodes."""
    tf = require("tensorflow")
    from deepmd.adapters.tf.graph import constant, feed, in_graph, placeholders, predictions, session

    graph, nodes = tf.Graph(), {}

    def make(path, array):
        nodes[path] = constant(path, array)
        return nodes[path]

    with graph.as_default():
        inputs = placeholders(example.model)
        outputs = predictions(example.model, in_graph(example.model, example.params, make), inputs)
    fed = feed(inputs, example.packed.pairs, example.conditions, len(example.packed.atoms), example.packed.num_frames)
    with session(graph) as running:
        yield graph, inputs, outputs, nodes, lambda fetches: running.run(fetches, fed)


@pytest.mark.parametrize("name", LOSSES)
def test_tensorflow(example, tf_graph, name):
    tf = require("tensorflow")
    from deepmd.adapters.tf.namespace import xp

    graph, inputs, outputs, nodes, run = tf_graph
    with graph.as_default():
        labels = {key: tf.constant(array) for key, array in example.labels.items()}
        value = example.loss(LOSSES[name], outputs, labels, inputs.pairs, tf.constant(example.natoms_F), xp)
        found = dict(zip(nodes, tf.gradients(value, list(nodes.values())), strict=True))
    used = {path: gradient for path, gradient in found.items() if gradient is not None}
    assert all(isinstance(gradient, tf.Tensor) for gradient in used.values()), "a gradient is not dense"
    number, gradients = run((value, used))
    example.compare(LOSSES[name], number, {path: gradients.get(path) for path in nodes})

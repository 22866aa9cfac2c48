"""Gradients of a loss with respect to parameters, by torch and TensorFlow, beside differences of the loss by NumPy."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property, partial

import numpy as np
from support import require
from tolerances import assert_close

from deepmd.array_model.components import descriptors_of, exchange_descriptors, trainable_flags
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.tree import flatten, replace_leaves
from deepmd.host import plain
from deepmd.losses import total
from deepmd.plan.expansions import ask_evaluation, choose_plan
from deepmd.plan.plans import direct_plan, domain_start, map_tables
from deepmd.testing import ModelConformance
from deepmd.testing.conformance import REALISTIC
from deepmd.testing.samples import Subject
from deepmd.train.trainable import trainable_paths

OFF = {f"{kind}_pref_{term}": 0.0 for kind in ("start", "limit") for term in ("e", "f", "v", "ae", "pf")}

STEP = 1e-5

DIRECTIONS = 4

DESCRIPTOR = SeE2A(
    sel=(20, 20), rcut=3.0, rcut_smth=0.5, neuron=(2,), axis_neuron=2, resnet_dt=True, type_one_side=True
)

DIRECT, WITHIN, BEYOND = 0.0, 1.0, 1.6
"""Start of the expansions in units of the shortest distance; 0: nets are evaluated directly.

Beyond the start they continue linearly.
"""


class Example:
    """A model, three frames, and labels that it does not fit.

    With expansions as they are trained if `start` says so.
    """

    wanted = frozenset({"energy", "force", "virial", "atom_energy"})

    def __init__(self, start, descriptor=DESCRIPTOR, parameters=ModelConformance.parameters):
        fitting = EnergyFitting(neuron=(3,), numb_fparam=1, numb_aparam=1, atom_ener=(None, -1.0))
        self.model = StandardModel(("O", "H"), descriptor, fitting)
        self.params = parameters(self.model)
        self.subject = Subject(self.model, self.params, "numpy")
        self.trainable = trainable_paths(self.params, trainable_flags(self.model))
        samples = [
            *self.subject.systems["triclinic_small"],
            *self.subject.systems["open"],
            *self.subject.systems["one_atom"],
        ]
        self.packed = self.subject.pack(samples)
        self.conditions = self.subject.conditions(samples, self.packed)
        self.natoms_F = np.array([float(sample.natoms) for sample in samples])
        rng = np.random.default_rng(9)
        values = self.subject.evaluate(self.packed, self.conditions)
        self.labels = {
            name: values[name] + rng.normal(0.0, 0.5, values[name].shape) for name in ("energy", "force", "virial")
        }
        self.labels["atom_ener"] = values["atom_energy"] + rng.normal(0.0, 0.5, values["atom_energy"].shape)
        self.labels["atom_pref"] = rng.uniform(0.0, 2.0, (len(values["force"]), 1)) * np.ones(3)
        self.labels["atom_ener_coeff"] = rng.uniform(0.5, 1.5, len(values["atom_energy"]))
        self.paths, self.plan = list(flatten(self.params)), direct_plan(self.model)
        if start:
            self.expand(start * self.subject.closest)

    def expand(self, closest):
        """Evaluate an expansion; whether it is left depends on the shortest distance that is assumed."""
        asked = exchange_descriptors(
            self.model, (ask_evaluation(part, "spectral") for part in descriptors_of(self.model))
        )
        self.plan, reason = choose_plan(asked, self.params, closest, stored=False)
        assert any(self.plan), reason
        outside = np.linalg.norm(self.packed.neighbours.disp_NM3, axis=-1) < domain_start(self.plan)
        assert outside.any() == (closest > self.subject.closest)
        assert not outside.all()
        self.subject = Subject(self.model, self.params, "numpy", chosen=self.plan)

    def loss(self, loss, predictions, labels, pairs, natoms_F, xp):
        return total(loss.errors(predictions, labels, pairs, natoms_F, xp=xp), loss.prefactors(1.0))

    @cached_property
    def directions(self):
        """Random directions {path: array}; each is one of many parameters, and each parameter has one."""
        rng, leaves = np.random.default_rng(10), flatten(self.params)
        parts = [self.paths[first::DIRECTIONS] for first in range(DIRECTIONS)]
        return [
            {path: rng.normal(size=leaves[path].shape) * np.abs(leaves[path]).max() for path in paths}
            for paths in parts
        ]

    @cached_property
    def shifted(self):
        """Predictions of NumPy at two points before and two behind along each direction; they serve every loss."""
        leaves = flatten(self.params)

        def moved(direction, by):
            return {**leaves, **{path: leaves[path] + by * along for path, along in direction.items()}}

        return [
            [self.predict(replace_leaves(self.params, moved(direction, k * STEP))) for k in (2, 1, -1, -2)]
            for direction in self.directions
        ]

    def predict(self, params):
        return replace(self.subject, params=params).evaluate(self.packed, self.conditions, self.wanted)

    def value(self, loss, predictions):
        """The loss by NumPy."""
        return float(self.loss(loss, predictions, self.labels, self.packed.neighbours, self.natoms_F, plain))

    def compare(self, loss, value, gradients):
        """Compare with the change of NumPy's loss along random directions; a wrong gradient of any parameter shows."""
        quantity = "force" if any(self.plan) else "energy"
        assert_close(value, self.value(loss, self.predict(self.params)), quantity)
        expected, actual = [], []
        for direction, points in zip(self.directions, self.shifted, strict=True):
            far, near, near_, far_ = (self.value(loss, predictions) for predictions in points)
            # four points: layer norms of two numbers bend too much for two
            expected.append((8.0 * (near - near_) - (far - far_)) / (12.0 * STEP))
            found = [
                (gradients[path] * along).sum() for path, along in direction.items() if gradients[path] is not None
            ]
            actual.append(sum(found))
        assert np.count_nonzero(expected) > len(expected) // 2
        assert_close(actual, expected, "finite difference")


@cache
def example_of(descriptor=DESCRIPTOR, start=DIRECT, parameters=ModelConformance.parameters):
    """An example, made once for all losses and backends."""
    return Example(start, descriptor, parameters)


def in_torch(example, loss):
    """The loss and its gradients {path: array or None} by torch."""
    torch = require("torch")
    from deepmd.adapters.torch.arrays import (
        conditions_to_torch,
        neighbours_to_torch,
        params_to_torch,
        to_numpy,
        to_torch,
    )
    from deepmd.adapters.torch.device import choose_device
    from deepmd.adapters.torch.evaluate import predict
    from deepmd.adapters.torch.namespace import xp

    device = torch.device(choose_device())
    tensors = params_to_torch(example.params, device)
    leaves = flatten(tensors)
    wanted = [leaves[path].requires_grad_() for path in example.paths]
    pairs = neighbours_to_torch(example.packed.neighbours, device)
    conditions = conditions_to_torch(example.conditions, device)
    sizes = len(example.packed.atoms), example.packed.num_frames
    plan = map_tables(partial(params_to_torch, device=device), example.plan)
    predictions = predict(example.model, tensors, pairs, conditions, plan, *sizes, example.wanted, training=True)
    labels = {key: to_torch(array, device) for key, array in example.labels.items()}
    value = example.loss(loss, predictions, labels, pairs, to_torch(example.natoms_F, device), xp)
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    return to_numpy(value), {
        path: None if gradient is None else to_numpy(gradient)
        for path, gradient in zip(example.paths, found, strict=True)
    }


@contextmanager
def tf_running(example):
    """One graph with the predictions, fed with the example; each loss adds its nodes.

    Yields what `in_torch` is, without the example.
    """
    tf = require("tensorflow")
    from deepmd.adapters.tf.graph import constant, feed, in_graph, placeholders, predictions, session
    from deepmd.adapters.tf.namespace import xp

    graph, nodes = tf.Graph(), {}

    def make(path, array):
        nodes[path] = constant(path, array)
        return nodes[path]

    with graph.as_default():
        inputs = placeholders(example.model)
        outputs = predictions(
            example.model,
            *in_graph(example.model, example.params, example.plan, make),
            inputs,
            example.wanted,
            training=True,
        )
    fed = feed(
        inputs, example.packed.neighbours, example.conditions, len(example.packed.atoms), example.packed.num_frames
    )

    def evaluate(loss):
        with graph.as_default():
            labels = {key: tf.constant(array) for key, array in example.labels.items()}
            value = example.loss(loss, outputs, labels, inputs.neighbours, tf.constant(example.natoms_F), xp)
            found = dict(zip(example.paths, tf.gradients(value, [nodes[path] for path in example.paths]), strict=True))
        used = {path: gradient for path, gradient in found.items() if gradient is not None}
        assert all(isinstance(gradient, tf.Tensor) for gradient in used.values()), "a gradient is not dense"
        number, gradients = running.run((value, used), fed)
        return number, {path: gradients.get(path) for path in example.paths}

    with session(graph) as running:
        yield evaluate


class Realistic(ModelConformance):
    deviations = REALISTIC


def gradients_by(backend, example, loss):
    if backend == "torch":
        return in_torch(example, loss)
    with tf_running(example) as evaluate:
        return evaluate(loss)

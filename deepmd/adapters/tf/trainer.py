"""Training in a TensorFlow graph: gradients by `tf.gradients`, updates by TensorFlow's own Adam kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.adapters.tf.checkpoint import save_checkpoint
from deepmd.adapters.tf.graph import feed, in_graph, placeholders, predictions, session
from deepmd.adapters.tf.namespace import xp
from deepmd.adapters.training import SMALLEST_NORM, Progress, Task, adam_epsilon
from deepmd.array_model.namespace import Params
from deepmd.array_model.spectral import Plan
from deepmd.array_model.tree import flatten, replace_leaves
from deepmd.data.batch import Batch
from deepmd.io.model_file import ModelFile
from deepmd.losses import Label, total
from deepmd.plan.plans import PLAN, tables_of
from deepmd.process import keep_memory


class TfTrainer:
    """See `deepmd.adapters.contracts.Trainer`."""

    def __init__(self, task: Task, params: Params, plan: Plan) -> None:
        self._task = task
        self._failure: tuple[int, float] | None = None
        self._build(params, plan)

    def _build(self, params: Params, plan: Plan) -> None:
        """Build the graph of a plan and set its variables; the moments of the optimizer are zero."""
        task, self._template = self._task, params
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._variables: dict[str, Any] = {}
            self._setters: dict[str, tuple[Any, Any]] = {}
            self._inputs = placeholders(task.model)
            tensors = in_graph(task.model, params, plan, self._parameter)
            prediction = predictions(task.model, *tensors, self._inputs, task.loss.needed(), training=True)
            self._labels = {name: self._label(name, shape) for name, shape in task.loss.labels().items()}
            self._natoms = tf.compat.v1.placeholder(tf.float64, [None], name="label/natoms")
            self._scalars = {
                name: tf.compat.v1.placeholder(tf.float64, [], name=f"scalar/{name}")
                for name in ("lr", "beta1_t", "beta2_t", "epsilon")
            }
            self._prefactors = {
                term: tf.compat.v1.placeholder(tf.float64, [], name=f"prefactor/{term}") for term in task.loss.terms()
            }
            errors = task.loss.errors(prediction, self._labels, self._inputs.neighbours, self._natoms, xp=xp)
            self._loss = total(errors, self._prefactors)
            self._shown = {term: values["shown"] for term, values in errors.items()}
            self._update = self._adam()
            self._session = session(self._graph)
        given = flatten({**params, PLAN: tables_of(plan)})
        self._assign({f"param/{path}": array for path, array in given.items() if path not in task.shared})
        self._assign(
            {
                name: np.zeros(self._variables[name].shape.as_list())
                for name in self._variables
                if name.startswith("adam/")
            }
        )

    def replan(self, plan: Plan) -> None:
        """Replace the plan of the embedding nets: build another graph, and restore parameters and moments in it."""
        params, moments = self.params(), self.moments()
        self._build(params, plan)
        self._assign({f"adam/{name}": array for name, array in moments.items()})

    def step(self, batch: Batch, lr: float, prefactors: dict[str, float], number: int) -> None:
        """Make one update."""
        adam = self._task.adam
        values = {
            "lr": lr,
            "beta1_t": adam.beta1**number,
            "beta2_t": adam.beta2**number,
            "epsilon": adam_epsilon(adam, number),
        }
        fed = {self._scalars[name]: value for name, value in values.items()}
        loss, _ = self._session.run([self._loss, self._update], {**self._feed(batch, prefactors), **fed})
        if self._failure is None and not np.isfinite(loss):
            self._failure = number, float(loss)

    def failure(self) -> tuple[int, float] | None:
        """Return the first update whose loss was not finite."""
        return self._failure

    def errors(self, batch: Batch, prefactors: dict[str, float]) -> dict[str, float]:
        """Return the loss and the mean shown for each term."""
        values = self._session.run({"loss": self._loss, **self._shown}, self._feed(batch, prefactors))
        return {name: float(value) for name, value in values.items()}

    def params(self) -> Params:
        """Return a copy of the parameters."""
        shared = self._task.shared
        values = self._session.run(
            {path: self._variables[f"param/{shared.get(path, path)}"] for path in flatten(self._template)}
        )
        out: Params = replace_leaves(self._template, values)
        return out

    def moments(self) -> dict[str, np.ndarray]:
        """Return a copy of the optimizer's moments."""
        values = self._session.run(
            {name: variable for name, variable in self._variables.items() if name.startswith("adam/")}
        )
        return {name.removeprefix("adam/"): value for name, value in values.items()}

    def restore(self, moments: dict[str, np.ndarray], number: int) -> None:
        """Continue from stored moments."""
        self._assign({f"adam/{name}": array for name, array in moments.items()})

    def save(self, prefix: Path, content: ModelFile, progress: Progress) -> str:
        """Write `PREFIX-STEP.{index,meta,data-00000-of-00001}`."""
        path = prefix.with_name(f"{prefix.name}-{progress.step}")
        save_checkpoint(path, content, progress, self._graph)
        return path.name

    # -- parts of the graph -----------------------------------------------------------------------------------------

    def _variable(self, name: str, array: np.ndarray) -> Any:
        """Make a variable and its setter. Values are fed, so that the graph holds no copy of the values."""
        fed = tf.compat.v1.placeholder(array.dtype, array.shape)
        variable = tf.Variable(fed, name=name, trainable=False)
        self._variables[name], self._setters[name] = variable, (fed, variable.initializer)
        return variable

    def _parameter(self, path: str, array: np.ndarray) -> Any:
        original = self._task.shared.get(path)
        return tf.convert_to_tensor(
            self._variable(f"param/{path}", array) if original is None else self._variables[f"param/{original}"]
        )

    def _assign(self, values: dict[str, np.ndarray]) -> None:
        self._session.run(
            [self._setters[name][1] for name in values],
            {self._setters[name][0]: value for name, value in values.items()},
        )

    @staticmethod
    def _label(name: str, shape: Label) -> Any:
        return tf.compat.v1.placeholder(tf.float64, [None, *shape.sizes], name=f"label/{name}")

    def _adam(self) -> Any:
        """Make the operation of one update: clipping by the global norm, weight decay, Adam (see `Adam`)."""
        adam, trained = self._task.adam, self._task.trainable
        variables = [self._variables[f"param/{path}"] for path in trained]
        gradients = tf.gradients(self._loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if adam.max_norm > 0.0:
            square = tf.add_n([tf.reduce_sum(tf.square(tf.cast(gradient, tf.float64))) for gradient in gradients])
            scale = tf.minimum(adam.max_norm / (tf.sqrt(square) + SMALLEST_NORM), 1.0)
            gradients = [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]
        updates = []
        for path, variable, gradient in zip(trained, variables, gradients, strict=True):
            moments = [
                self._variable(f"adam/{kind}/{path}", np.zeros(variable.shape.as_list(), variable.dtype.as_numpy_dtype))
                for kind in "mv"
            ]
            scalars = {name: tf.cast(value, variable.dtype) for name, value in self._scalars.items()}
            if adam.weight_decay and not adam.decoupled:
                gradient = gradient + adam.weight_decay * tf.convert_to_tensor(variable)
            with tf.control_dependencies([gradient]):  # the parameter is read before it changes
                decay = (
                    [variable.assign_sub(scalars["lr"] * adam.weight_decay * variable).op]
                    if adam.weight_decay and adam.decoupled
                    else []
                )
            with tf.control_dependencies(decay):
                update = tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=moments[0].handle,
                    v=moments[1].handle,
                    beta1_power=scalars["beta1_t"],
                    beta2_power=scalars["beta2_t"],
                    lr=scalars["lr"],
                    beta1=tf.constant(adam.beta1, variable.dtype),
                    beta2=tf.constant(adam.beta2, variable.dtype),
                    epsilon=scalars["epsilon"],
                    grad=gradient,
                )
            updates.append(update)
        # a run returns the loss before its update: an update waits for its gradient, which depends on the prediction
        # and so on the reads of all parameters
        return tf.group(*updates)

    def _feed(self, batch: Batch, prefactors: dict[str, float]) -> dict[Any, Any]:
        fed = feed(self._inputs, batch.neighbours, batch.conditions, len(batch.neighbours.type_N), len(batch.natoms_F))
        fed.update({self._labels[name]: array for name, array in batch.labels.items()})
        fed.update({self._prefactors[term]: value for term, value in prefactors.items()})
        fed[self._natoms] = batch.natoms_F
        return fed


def trainer(task: Task, params: Params, plan: Plan) -> TfTrainer:
    """Return the trainer of a task."""
    keep_memory()
    return TfTrainer(task, params, plan)

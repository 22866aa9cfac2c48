"""Parts that programs in exported files share (`.pb`: export.py, SavedModel: savedmodel.py): model, cells, checks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tensorflow as tf

from deepmd.adapters.tf.graph import constant, gradients, in_graph
from deepmd.adapters.tf.namespace import require, xp
from deepmd.array_model.conditions import CONDITIONS, Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.spectral import Plan
from deepmd.plan.plans import direct_plan, domain_start


def exact_values(
    model: Model, params: Params, plan: Plan, neighbours: Neighbours, conditions: Conditions, wanted: frozenset[str]
) -> tuple[Any, Any, list[Any]]:
    """Return atomic values, features and derivatives (see `gradients`) for any distances.

    Expansions are evaluated if all pairs are inside their domain, otherwise the nets themselves. Each branch contains
    its derivatives, so that only the branch that runs is differentiated.
    """
    tensors, expansions = in_graph(model, params, plan, constant)
    start = domain_start(plan)

    def outputs(plan: Plan) -> tuple[Any, ...]:
        own = replace(neighbours, disp_NM3=tf.identity(neighbours.disp_NM3))
        value_Nd, descriptor_ND = model.atomic_output(tensors, own, conditions, plan, xp=xp)
        grads = gradients(model, value_Nd, own, wanted) if model.output.differentiable else []
        return value_Nd, descriptor_ND, *grads

    if start > 0.0:
        square_NM = tf.reduce_sum(neighbours.disp_NM3 * neighbours.disp_NM3, axis=2)
        inside = tf.reduce_all(square_NM >= start * start)
        value_Nd, descriptor_ND, *grads = tf.cond(
            inside, lambda: outputs(expansions), lambda: outputs(direct_plan(model))
        )
    else:
        value_Nd, descriptor_ND, *grads = outputs(expansions)
    return value_Nd, descriptor_ND, grads


def limit_checks(name: str, values: Any, argument: str) -> list[Any]:
    """Make the operations that stop a run whose condition `name` is out of range; `argument` is its name in errors."""
    checks, limits = [], CONDITIONS[name].limits
    for column, (quantity, (low, high)) in enumerate(limits.items()):
        each = tf.reshape(values, [-1, len(limits)])[:, column]
        inside = tf.reduce_all((each > low - 1) & (each < high + 1))  # values are truncated to integers
        checks.append(require(inside, f"{argument}: accepted for the {quantity}: {low} to {high}. Given:", each))
    return checks

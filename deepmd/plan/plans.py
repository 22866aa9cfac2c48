"""What is asked of a plan on the host: its arrays, its terms, its domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.spectral import Plan

PLAN = "plan"
"""Name of a plan's arrays among those of a file or a graph: `plan/PART/NAME`, beside the paths of the parameters."""


def direct_plan(model: Model) -> Plan:
    """Return the plan that evaluates all nets themselves."""
    return (None,) * len(descriptors_of(model))


def tables_of(plan: Plan) -> list[Params]:
    """Return the arrays of a plan, {} for a part without expansion: a tree beside that of the parameters."""
    return [expansion.tables if expansion else {} for expansion in plan]


def with_tables(plan: Plan, tables: Sequence[Params]) -> Plan:
    """Return the plan with other arrays, those of another framework for instance."""
    return tuple(old and replace(old, tables=new) for old, new in zip(plan, tables, strict=True))


def map_tables(function: Callable[[Params], Params], plan: Plan) -> Plan:
    """Apply `function` to the arrays of each expansion."""
    return with_tables(plan, [function(tables) for tables in tables_of(plan)])


def count_terms(plan: Plan) -> tuple[int, ...]:
    """Return the number of terms of each part, 0 where the nets themselves are evaluated."""
    return tuple(expansion.terms if expansion else 0 for expansion in plan)


def domain_start(plan: Plan) -> float:
    """Return the start of the domain, Angstrom: expansions do not represent the nets of a nearer pair.

    0 without expansions.
    """
    return max((float(expansion.tables["closest"]) for expansion in plan if expansion), default=0.0)


def needs_order(plan: Plan) -> bool:
    """Whether the slots of a section must be sorted by distance.

    Moments count all slots of a section alike, so that one expansion alone needs no sort. Members of hybrids and of
    combinations take the nearest slots of a common list.
    """
    return len(plan) != 1 or plan[0] is None

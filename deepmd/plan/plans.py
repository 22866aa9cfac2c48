"""Queries of a plan on the host: arrays, numbers of terms, start of the domain, need of sorted neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.spectral import DOMAIN_START, Plan

PLAN = "plan"
"""Prefix of a plan's arrays in files and graphs: `plan/PART/NAME`, beside the paths of the parameters."""


def direct_plan(model: Model) -> Plan:
    """Return the plan of direct evaluation."""
    return (None,) * len(descriptors_of(model))


def tables_of(plan: Plan) -> list[Params]:
    """Return the arrays of each part of a plan, {} without expansion: a tree like the parameters."""
    return [expansion.tables if expansion else {} for expansion in plan]


def with_tables(plan: Plan, tables: Sequence[Params]) -> Plan:
    """Return the plan with other arrays, for instance arrays of another framework."""
    return tuple(old and replace(old, tables=new) for old, new in zip(plan, tables, strict=True))


def map_tables(function: Callable[[Params], Params], plan: Plan) -> Plan:
    """Apply `function` to the arrays of each expansion."""
    return with_tables(plan, [function(tables) for tables in tables_of(plan)])


def count_terms(plan: Plan) -> tuple[int, ...]:
    """Return the number of terms of each part, 0 for direct evaluation."""
    return tuple(expansion.terms if expansion else 0 for expansion in plan)


def domain_start(plan: Plan) -> float:
    """Return the start of the common domain of all expansions, Angstrom; 0 without expansions.

    Expansions do not represent the nets for pairs that are nearer.
    """
    return max((float(expansion.tables[DOMAIN_START]) for expansion in plan if expansion), default=0.0)


def needs_order(plan: Plan) -> bool:
    """Whether the slots of a section must be sorted by distance. False skips the sort in packing.

    A single expansion is invariant to the order of the slots of a section. Members of hybrids and of combinations need
    the order, because they take the nearest slots of a common list.
    """
    return len(plan) != 1 or plan[0] is None

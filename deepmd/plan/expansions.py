"""Whether the embedding nets of a model are evaluated as expansions, and with how many terms."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.namespace import PRECISIONS, Params, dtype_of
from deepmd.array_model.tree import map_leaves
from deepmd.host import plain
from deepmd.plan import chebyshev

TOLERANCE = {"float64": 1e-10, "float32": 1e-6}
"""Largest neglected coefficient relative to the largest one, each weighted with the square of its number: |T_k'(x)| <= k^2."""

HEADROOM = 1.25
"""Terms planned for training in units of those needed now: weights grow, and every new plan costs a new graph."""

UNKNOWN_DISTANCE = 0.5
"""Start of the domain where nothing is known about the data, Angstrom."""

MARGIN = 0.9
"""Start of the domain in units of the shortest known distance."""


def evaluation_of(model: Any) -> str | int:
    """Return how embedding nets are evaluated (an option of descriptors): the largest number of terms, or the choice."""
    choices = [part.evaluation for part in model.parts]
    terms = max((choice for choice in choices if isinstance(choice, int)), default=0)
    return terms or next((choice for choice in choices if choice != "direct"), "direct")


def with_evaluation(model: Any, evaluation: str | int) -> Any:
    """Return the model with another way to evaluate its embedding nets, except where they are to be evaluated directly, or there are none."""
    return model.with_parts(
        part if part.evaluation == "direct" else part.with_evaluation(evaluation) for part in model.parts
    )


def expanded(model: Any, params: Params, closest: float | None, *, stored: bool) -> tuple[Any, Params, str]:
    """Plan expansions of the embedding nets of a model, in training all of the same number of terms.

    Parameters
    ----------
    params : parameters; expansions among them are replaced
    closest : shortest distance of the data, Angstrom, if it is known
    stored : keep the coefficients with the plan; otherwise they follow the nets, as training needs

    Returns
    -------
    Model and parameters with their expansions. The text says of each part without one why, unless none was asked for.
    """
    params = map_leaves(lambda leaf: leaf, params)  # dicts of its own
    places = model.each_part(params)

    def planned(parts: Iterable[Any]) -> list[tuple[Any, Params, str]]:
        return [
            expanded_part(part, own, closest, stored=stored) for part, (_, _, own) in zip(parts, places, strict=True)
        ]

    done = planned(part for _, part, _ in places)
    counts = {config.evaluation for config, _, _ in done if isinstance(config.evaluation, int)}
    if len(counts) > 1 and not stored:  # one number describes the plan, so that a restart finds the same
        done = planned(
            config.with_evaluation(max(counts)) if isinstance(config.evaluation, int) else config
            for config, _, _ in done
        )
    for (_, _, own), (_, changed, _) in zip(places, done, strict=True):
        own.pop("tables", None)
        if "tables" in changed:
            own["tables"] = changed["tables"]
    named = len(done) > 1
    reasons = [
        f"{where}: {reason}" if named else reason
        for (where, _, _), (_, _, reason) in zip(places, done, strict=True)
        if reason
    ]
    return model.with_parts(config for config, _, _ in done), params, "; ".join(reasons)


def expanded_part(part: Any, params: Params, closest: float | None, *, stored: bool) -> tuple[Any, Params, str]:
    """Plan the expansion of the embedding nets of one descriptor (see `expanded`).

    A number of terms planned before is never lowered.
    """
    if not isinstance(part, Expandable):
        return part, params, f"{part.kind} has none of its nets expanded"
    params = {name: value for name, value in params.items() if name != "tables"}
    direct = part.with_evaluation("direct")
    if part.evaluation == "direct":
        return direct, params, ""
    if PRECISIONS[part.precision] not in TOLERANCE:
        return direct, params, f"the precision is {part.precision}"
    ntypes = len(params["davg"])
    if reason := part.obstacle(ntypes, stored=stored):
        return direct, params, reason
    for name in ("davg", "dstd"):
        if np.abs(params[name] - params[name][:, 0:1, :]).max() > 0.0:
            return direct, params, f"{name} differs between the slots of a type"
    wide = map_leaves(lambda leaf: plain.astype(leaf, plain.float64), params)
    start = UNKNOWN_DISTANCE if closest is None else MARGIN * closest
    radial = environment_rows(np.array([start, 0.0, 0.0]), part.rcut_smth, part.rcut, part.env_protection, xp=plain)[0]
    if radial <= 0.0:
        return direct, params, f"the shortest known distance, {closest} Angstrom, is not within the cutoff"
    scale, groups = np.asarray(2.0 / part.reach(wide, float(radial), xp=plain)), range(len(part.functions(ntypes)))

    def values(x_Q: np.ndarray) -> np.ndarray:
        argument_Q = part.argument(x_Q, scale, xp=plain)
        return np.concatenate(
            [net for group in groups for net in part.values(wide, group, argument_Q, xp=plain)], axis=1
        )

    before = 0 if stored or isinstance(part.evaluation, str) else part.evaluation
    count = _terms(values, TOLERANCE[PRECISIONS[part.precision]], before, stored=stored)
    if count is None:
        return direct, params, f"the embedding nets need more than {chebyshev.MOST_TERMS} terms"
    if part.evaluation == "auto" and not part.pays(count):
        return direct, params, f"the embedding nets themselves cost less than {count} terms"
    config = part.with_evaluation(count)
    tables: Params = {"scale": scale, "closest": np.asarray(start)}
    at_nodes = {
        "nodes": part.argument(chebyshev.nodes(count), scale, xp=plain),
        "transform": chebyshev.constants(count),
    }
    if stored:
        both = [config.expansion({**wide, "tables": {**tables, **at_nodes}}, group, xp=plain) for group in groups]
        tables |= {"coefficients": [np.concatenate(c) for c, _ in both], "starts": [start_JG for _, start_JG in both]}
        at_nodes = {}
    dtype = dtype_of(part.precision, xp=plain)
    tables = {**map_leaves(lambda leaf: plain.astype(leaf, dtype), tables), **at_nodes}
    return config, {**params, "tables": tables}, ""


def _terms(values: Any, tolerance: float, before: int, *, stored: bool) -> int | None:
    """Return how many terms to use: what is needed (see `terms_needed`) where the weights are fixed and coefficients stored.

    Training keeps the number planned `before` (0 for none) as long as it is enough, then takes more than is needed now;
    not in single precision, where slopes lose digits with the square of the number.
    """
    needed = chebyshev.terms_needed(values, tolerance)
    if needed is None or stored:
        return needed
    headroom = HEADROOM if tolerance <= TOLERANCE["float64"] else 1.0
    return before if needed <= before else min(8 * math.ceil(headroom * needed / 8), chebyshev.MOST_TERMS)


def without_tables(model: Any, params: Params) -> Params:
    """Return the parameters of a model without expansions."""
    params = map_leaves(lambda leaf: leaf, params)
    for _, _, own in model.each_part(params):
        own.pop("tables", None)
    return params


def direct_evaluation(model: Any, params: Params) -> tuple[Any, Params]:
    """Return a model that evaluates its nets themselves, and its parameters without expansions."""
    return model.with_parts(part.with_evaluation("direct") for part in model.parts), without_tables(model, params)


def domain_start(model: Any, params: Params) -> float:
    """Return the start of the domain, Angstrom: expansions do not represent the nets of a nearer pair.

    0 without expansions.
    """
    return max(
        (float(own["tables"]["closest"]) for _, _, own in model.each_part(params) if "tables" in own), default=0.0
    )

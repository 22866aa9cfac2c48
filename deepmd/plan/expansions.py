"""Choice of the plan: which embedding nets are expanded, with how many terms, on which domain (docs/design.md).

NumPy only. The evaluation of expansions is `array_model/spectral.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deepmd.array_model.components import descriptors_with
from deepmd.array_model.contracts import Model
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.namespace import PRECISIONS, Params, dtype_of
from deepmd.array_model.spectral import DOMAIN_START, Expansion, Plan
from deepmd.array_model.tree import map_leaves
from deepmd.host import plain
from deepmd.plan import chebyshev

TOLERANCE = {"float64": 1e-10, "float32": 1e-6}
"""Largest neglected coefficient, relative to the largest coefficient.

Coefficients are weighted with k^2, because slopes obey |T_k'(x)| <= k^2.
"""

HEADROOM = 1.25
"""Terms planned for training / terms needed now, because weights grow and every new plan costs a new graph."""

UNKNOWN_DISTANCE = 0.5
"""Start of the domain if the shortest distance of the data is unknown, Angstrom."""

MARGIN = 0.9
"""Start of the domain / shortest distance of the data."""


def ask_evaluation(part: Any, evaluation: str) -> Any:
    """Return a descriptor with another option `evaluation`; a descriptor without that option stays as it is."""
    return part if not isinstance(part, Expandable) else replace(part, evaluation=evaluation)  # type: ignore[type-var]


def choose_plan(
    model: Model, params: Params, closest: float | None, *, stored: bool, before: Sequence[int] | None = None
) -> tuple[Plan, str]:
    """Choose the evaluation of the embedding nets of a model. In training all expansions have equal numbers of terms.

    Parameters
    ----------
    closest : shortest distance of the data, Angstrom; None if unknown
    stored : True: the plan stores coefficients. False: coefficients follow the nets, as training needs
    before : terms of each part in the plan so far (`count_terms`): no part gets fewer, and 0 stays direct evaluation

    Returns
    -------
    The plan, and the reason for each part that is evaluated directly although its option `evaluation` is not "direct".
    """
    places = descriptors_with(model, params)
    least: Sequence[int | None] = [None] * len(places) if before is None else before
    chosen = [
        expand_nets(part, own, closest, stored=stored, least=terms)
        for (_, part, own), terms in zip(places, least, strict=True)
    ]
    plan = [expansion for expansion, _ in chosen]
    most = max((expansion.terms for expansion in plan if expansion), default=0)
    for k, (_, part, own) in enumerate(places):
        if not stored and (expansion := plan[k]) and expansion.terms < most:
            plan[k], _ = expand_nets(part, own, closest, stored=stored, least=most)
    reasons = [
        f"{where}: {reason}" if len(places) > 1 else reason
        for (where, _, _), (_, reason) in zip(places, chosen, strict=True)
        if reason
    ]
    return tuple(plan), "; ".join(reasons)


def expand_nets(
    part: Any, params: Params, closest: float | None, *, stored: bool, least: int | None = None
) -> tuple[Expansion | None, str]:
    """Expand the embedding nets of one descriptor according to its option `evaluation`.

    Parameters
    ----------
    params : parameters of the descriptor
    closest, stored : see `choose_plan`
    least : terms in the plan that the expansion replaces, 0 for direct evaluation; None without such a plan

    Returns
    -------
    The expansion, or None and the reason ("" if direct evaluation was requested).
    """
    if not isinstance(part, Expandable):
        return None, f"{part.kind} has none of its nets expanded"
    if part.evaluation == "direct" or least == 0:
        return None, ""
    if PRECISIONS[part.precision] not in TOLERANCE:
        return None, f"the precision is {part.precision}"
    auto, ntypes = part.evaluation == "auto" and least is None, len(params["davg"])
    if reason := part.obstacle(ntypes, auto=auto, stored=stored):
        return None, reason
    for name in ("davg", "dstd"):
        if np.abs(params[name] - params[name][:, 0:1, :]).max() > 0.0:
            return None, f"{name} differs between the slots of a type"
    wide = map_leaves(lambda leaf: plain.astype(leaf, plain.float64), params)
    start = UNKNOWN_DISTANCE if closest is None else MARGIN * closest
    radial = environment_rows(np.array([start, 0.0, 0.0]), part.rcut_smth, part.rcut, part.env_protection, xp=plain)[0]
    if radial <= 0.0:
        return None, f"the shortest known distance, {closest} Angstrom, is not within the cutoff"
    scale, groups = np.asarray(2.0 / part.domain_end(wide, float(radial), xp=plain)), range(len(part.functions(ntypes)))

    def values(x_Q: np.ndarray) -> np.ndarray:
        """All functions of all groups at abscissas, (Q, columns)."""
        argument_Q = part.argument(x_Q, scale, xp=plain)
        return np.concatenate(
            [net for group in groups for net in part.values(wide, group, argument_Q, xp=plain)], axis=1
        )

    tolerance = TOLERANCE[PRECISIONS[part.precision]]
    terms = chebyshev.terms_needed(values, tolerance)
    if terms is not None and not stored:
        asked = 0 if isinstance(part.evaluation, str) else part.evaluation
        terms = _add_headroom(terms, tolerance, asked if least is None else least)
    if terms is None:
        return None, f"the embedding nets need more than {chebyshev.MOST_TERMS} terms"
    if auto and not part.is_cheaper(terms):
        return None, f"the embedding nets themselves cost less than {terms} terms"
    dtype = dtype_of(part.precision, xp=plain)
    domain = {"scale": plain.astype(scale, dtype), DOMAIN_START: plain.astype(np.asarray(start), dtype)}
    at_nodes = {
        "nodes": part.argument(chebyshev.nodes(terms), scale, xp=plain),
        "transform": chebyshev.constants(terms),
    }
    expansion = Expansion(terms, {**domain, **at_nodes})
    if not stored:
        return expansion, ""
    each = [part.contractions(wide, expansion, group, xp=plain) for group in groups]
    coefficients = [np.concatenate(matrices) for matrices, _ in each]
    return Expansion(terms, {**domain, "coefficients": coefficients, "starts": [starts for _, starts in each]}), ""


def _add_headroom(needed: int, tolerance: float, least: int) -> int:
    """Return the terms of a plan for training: `least` if `least` is enough, otherwise the needed terms with headroom.

    Single precision has no headroom, because slopes lose digits with the square of the number of terms.
    """
    headroom = HEADROOM if tolerance <= TOLERANCE["float64"] else 1.0
    return least if needed <= least else min(8 * math.ceil(headroom * needed / 8), chebyshev.MOST_TERMS)

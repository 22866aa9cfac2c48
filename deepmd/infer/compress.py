"""`dp compress`: store the Chebyshev expansions of the embedding nets. Terms and domain: plan/expansions.py."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from autograd import make_vjp
from numpy.polynomial.chebyshev import chebvander

from deepmd.adapters.numpy.namespace import differentiable
from deepmd.array_model.components import descriptors_with
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.spectral import Expansion, Plan
from deepmd.array_model.tree import map_leaves
from deepmd.data.selection import select_systems
from deepmd.data.statistics import neighbour_statistics
from deepmd.io.formats import check_target, find_frozen, load_model, save_model
from deepmd.io.model_file import ModelFile, known_distance
from deepmd.plan.expansions import MARGIN, ask_evaluation, expand_nets

log = logging.getLogger(__name__)

GRID = 4001
"""Points of the domain at which expansions are compared with the nets."""


def compress_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] = "frozen_model_compressed",
    *,
    training_script: str | os.PathLike[str] | None = None,
    extrapolate: float | None = None,
    backend: str | None = None,
) -> Path:
    """Write a model with its expansions stored; return the path.

    The nets stay in the file, so that the file converts as any other.

    Members of hybrids and of sums of models are expanded one by one. Members without an expansion are evaluated by
    their nets, and the log says which and why.

    The domain of an expansion is a range of s, the switched inverse distance. The nets are evaluated for nearer pairs.
    By default the domain starts at 0.9 (MARGIN) of the shortest distance in the training data, which takes few terms.
    `extrapolate` = E starts the domain at 1/E of that distance, thus extends s to E times its largest value, as the
    tables of DeePMD-kit do. The default is not 5 as in DeePMD-kit, because terms grow with the range: DeePMD-kit
    tabulates the outer part more coarsely, while the tolerance here is the same everywhere (docs/files.md#compression).

    Parameters
    ----------
    source : model file of any format, with or without suffix (`deepmd.io.formats.find_frozen`). A compressed file is
        compressed anew, from its nets
    target : model file to write; without a suffix: the suffix of the source
    training_script : input.json whose training data tell the shortest distance if the source does not
    extrapolate : see above; at least 1
    backend : says which suffix a source without one has
    """
    if extrapolate is not None and not (math.isfinite(extrapolate) and extrapolate >= 1.0):
        raise InputError(f"extrapolate is {extrapolate}; accepted: a number of at least 1")
    source, target = find_frozen(source, backend), Path(target)
    if not target.suffix:
        target = target.with_suffix(source.suffix)
    content = load_model(source)
    check_target(target, source, *(() if training_script is None else (training_script,)))
    if not descriptors_with(content.model, content.params):
        raise InputError(f"{source}: cannot be compressed: a model of type {content.model.kind} has no nets to expand")
    distance = known_distance(content) or _distance_of_data(content, source, training_script)
    start = MARGIN * distance if extrapolate is None else distance / extrapolate
    parts = descriptors_with(content.model, content.params)
    plan, reasons = _expand_parts(parts, start)
    if not any(plan):
        each = [f"{where}: {reason}" for where, reason in reasons.items()]
        reason = "; ".join(each) if len(each) > 1 else next(iter(reasons.values()))
        raise InputError(f"{source}: cannot be compressed: {reason}")
    save_model(target, replace(content, min_nbor_dist=distance, plan=plan))
    log.info(
        "shortest distance of the data: %.3f Angstrom; the expansions hold from %.3f Angstrom to the cutoff",
        distance,
        start,
    )
    for (where, part, own), expansion in zip(parts, plan, strict=True):
        if expansion:
            log.info("%s (%s): number of terms: %d", where, part.kind, expansion.terms)
            text = "%s: largest deviation from the networks, relative to the largest value: %.1e; of slopes: %.1e"
            log.info(text, where, *measure_deviations(part, own, expansion))
    for where, reason in reasons.items():
        log.info("%s: its networks are evaluated as they are: %s", where, reason)
    log.info("Saved compressed model to %s", target)
    return target


def _expand_parts(parts: Sequence[tuple[str, Any, Params]], start: float) -> tuple[Plan, dict[str, str]]:
    """Return expansions that reach down to `start` (Angstrom), and the reason for each descriptor without one."""
    plan, reasons = [], {}
    for where, part, own in parts:
        # expand_nets multiplies the distance by MARGIN
        expansion, reason = expand_nets(ask_evaluation(part, "spectral"), own, start / MARGIN, stored=True)
        if not isinstance(part, Expandable):
            reason = f"descriptors of type {part.kind} are not stored as expansions"
        elif reason:
            reason = f"{reason} (activation function {part.activation_function}, distances from {start:.3f} Angstrom)"
        plan.append(expansion)
        if reason:
            reasons[where] = reason
    return tuple(plan), reasons


def _distance_of_data(content: ModelFile, source: Path, training_script: str | os.PathLike[str] | None) -> float:
    """Return the shortest distance (Angstrom) in the training data of an input."""
    if training_script is None:
        what = "give the input that it was trained with: --training-script input.json (-t)"
        raise InputError(f"{source}: does not tell the shortest distance of its training data; {what}")
    model, rcut = content.model, content.model.layout().rcut
    selection = select_systems(train_data=str(training_script))
    systems = [selection.load(path, model.type_map, names=()) for path in selection.paths]
    shortest, _ = neighbour_statistics(systems, [rcut], model.ntypes)
    if not shortest < rcut:
        raise InputError(
            f"{training_script}: no two atoms of the training data are within the cutoff of {rcut} Angstrom"
        )
    log.info("training data with min nbor dist: %f", shortest)
    return shortest


def measure_deviations(descriptor: Any, params: Params, expansion: Expansion) -> tuple[float, float]:
    """Return the largest deviations of an expansion from the nets, of values and of slopes, relative to the largest.

    All pairs of types are compared at GRID points of the domain, both ends included.
    """
    wide = partial(np.asarray, dtype=np.float64)
    params, tables, terms = map_leaves(wide, params), map_leaves(wide, expansion.tables), expansion.terms
    x_Q = np.linspace(-1.0, 1.0, GRID)
    # T_m(y), then x T_m(y), with y = 2x^2 - 1 and m < K/2 (array_model/spectral.py)
    even_QK = chebvander(2.0 * x_Q * x_Q - 1.0, terms // 2 - 1)
    basis_QK = np.concatenate([even_QK, x_Q[:, None] * even_QK], axis=1)
    differences, sizes = np.zeros(2), np.zeros(2)
    for group, functions in enumerate(descriptor.functions(len(params["davg"]))):
        # each function has coefficients of its values, then of its slopes
        stored = tables["coefficients"][group].reshape(functions, 2, terms, descriptor.neuron[-1])
        for number in range(functions):

            def values(x_Q1: Any, group: int = group, number: int = number) -> Any:
                argument_Q = descriptor.argument(x_Q1[:, 0], tables["scale"], xp=differentiable)
                return descriptor.values(params, group, argument_Q, xp=differentiable)[number]

            exact = _value_and_slope(values, x_Q)
            for k in range(2):
                sizes[k] = max(sizes[k], np.abs(exact[k]).max())
                differences[k] = max(differences[k], np.abs(basis_QK @ stored[number, k] - exact[k]).max())
    relative = differences / np.maximum(sizes, np.finfo(np.float64).tiny)
    return float(relative[0]), float(relative[1])


def _value_and_slope(function: Any, x_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (Q, G) of a function of (Q, 1), and its forward-mode derivative by double-vjp, row by row.

    The vjp g -> J^T g is linear in g, so that its own vjp is the derivative J u, here with u = 1.
    """
    adjoint, value_QG = make_vjp(function)(x_Q[:, None])
    forward, _ = make_vjp(adjoint)(np.zeros_like(value_QG))
    return value_QG, forward(np.ones((len(x_Q), 1)))

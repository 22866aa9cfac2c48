"""Comparison of outputs at the table of tolerances, and their transformation under symmetries."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.contracts import Model
from deepmd.plan.plans import tables_of
from deepmd.testing.samples import Results, Subject
from deepmd.testing.tolerances import assert_close

QUANTITY = {"descriptor": "descriptor", "force": "force", "virial": "virial", "atom_virial": "virial"}
"""Row of the table of tolerances by output; outputs that are not listed are predictions, compared as energies are."""


def compare(results: Results, expected: Results, subject: Subject, quantity: str = "", where: str = "") -> None:
    """Compare all outputs at the tolerances of the subject's precision; `quantity` overrides the row of each output."""
    assert results.keys() == expected.keys()
    for name, values in results.items():
        row = quantity or QUANTITY.get(name, "energy")
        assert_close(values, expected[name], row, subject.precision, what=f"{where} {name}".strip())


def without_image_dependence(subject: Subject, results: Results) -> Results:
    """Drop atomic virials of message-passing models, which depend on an atom's periodic image, as in DeePMD-kit."""
    local = not subject.model.layout().needs_neighbour_features
    return {name: values for name, values in results.items() if local or name != "atom_virial"}


def rotate_results(results: Results, matrix: np.ndarray) -> Results:
    """Return the outputs after an orthogonal map of space: vectors and tensors turn, scalars stay."""
    out = dict(results)
    out["force"] = results["force"] @ matrix.T
    for name in ("virial", "atom_virial"):
        out[name] = (matrix @ results[name].reshape(-1, 3, 3) @ matrix.T).reshape(-1, 9)
    return out


def list_arrays(value: Any) -> list[np.ndarray]:
    """Return all NumPy arrays of nested dataclasses, tuples, lists and dicts."""
    if isinstance(value, np.ndarray):
        return [value]
    if is_dataclass(value):
        value = vars(value)
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [array for child in children for array in list_arrays(child)]


def interacting_types(model: Model) -> tuple[int, int]:
    """Return the first pair of types that interact.

    Excluded types are skipped, because the energy may jump when such a neighbour leaves its slot, as in DeePMD-kit.
    """
    excluded = [pair for descriptor in descriptors_of(model) for pair in getattr(descriptor, "exclude_types", ())]
    hidden = {frozenset(pair) for pair in (*excluded, *model.pair_exclude_types)}
    slots = model.layout().sel if not model.layout().mixed else (1,) * model.ntypes
    return next(
        (a, b)
        for a in range(model.ntypes)
        for b in range(model.ntypes)
        if slots[a] and slots[b] and frozenset((a, b)) not in hidden
    )


def evaluate_read_only(subject: Subject, *, again: bool = False) -> None:
    """Evaluate arrays that must stay unchanged, then evaluate them read-only; `again`: by the same evaluator."""
    samples = subject.systems["several_frames"]
    packed = subject.pack(samples)
    conditions = subject.conditions(samples, packed)
    given = list_arrays((packed.neighbours, conditions, subject.params, tables_of(subject.plan)))
    before = [array.copy() for array in given]
    expected = subject.evaluate(packed, conditions)
    assert all(np.array_equal(old, new) for old, new in zip(before, given, strict=True))
    try:
        for array in given:
            array.flags.writeable = False
        frozen = subject if again else replace(subject, chosen=subject.plan)
        compare(frozen.evaluate(packed, conditions), expected, subject)
    finally:
        for array in given:
            array.flags.writeable = True

"""Automatic `sel`: slots for neighbours from statistics of the data, or from another model with resolved numbers.

Formula: docs/theory/environment.md#automatic-sel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from deepmd.array_model.components import descriptors_of, exchange_descriptors, leaves
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.models.linear import Combination
from deepmd.array_model.models.pairtab import PairTabModel
from deepmd.array_model.models.zbl import ZblModel

MAX_RATIO = 100.0
"""Largest RATIO of "auto:RATIO", because more slots only take memory."""


def find_automatic(model: Model) -> tuple[str, ...]:
    """Return the values of `sel` that neighbour statistics must resolve."""
    return tuple(
        sel for part in descriptors_of(model) for _, sel in part.slot_options().values() if isinstance(sel, str)
    )


def find_cutoffs(model: Model) -> frozenset[float]:
    """Return the cutoffs (Angstrom) of all descriptors, their parts and pair tables, also of fixed `sel`."""
    cutoffs = {rcut for part in descriptors_of(model) for rcut, _ in part.slot_options().values()}
    return frozenset(cutoffs | {leaf.rcut for _, leaf, _ in leaves(model) if leaf.role != "fitting_net"})


def resolve_sel(model: Model, max_neighbours: Callable[[float], Sequence[int]]) -> Any:
    """Return the model with every automatic `sel` resolved by `max_neighbours(rcut)`, the largest counts by type."""

    def part_of(part: Any) -> Any:
        values = {}
        for name, (rcut, sel) in part.slot_options().items():
            if isinstance(sel, str):
                counts = max_neighbours(rcut)
                values[name] = count_slots(sel, [sum(counts)] if part.mixed else counts)
        try:
            return part.with_slots(values) if values else part
        except ValueError as error:
            raise InputError(f"model/descriptor: with {values} from the neighbours of the data: {error}") from error

    return _resize(model, [part_of(part) for part in descriptors_of(model)])


def take_sel(model: Model, other: Any) -> Any:
    """Return the model with every automatic `sel` taken from `other`, if the descriptors are of equal kinds."""
    if not find_automatic(model) or [part.kind for part in descriptors_of(other)] != [
        part.kind for part in descriptors_of(model)
    ]:
        return model

    def part_of(part: Any, their: Any) -> Any:
        known = their.slot_options()
        return part.with_slots(
            {name: known[name][1] for name, (_, sel) in part.slot_options().items() if isinstance(sel, str)}
        )

    pairs = zip(descriptors_of(model), descriptors_of(other), strict=True)
    return _resize(model, [part_of(*pair) for pair in pairs])


def _resize(model: Model, descriptors: Sequence[Any]) -> Any:
    """Exchange the descriptors, then resize the table of each ZBL model to the slots of its Deep Potential."""
    return _resize_tables(exchange_descriptors(model, descriptors))


def _resize_tables(model: Any) -> Any:
    """Give the table of every ZBL model, also inside a sum, the slots of its Deep Potential."""
    if isinstance(model, ZblModel):
        network, table = model.models
        assert isinstance(table, PairTabModel)
        return replace(model, models=(network, replace(table, sel=sum(network.layout().sel))))
    if isinstance(model, Combination):
        return replace(model, models=tuple(_resize_tables(member) for member in model.models))
    return model


def read_ratio(sel: str, where: str) -> float:
    """Return the ratio of "auto" (1.1) or "auto:RATIO"; `where` is the path in the input, for the error."""
    head, _, text = sel.partition(":")
    try:
        ratio = float(text or 1.1)
    except ValueError:
        ratio = 0.0
    if head != "auto" or not 0.0 < ratio <= MAX_RATIO:
        accepted = (
            f"a number or a list with one number per type, auto, auto:RATIO with a RATIO of at most {MAX_RATIO:g}"
        )
        raise InputError(f"{where}: {sel!r} is not understood. Accepted: {accepted}.{nearest(sel, ('auto',))}")
    return ratio


def count_slots(sel: str, counts: Sequence[int]) -> tuple[int, ...]:
    """Return the slots of "auto" or "auto:RATIO": floor(ratio (1.1) times count), rounded up to a multiple of 4."""
    ratio = read_ratio(sel, "model/descriptor/sel")
    return tuple(max(4 * ((int(ratio * count) + 3) // 4), 4) for count in counts)

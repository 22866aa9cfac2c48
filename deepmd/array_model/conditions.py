"""Conditions: what a model is told besides the geometry. A further condition is a row of `CONDITIONS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from deepmd.array_model.namespace import Array

Conditions = dict[str, Array]
"""Values by the names of `CONDITIONS`: (F, K) of frames, (N, K) of centres. Models read those that they ask for."""


@dataclass(frozen=True)
class Condition:
    """A quantity that some models ask for.

    Attributes
    ----------
    asked_by : role of the components that may ask for it: "fitting_net" or "descriptor"
    dim_option : option of these parts with the number of values K, 0 where a part does not ask
    default_option : option of these parts with values for data that have none; "" if there is no such option
    per_atom : K values of each atom; otherwise of each frame
    limits : smallest and largest accepted value of each of the K columns, by the name of the column; {}: any
    short : what DeePMD-kit calls it in the names of C++ functions; "": its name
    """

    asked_by: str
    dim_option: str
    default_option: str = ""
    per_atom: bool = False
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)
    short: str = ""


CONDITIONS = {
    "fparam": Condition("fitting_net", "numb_fparam", "default_fparam"),
    "aparam": Condition("fitting_net", "numb_aparam", per_atom=True),
    "charge_spin": Condition(
        "descriptor",
        "dim_chg_spin",
        "default_chg_spin",
        limits={"charge": (-100, 99), "spin": (0, 99)},
        short="chg_spin",
    ),
}
"""Frame and atomic parameters of the fitting net; total charge (in units of e) and spin of each frame."""


class Asked(NamedTuple):
    """How a model asks for a condition: K values (0: not at all), and those where none are given (None: an error)."""

    dim: int
    default: tuple[float, ...] | None


def find_problem(name: str, values: Sequence[float]) -> str:
    """Return what is wrong with the K values of a frame or an atom, or nothing. On the host."""
    limits = CONDITIONS[name].limits
    if limits and len(values) != len(limits):
        return f"has {len(values)} values; accepted: {' and '.join(limits)}"
    outside = [
        f"the {column} is {value:g}; accepted: {low} to {high}"
        for (column, (low, high)), value in zip(limits.items(), values, strict=False)
        if not low <= int(value) <= high
    ]
    return "; ".join(outside)

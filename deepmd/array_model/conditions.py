"""Conditions: inputs of a model besides the geometry (frame and atomic parameters, charge and spin).

A new condition is a row of `CONDITIONS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from deepmd.array_model.namespace import Array

Conditions = dict[str, Array]
"""Values by the names of `CONDITIONS`: (F, K) of frames or (N, K) of centres."""


@dataclass(frozen=True)
class Condition:
    """Row of `CONDITIONS`: a quantity that some models ask for.

    Attributes
    ----------
    asked_by : role of the components that may ask: "fitting_net" or "descriptor"
    dim_option : option of these components with the number of values K; 0 in a component that does not ask
    default_option : option of these components with values for data that have none; "" without such an option
    per_atom : True: K values of each atom. False: K values of each frame
    limits : {column: (smallest, largest accepted value)} of the K columns; {}: no limits
    short : abbreviation in the names of DeePMD-kit's C++ functions; "": the name of the condition
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
    """Request of a model for a condition: number of values (0: none), and their default (None: required)."""

    dim: int
    default: tuple[float, ...] | None


def find_problem(name: str, values: Sequence[float]) -> str:
    """Return the error of the K values of a frame or an atom, "" without one. Runs on the host."""
    limits = CONDITIONS[name].limits
    if limits and len(values) != len(limits):
        return f"has {len(values)} values; accepted: {' and '.join(limits)}"
    outside = [
        f"the {column} is {value:g}; accepted: {low} to {high}"
        for (column, (low, high)), value in zip(limits.items(), values, strict=False)
        if not low <= int(value) <= high
    ]
    return "; ".join(outside)

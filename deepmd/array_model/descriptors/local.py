"""Base class of strictly local descriptors: common options with their checks, statistics of environment rows.

Subclasses: `mixed.py`, `sectioned.py`. Formulas: docs/theory/environment.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model import spectral
from deepmd.array_model.contracts import STRICT, Draw, Statistics
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours, excluded_slots, section_types, zero_rows
from deepmd.array_model.networks import check_options, init_zeros


@dataclass(frozen=True)
class Local(Descriptor):
    """Options of all strictly local descriptors. Neighbour statistics resolve a `sel` that is a text.

    A kind defines `widths`, `apply` and what depends on its nets.
    """

    sel: Any = "auto"
    rcut: float = 6.0
    rcut_smth: float = 0.5
    neuron: tuple[int, ...] = (10, 20, 40)
    activation_function: str = "tanh"
    resnet_dt: bool = False
    precision: str = "default"
    trainable: bool = True
    seed: int | None = None
    exclude_types: tuple[tuple[int, int], ...] = ()
    env_protection: float = 0.0
    set_davg_zero: bool = False

    num_columns: ClassVar[int] = 4
    """Number of columns of the environment rows that the descriptor reads and normalises."""
    aliases = {"n_neuron": "neuron"}
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_options(self)
        if not 0.0 <= self.rcut_smth < self.rcut:
            raise ValueError(f"rcut_smth ({self.rcut_smth}) must lie in [0, rcut), and rcut is {self.rcut}")
        if not self.neuron or min(self.neuron) < 1:
            raise ValueError(f"neuron is {list(self.neuron)}: needs positive widths")
        if not isinstance(self.sel, str) and (not self.sel or min(self.sel) < 0 or sum(self.sel) == 0):
            raise ValueError(f"sel is {list(self.sel)}: needs numbers of slots >= 0, not all zero")
        if self.env_protection < 0.0:
            raise ValueError(f"env_protection is {self.env_protection}; it must not be negative")
        if isinstance(self.evaluation, str) and self.evaluation not in spectral.CHOICES:
            raise ValueError(f"evaluation is {self.evaluation!r}; accepted: {', '.join(spectral.CHOICES)}")

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots of each section; an error if statistics have not resolved a `sel` that is a text."""
        if isinstance(self.sel, str):
            raise InputError(f"model/descriptor/sel: {self.sel!r} has not been resolved by neighbour statistics")
        return tuple(self.sel)

    @property
    def part_slots(self) -> tuple[int, ...]:
        """Number of all slots."""
        return (sum(self.slots),)

    def no_statistics(self, ntypes: int, draw: Draw, *, xp: Namespace) -> Params:
        """Return identity statistics (T, S, C): mean 0, deviation 1."""
        zeros = init_zeros((ntypes, sum(self.slots), self.num_columns), draw, xp=xp)
        return {"davg": zeros, "dstd": zeros + 1.0}

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store mean and deviation of each centre type in all slots; with `set_davg_zero` the mean is 0."""
        ((mean_T4, std_T4),) = statistics
        like = xp.zeros_like(params["davg"])
        mean, std = (like + xp.expand_dims(values[:, : self.num_columns], axis=1) for values in (mean_T4, std_T4))
        return {**params, "davg": like if self.set_davg_zero else mean, "dstd": std}

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: rows (N, M, 4) before normalisation, 0 if empty or excluded."""
        rows_NM4 = environment_rows(neighbours.disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        return [self.zero_excluded_rows(rows_NM4, neighbours, xp=xp)]

    def zero_excluded_rows(self, rows_NMC: Array, neighbours: Neighbours, *, xp: Namespace) -> Array:
        """Zero the rows of neighbours whose pair of types is among `exclude_types`; empty slots are never excluded."""
        if not self.exclude_types:
            return rows_NMC
        kinds_NM = neighbours.type_NM if self.mixed else section_types(neighbours, xp=xp)
        return zero_rows(rows_NMC, excluded_slots(neighbours, self.exclude_types, kinds_NM, xp=xp), xp=xp)

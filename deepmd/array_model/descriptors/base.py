"""Base class of descriptors. Methods that raise NotImplementedError are required; the others have defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Draw, Features, Statistics, Widths
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.spectral import Plan


class Descriptor:
    """Descriptor: a frozen dataclass of options with these methods (contract: `contracts.Descriptor`)."""

    role: ClassVar[str] = "descriptor"
    kind: ClassVar[str]
    children: ClassVar[tuple[str, ...]] = ()
    sections: ClassVar[dict[str, str]] = {}
    float64_params: ClassVar[tuple[str, ...]] = ()
    mixed: ClassVar[bool] = False
    """True: one section holds neighbours of all types. False: each neighbour type has a section."""
    needs_neighbour_features: ClassVar[bool] = False
    """Message passing: the descriptor reads features of neighbours."""
    aliases: ClassVar[dict[str, str]] = {}
    """Aliases of options."""
    evaluation: str | int = "direct"  # requested by the input; the plan holds the decision
    dim_chg_spin: int = 0
    """Number of values that the descriptor asks of each frame: 2 (charge and spin) or 0."""
    default_chg_spin: tuple[float, float] | None = None
    """Charge and spin of frames without given values."""
    precision: str
    rcut: float
    rcut_smth: float
    trainable: bool
    seed: int | None

    @property
    def mixed_types(self) -> bool:
        """True: one fitting net serves all types. False: each centre type has a net."""
        return self.mixed

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        raise NotImplementedError

    @property
    def part_slots(self) -> tuple[int, ...]:
        """Slots, summed over sections, of each part that has statistics of its own. A hybrid has several parts."""
        raise NotImplementedError

    def layout(self) -> Layout:
        """Packing of the neighbours."""
        raise NotImplementedError

    def slot_options(self) -> dict[str, tuple[float, Any]]:
        """Slot options: {path in the section: (cutoff in Angstrom, value)}. Statistics of the data resolve a text."""
        return {"sel": (self.rcut, self.sel)}  # type: ignore[attr-defined]

    def with_slots(self, values: dict[str, Any]) -> Descriptor:
        """Return the descriptor with `values` in place of some of its `slot_options`."""
        return replace(self, **values)  # type: ignore[type-var]

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters for the types of `type_map`.

        `draw(seed_list)` returns a NumPy generator (docs/theory/networks.md#fresh-weights).
        """
        raise NotImplementedError

    def seeds(self, *path: int) -> list[int] | None:
        """Return the seed list of a part: the path and the seed of the descriptor."""
        return None if self.seed is None else [*path, self.seed]

    def flags(self) -> Any:
        """Trainable parameters: a tree of flags (see `deepmd.train.trainable.trainable_paths`)."""
        return self.trainable

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: rows (N, M, 4) of each part before normalisation, 0 if empty or excluded."""
        raise NotImplementedError

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Return the parameters with the statistics of each part stored."""
        raise NotImplementedError

    def apply(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Features:
        """Features of each centre."""
        raise NotImplementedError

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre. `conditions` are those of its frame; `plan` has an entry per leaf descriptor."""
        return self.apply(params, neighbours, xp=xp)

    def first_atom_matters(self, params: Params) -> bool:
        """Whether atom 0 of a frame changes results (docs/theory/neighbours.md#empty-slots). Runs on the host."""
        return self.mixed and "davg" in params and bool(abs(params["davg"]).max() > 0.0)

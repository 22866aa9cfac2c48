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
    """A descriptor: a frozen dataclass of options with these methods. `kind` is set by `register`."""

    role: ClassVar[str] = "descriptor"
    kind: ClassVar[str]
    children: ClassVar[tuple[str, ...]] = ()
    sections: ClassVar[dict[str, str]] = {}
    float64_params: ClassVar[tuple[str, ...]] = ()
    mixed: ClassVar[bool] = False
    """Neighbours come in one section."""
    needs_neighbour_features: ClassVar[bool] = False
    """It reads features of neighbours."""
    names: ClassVar[dict[str, str]] = {}
    """Aliases of options."""
    evaluation: str | int = "direct"  # the wish of the input; what is evaluated is in the plan
    dim_chg_spin: int = 0
    """Numbers that it wants to know of each frame: its charge and spin (2), or none."""
    default_chg_spin: tuple[float, float] | None = None
    """What these are where they are not given."""
    precision: str
    rcut: float
    rcut_smth: float
    trainable: bool
    seed: int | None

    @property
    def mixed_types(self) -> bool:
        """One fitting net serves all types."""
        return self.mixed

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        raise NotImplementedError

    @property
    def slot_totals(self) -> tuple[int, ...]:
        """Slots of each part that has statistics of its own: one, or one for each member of a hybrid."""
        raise NotImplementedError

    def layout(self) -> Layout:
        """How neighbours are to be packed."""
        raise NotImplementedError

    def sels(self) -> dict[str, tuple[float, Any]]:
        """Options that number neighbour slots: {path in the section: (cutoff in Angstrom, value)}.

        A text stands for what the data need.
        """
        return {"sel": (self.rcut, self.sel)}  # type: ignore[attr-defined]

    def with_sels(self, values: dict[str, Any]) -> Descriptor:
        """Return the descriptor with other values of some of `sels`."""
        return replace(self, **values)  # type: ignore[type-var]

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters for types of these names.

        `draw(seed_list)` returns a NumPy generator (docs/theory/networks.md#fresh-weights).
        """
        raise NotImplementedError

    def seeds(self, *path: int) -> list[int] | None:
        """Return the seed list of a part, which ends with the seed of the descriptor."""
        return None if self.seed is None else [*path, self.seed]

    def flags(self) -> Any:
        """Which parameters training may change: a tree of flags (see `deepmd.train.trainable.trainable_paths`)."""
        return self.trainable

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: rows (N, M, 4) of each part before normalisation, zero where empty or excluded."""
        raise NotImplementedError

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Return the parameters with the statistics of each part."""
        raise NotImplementedError

    def apply(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Features:
        """Features of each centre."""
        raise NotImplementedError

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre under the conditions of its frame, by a plan with an entry for each leaf."""
        return self.apply(params, neighbours, xp=xp)

    def first_atom_matters(self, params: Params) -> bool:
        """Whether results depend on the first atom of a frame (docs/theory/neighbours.md#empty-slots). On the host."""
        return self.mixed and "davg" in params and bool(abs(params["davg"]).max() > 0.0)

"""Base class of descriptors. Methods that raise NotImplementedError are required; the others have defaults."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from deepmd.array_model.conditions import Conditions
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.spectral import Plan

Statistics = tuple[Array, Array]
"""Mean and deviation (T, 4) of environment rows by centre type."""


@dataclass(frozen=True)
class Widths:
    """Widths D of the invariant and G of the equivariant features; G is 0 where there are none."""

    invariant: int
    equivariant: int


@dataclass(frozen=True)
class Features:
    """Features of each centre atom, in global precision.

    Attributes
    ----------
    invariant_ND : unchanged by rotation; what the fitting nets read
    equivariant_NG3 : rotates with the system, as dipole and polarizability fittings need it; None where there is none
    """

    invariant_ND: Array
    equivariant_NG3: Array | None


class Descriptor:
    """A descriptor: a frozen dataclass of options with these methods. `kind` is set by `register`."""

    kind: ClassVar[str]
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

    def parts(self) -> tuple[Descriptor, ...]:
        """Descriptors that it is made of: itself, or the members of a hybrid."""
        return (self,)

    def with_parts(self, parts: tuple[Descriptor, ...]) -> Descriptor:
        """Return the descriptor made of other parts."""
        return parts[0]

    def each_part(self, params: Params) -> list[tuple[str, Any, Params]]:
        """Return `parts`: the path in the section, the part, its parameters."""
        return [("", self, params)]

    def sels(self) -> dict[str, tuple[float, Any]]:
        """Options that number neighbour slots: {path in the section: (cutoff in Angstrom, value)}.

        A text stands for what the data need.
        """
        return {"sel": (self.rcut, self.sel)}  # type: ignore[attr-defined]

    def with_sels(self, values: dict[str, Any]) -> Descriptor:
        """Return the descriptor with other values of some of `sels`."""
        return replace(self, **values)  # type: ignore[type-var]

    def init(self, type_map: tuple[str, ...], draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters for types of these names.

        `draw(seed_list)` returns a NumPy generator (docs/theory/networks.md#fresh-weights).
        """
        raise NotImplementedError

    def seeds(self, *path: int) -> list[int] | None:
        """Return the seed list of a part, which ends with the seed of the descriptor."""
        return None if self.seed is None else [*path, self.seed]

    def trainables(self) -> Any:
        """Which parameters training may change: a tree of flags (see `deepmd.train.trainable.trainable_paths`)."""
        return self.trainable

    def raw_rows(self, pairs: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: rows (N, M, 4) of each part before normalisation, zero where empty or excluded."""
        raise NotImplementedError

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Return the parameters with the statistics of each part."""
        raise NotImplementedError

    def apply(self, params: Params, pairs: Neighbours, *, xp: Namespace) -> Features:
        """Features of each centre."""
        raise NotImplementedError

    def apply_under(
        self, params: Params, pairs: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre under the conditions of its frame, by a plan with an entry for each of `parts`."""
        return self.apply(params, pairs, xp=xp)

    def in_precision(self, params: Params, cast: Any) -> Params:
        """Return the parameters in the precision that each part computes in; `cast(tree, precision)` does it."""
        return cast(params, self.precision)  # type: ignore[no-any-return]

    def first_atom_matters(self, params: Params) -> bool:
        """Whether results depend on the first atom of a frame (docs/theory/neighbours.md#empty-slots). On the host."""
        return self.mixed and "davg" in params and bool(abs(params["davg"]).max() > 0.0)

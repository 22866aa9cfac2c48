"""Contracts of the physics: what a descriptor, a fitting net and a model are asked. mypy checks every kind.

Kinds inherit the answers that most of them give from base classes (`descriptors/base.py`, `fittings/net.py`,
`models/base.py`). Contracts of adapters are in `deepmd/adapters/contracts.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from deepmd.array_model.conditions import Asked, Conditions
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.outputs import Output
from deepmd.array_model.spectral import Plan

Draw = Callable[[list[int] | None], Any]
"""`draw(seeds)` returns a NumPy generator (docs/theory/networks.md#fresh-weights)."""

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
    invariant_ND : unchanged by rotation; fitting nets read them
    equivariant_NG3 : rotate with the system; dipole and polarizability fittings need them. None where there are none
    """

    invariant_ND: Array
    equivariant_NG3: Array | None


class Component(Protocol):
    """A node of the tree of a model: a frozen dataclass of options (see `deepmd.array_model.components`)."""

    role: ClassVar[str]
    """"descriptor", "fitting_net" or "model"."""
    kind: ClassVar[str]
    """Its name among those of its role."""
    children: ClassVar[tuple[str, ...]]
    """Fields that hold components, one or a tuple; their parameters have the same names. () for a leaf."""
    sections: ClassVar[dict[str, str]]
    """Where the section of the input describes each child; {} stands for its number."""
    float64_params: ClassVar[tuple[str, ...]]
    """Own parameters that are in float64, whatever the precision."""

    @property
    def precision(self) -> str:
        """Precision of its own parameters and arithmetic; not asked of components without parameters of their own."""

    def flags(self) -> Any:
        """Which of its parameters training may change: a tree of flags (see `deepmd.train.trainable`)."""


class Descriptor(Component, Protocol):
    """Physics of a descriptor: features of each centre from its neighbours."""

    @property
    def rcut(self) -> float:
        """Cutoff, Angstrom."""

    @property
    def rcut_smth(self) -> float:
        """Where the switch begins, Angstrom."""

    @property
    def evaluation(self) -> str | int:
        """Wish of the input how its embedding nets are evaluated; the plan holds the decision."""

    @property
    def mixed(self) -> bool:
        """Neighbours come in one section."""

    @property
    def needs_neighbour_features(self) -> bool:
        """It reads features of neighbours, so that every atom is a centre."""

    @property
    def mixed_types(self) -> bool:
        """One fitting net serves all types."""

    @property
    def widths(self) -> Widths:
        """Widths of the features."""

    def layout(self) -> Layout:
        """How neighbours are to be packed."""

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters for types of these names."""

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre under the conditions of its frame; the plan has an entry for each leaf."""

    def sels(self) -> dict[str, tuple[float, Any]]:
        """Options that number slots: {path in the section: (cutoff, value)}; a text stands for what the data need."""

    def with_sels(self, values: dict[str, Any]) -> Descriptor:
        """Return the descriptor with other values of some of `sels`."""

    @property
    def slot_totals(self) -> tuple[int, ...]:
        """Slots of each part that has statistics of its own."""

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Environment rows (N, M, 4) of each of these parts before normalisation: the sample of the statistics."""

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Return the parameters with the statistics of each of these parts."""

    def first_atom_matters(self, params: Params) -> bool:
        """Whether results depend on the first atom of a frame (docs/theory/neighbours.md#empty-slots). On the host."""


class FittingNet(Component, Protocol):
    """Physics of a fitting net: atomic values of an output from features."""

    @property
    def output(self) -> Output:
        """What it predicts."""

    def init(self, nets: int, ntypes: int, widths: Widths, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters of `nets` nets."""

    def apply(
        self,
        params: Params,
        features: Features,
        widths: Widths,
        neighbours: Neighbours,
        conditions: Conditions,
        outer: tuple[Array, Array],
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic values (N, d), float64; `outer` holds bias and scale (T, d) of the model."""


class Model(Component, Protocol):
    """Physics of a model: atomic values of an output from neighbours."""

    @property
    def type_map(self) -> tuple[str, ...]:
        """Element names; the index is the type."""

    @property
    def pair_exclude_types(self) -> tuple[tuple[int, int], ...]:
        """Unordered pairs of types that do not see each other."""

    @property
    def atom_exclude_types(self) -> tuple[int, ...]:
        """Types whose atomic output is zero."""

    @property
    def rcond(self) -> float | None:
        """Relative cutoff of singular values in the fit of biases."""

    @property
    def preset_out_bias(self) -> dict[str, list[Any]] | None:
        """Biases that are fixed beforehand, by type."""

    @property
    def ntypes(self) -> int:
        """Number of types T."""

    @property
    def output(self) -> Output:
        """What it predicts."""

    @property
    def conditions(self) -> dict[str, Asked]:
        """How it asks for each condition."""

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features; 0 where there are none."""

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Energies of isolated atoms by type (eV) that are fixed beforehand; None where one is to be fitted."""

    def layout(self) -> Layout:
        """How neighbours are to be packed."""

    def init(self, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters in their precisions."""

    def atomic_output(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""

    def without_excluded(self, value_Nd: Array, neighbours: Neighbours, *, xp: Namespace) -> Array:
        """Return atomic values (N, d) with zeros for atoms of `atom_exclude_types`."""


if TYPE_CHECKING:
    DescriptorField: TypeAlias = Descriptor
    FittingField: TypeAlias = FittingNet
    ModelField: TypeAlias = Model
else:  # pydantic checks options, but no protocols: parsers have built these fields from sections of their own
    DescriptorField = FittingField = ModelField = Any

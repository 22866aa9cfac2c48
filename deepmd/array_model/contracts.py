"""Protocols of descriptors, fitting nets and models. mypy checks every kind against them.

Defaults that most kinds share are in base classes: `descriptors/base.py`, `fittings/net.py`, `models/base.py`.
Protocols of adapters: `deepmd/adapters/contracts.py`.
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

STRICT = {"extra": "forbid", "allow_inf_nan": False}
"""`__pydantic_config__` of options: unknown keys, NaN and infinity are errors (`deepmd/io/checking.py` builds them)."""

Draw = Callable[[list[int] | None], Any]
"""`draw(seeds)` returns a NumPy generator (docs/theory/networks.md#fresh-weights)."""

Statistics = tuple[Array, Array]
"""Mean and deviation (T, 4) of environment rows by centre type."""


@dataclass(frozen=True)
class Widths:
    """Widths D of the invariant and G of the equivariant features; G is 0 without equivariant features."""

    invariant: int
    equivariant: int


@dataclass(frozen=True)
class Features:
    """Features of each centre atom, in global precision.

    Attributes
    ----------
    invariant_ND : rotationally invariant features, input of the fitting nets
    equivariant_NG3 : vectors that rotate with the system, for dipoles and polarizabilities; None if the descriptor has
        none
    """

    invariant_ND: Array
    equivariant_NG3: Array | None


class Component(Protocol):
    """A node of the tree of a model: a frozen dataclass of options (see `deepmd.array_model.components`)."""

    role: ClassVar[str]
    """"descriptor", "fitting_net" or "model"."""
    kind: ClassVar[str]
    """Name of the kind within its role: the `type` of the input."""
    children: ClassVar[tuple[str, ...]]
    """Fields that hold a component or a tuple of components. Their parameters have the same names. () for a leaf."""
    sections: ClassVar[dict[str, str]]
    """Path of each child in the section of the input; {} stands for the number of the child."""
    float64_params: ClassVar[tuple[str, ...]]
    """Parameters of the component itself, without its children, that are float64 at every `precision`."""

    @property
    def precision(self) -> str:
        """Precision of parameters and arithmetic of the component itself; unused without parameters of its own."""

    def flags(self) -> Any:
        """Trainable parameters: a tree of flags (see `deepmd.train.trainable.trainable_paths`)."""


class Descriptor(Component, Protocol):
    """Physics of a descriptor: features of each centre from its neighbours."""

    @property
    def rcut(self) -> float:
        """Cutoff, Angstrom."""

    @property
    def rcut_smth(self) -> float:
        """Onset of the switch, Angstrom."""

    @property
    def evaluation(self) -> str | int:
        """Requested evaluation of the embedding nets (see `Sectioned`). The plan holds the decision."""

    @property
    def mixed(self) -> bool:
        """True: one section holds neighbours of all types. False: each neighbour type has a section."""

    @property
    def needs_neighbour_features(self) -> bool:
        """Message passing: the descriptor reads features of neighbours, so every atom is a centre."""

    @property
    def mixed_types(self) -> bool:
        """True: one fitting net serves all types. False: each centre type has a net."""

    @property
    def widths(self) -> Widths:
        """Widths of the features."""

    def layout(self) -> Layout:
        """Packing of the neighbours."""

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters for the types of `type_map` (docs/theory/networks.md#fresh-weights)."""

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre. `conditions` are those of its frame; `plan` has an entry per leaf descriptor."""

    def slot_options(self) -> dict[str, tuple[float, Any]]:
        """Slot options: {path in the section: (cutoff in Angstrom, value)}. Statistics of the data resolve a text."""

    def with_slots(self, values: dict[str, Any]) -> Descriptor:
        """Return the descriptor with `values` in place of some of its `slot_options`."""

    @property
    def part_slots(self) -> tuple[int, ...]:
        """Slots, summed over sections, of each part that has statistics of its own."""

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: environment rows (N, M, 4) of each such part before normalisation."""

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Return the parameters with the statistics of each such part stored."""

    def first_atom_matters(self, params: Params) -> bool:
        """Whether atom 0 of a frame changes results (docs/theory/neighbours.md#empty-slots). Runs on the host."""


class FittingNet(Component, Protocol):
    """Physics of a fitting net: atomic values of an output from features."""

    @property
    def output(self) -> Output:
        """Predicted quantity."""

    def init(self, nets: int, ntypes: int, widths: Widths, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters of `nets` nets."""

    def apply(
        self,
        params: Params,
        features: Features,
        widths: Widths,
        neighbours: Neighbours,
        conditions: Conditions,
        bias_and_scale: tuple[Array, Array],
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic values (N, d), float64; `bias_and_scale` holds bias and scale (T, d) of the model."""


class Model(Component, Protocol):
    """Physics of a model: atomic values of an output from neighbours."""

    @property
    def type_map(self) -> tuple[str, ...]:
        """Element names; the index is the type."""

    @property
    def pair_exclude_types(self) -> tuple[tuple[int, int], ...]:
        """Unordered pairs of types whose atoms are no neighbours of each other."""

    @property
    def atom_exclude_types(self) -> tuple[int, ...]:
        """Types whose atomic output is zero."""

    @property
    def rcond(self) -> float | None:
        """Relative cutoff of singular values in the least-squares fit of biases."""

    @property
    def preset_out_bias(self) -> dict[str, list[Any]] | None:
        """Assigned biases, {output: value or None (fitted) of each type}."""

    @property
    def ntypes(self) -> int:
        """Number of types T."""

    @property
    def output(self) -> Output:
        """Predicted quantity."""

    @property
    def conditions(self) -> dict[str, Asked]:
        """Number of values and default of each condition."""

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features; 0 without features."""

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Assigned energies of isolated atoms by type (eV); None for a fitted energy."""

    def layout(self) -> Layout:
        """Packing of the neighbours."""

    def init(self, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters, each in the precision of its component."""

    def atomic_output(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""

    def zero_excluded_atoms(self, value_Nd: Array, neighbours: Neighbours, *, xp: Namespace) -> Array:
        """Return atomic values (N, d) with zeros for atoms of `atom_exclude_types`."""


if TYPE_CHECKING:
    DescriptorField: TypeAlias = Descriptor
    FittingField: TypeAlias = FittingNet
    ModelField: TypeAlias = Model
else:  # pydantic validates options but no protocols: parsers build these fields from their own sections
    DescriptorField = FittingField = ModelField = Any

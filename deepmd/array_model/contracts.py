"""Contracts of the exchangeable things: what each is asked. mypy checks every kind and every adapter against them.

Kinds inherit the answers that most of them give from base classes (`descriptors/base.py`, `fittings/net.py`,
`models/base.py`); contracts say what callers may rely on. Arrays of evaluators, trainers and batches are NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
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


class Evaluator(Protocol):
    """Outputs of a model on one backend, NumPy in, NumPy out, in the order of the neighbours' centres.

    `wanted` names outputs, those of `model.output.names`. Of an energy model: `atom_energy` (N,), `energy` (F,),
    `force` (A, 3), `virial` (F, 9), `atom_virial` (A, 9), `descriptor` (N, D). Of others with d components:
    `atom_NAME` (N, d), `NAME` (F, d), and where they are differentiable `force` (A, d, 3), `virial` (F, d, 9),
    `atom_virial` (A, d, 9).
    """

    def __call__(
        self,
        neighbours: Neighbours,
        conditions: Conditions,
        num_atoms: int,
        num_frames: int,
        wanted: frozenset[str],
        /,
    ) -> dict[str, Array]:
        """Return the wanted outputs."""


class Trainer(Protocol):
    """A model in training on one backend. NumPy in, NumPy out."""

    def replan(self, plan: Plan) -> None:
        """Evaluate the embedding nets by another plan from now on; parameters and optimizer stay as they are."""

    def step(self, batch: Any, lr: float, prefactors: dict[str, float], number: int) -> float:
        """Make the update number `number` (from 1) on a `deepmd.data.batch.Batch` and return the loss before it."""

    def errors(self, batch: Any, prefactors: dict[str, float]) -> dict[str, float]:
        """Return `loss` and the mean shown for each term (see `Loss.errors`)."""

    def params(self) -> Params:
        """Return a copy of the parameters."""

    def moments(self) -> dict[str, Array]:
        """Return a copy of the state of the optimizer."""

    def restore(self, moments: dict[str, Array], number: int) -> None:
        """Continue from this state of the optimizer after `number` updates."""

    def save(self, prefix: Path, content: Any, progress: Any) -> str:
        """Write a native checkpoint `PREFIX-STEP` in one step and return the name of what was written."""


class EvaluatingBackend(Protocol):
    """Module `evaluate` of an adapter."""

    FEWEST_ATOMS: int
    """Atoms of a block below which a thread of its own does not pay."""

    def evaluator(self, model: Model, params: Params, plan: Plan) -> Evaluator:
        """Return the evaluator of a model."""

    def workers(self) -> int:
        """Return how many blocks of atoms to evaluate at once."""

    def side_by_side(self) -> AbstractContextManager[None]:
        """Return the context in which several blocks are evaluated at once, each on one thread."""


class TrainingBackend(Protocol):
    """Module `trainer` of an adapter."""

    def trainer(self, task: Any, params: Params, plan: Plan) -> Trainer:
        """Return the trainer of a `deepmd.adapters.training.Task`."""


class CheckpointingBackend(Protocol):
    """Module `checkpoint` of an adapter."""

    ENDINGS: Sequence[str]
    """Endings of the files of one checkpoint; that of the last one to be written comes last."""

    def load_training(self, path: Path) -> tuple[Any, Any]:
        """Read a checkpoint: its `ModelFile` and its `Progress`."""

    def state_text(self, name: str) -> str:
        """Return the content of the `checkpoint` file for a checkpoint of this name."""

"""Base class of models. Methods that raise NotImplementedError are required; the others have defaults."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from deepmd.array_model.components import descriptors_of, fittings_of
from deepmd.array_model.conditions import CONDITIONS, Asked, Condition, Conditions
from deepmd.array_model.contracts import Draw
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.outputs import ENERGY, Output
from deepmd.array_model.spectral import Plan

OUTPUT_PARAMS = ("out_bias", "out_std")
"""Parameters that every model has: bias and scale of the output (1, T, d)."""


@dataclass(frozen=True)
class Model:
    """Options of all models; parameters are a tree of their own.

    Attributes
    ----------
    type_map : element names; the index is the type
    pair_exclude_types : unordered pairs of types whose atoms are no neighbours of each other
    atom_exclude_types : types whose atomic output is zero
    rcond, preset_out_bias : options of the fit of biases, stored in files
    """

    type_map: tuple[str, ...]
    _: KW_ONLY
    pair_exclude_types: tuple[tuple[int, int], ...] = ()
    atom_exclude_types: tuple[int, ...] = ()
    rcond: float | None = None
    preset_out_bias: dict[str, list[Any]] | None = None

    role: ClassVar[str] = "model"
    kind: ClassVar[str]
    children: ClassVar[tuple[str, ...]] = ()
    sections: ClassVar[dict[str, str]] = {}
    float64_params: ClassVar[tuple[str, ...]] = OUTPUT_PARAMS
    precision: ClassVar[str] = "float64"

    def flags(self) -> Any:
        """No parameter of the model itself is trainable."""
        return {}

    @property
    def ntypes(self) -> int:
        """Number of types T."""
        return len(self.type_map)

    @property
    def output(self) -> Output:
        """Predicted quantity."""
        return ENERGY

    @property
    def conditions(self) -> dict[str, Asked]:
        """Request for each of `CONDITIONS`: the largest number of values and the first default of the components."""

        def asked(row: Condition) -> Asked:
            parts: tuple[Any, ...] = fittings_of(self) if row.asked_by == "fitting_net" else descriptors_of(self)
            asking = [part for part in parts if getattr(part, row.dim_option)]
            defaults = [getattr(part, row.default_option, None) for part in asking]
            dim = max((getattr(part, row.dim_option) for part in asking), default=0)
            return Asked(dim, next((each for each in defaults if each is not None), None))

        return {name: asked(row) for name, row in CONDITIONS.items()}

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Assigned energies of isolated atoms by type (eV); None for a fitted energy."""
        return ()

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features; 0 without features."""
        return 0

    def layout(self) -> Layout:
        """Packing of the neighbours."""
        raise NotImplementedError

    def init(self, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters, each in the precision of its component."""
        raise NotImplementedError

    def atomic_output(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""
        raise NotImplementedError

    def zero_excluded_atoms(self, value_Nd: Array, neighbours: Neighbours, *, xp: Namespace) -> Array:
        """Return atomic values (N, d) with zeros for atoms of `atom_exclude_types`."""
        for excluded in self.atom_exclude_types:
            value_Nd = xp.where(
                xp.expand_dims(xp.equal(neighbours.type_N, excluded), axis=-1), xp.zeros_like(value_Nd), value_Nd
            )
        return value_Nd

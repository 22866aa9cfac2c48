"""What the rest of the package may ask of every model.

Most answers follow from its descriptors and fitting nets, those of members included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from deepmd.array_model.conditions import CONDITIONS, Asked, Condition, Conditions
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.outputs import ENERGY, Output
from deepmd.array_model.spectral import Plan
from deepmd.array_model.tree import map_leaves

OUTER = ("out_bias", "out_std")
"""Parameters that every model has: bias and scale of the output (1, T, d)."""


@dataclass(frozen=True)
class Model:
    """A model, without its parameters. `kind` is set by `register`.

    Attributes
    ----------
    type_map : element names; the index is the type
    pair_exclude_types : unordered pairs of types that do not see each other
    atom_exclude_types : types whose atomic output is zero
    rcond, preset_out_bias : how the bias was to be fitted (kept with the file)
    """

    type_map: tuple[str, ...]
    _: KW_ONLY
    pair_exclude_types: tuple[tuple[int, int], ...] = ()
    atom_exclude_types: tuple[int, ...] = ()
    rcond: float | None = None
    preset_out_bias: dict[str, list[Any]] | None = None

    kind: ClassVar[str]

    @property
    def ntypes(self) -> int:
        """Number of types T."""
        return len(self.type_map)

    @property
    def output(self) -> Output:
        """What it predicts."""
        return ENERGY

    @property
    def members(self) -> tuple[Any, ...]:
        """Models that this one combines; their parameters are `params["models"]`."""
        return ()

    @property
    def descriptors(self) -> tuple[Any, ...]:
        """Descriptors of the model and its members."""
        return tuple(descriptor for model in self.members for descriptor in model.descriptors)

    @property
    def fittings(self) -> tuple[Any, ...]:
        """Fitting nets of the model and its members."""
        return tuple(fitting for model in self.members for fitting in model.fittings)

    def each_part(self, params: Params) -> list[tuple[str, Any, Params]]:
        """Return the parts of `descriptors`, members of hybrids one by one: the path in the input's section, the part, its parameters."""
        return []

    def changed(self, change: Callable[[Any], Any]) -> Any:
        """Return the model with `change(descriptor)` in place of every descriptor."""
        return self

    @property
    def parts(self) -> tuple[Any, ...]:
        """Parts of `descriptors`."""
        return tuple(part for descriptor in self.descriptors for part in descriptor.parts())

    def with_parts(self, parts: Iterable[Any]) -> Any:
        """Return the model with other parts of its descriptors, in the order of `parts` and `each_part`."""
        remaining = iter(parts)
        return self.changed(
            lambda descriptor: descriptor.with_parts(tuple(next(remaining) for _ in descriptor.parts()))
        )

    @property
    def conditions(self) -> dict[str, Asked]:
        """How the model asks for each of `CONDITIONS`: by the most values and the first default of its parts."""

        def asked(row: Condition) -> Asked:
            asking = [part for part in getattr(self, row.asked_by) if getattr(part, row.dim_option)]
            defaults = [getattr(part, row.default_option, None) for part in asking]
            dim = max((getattr(part, row.dim_option) for part in asking), default=0)
            return Asked(dim, next((each for each in defaults if each is not None), None))

        return {name: asked(row) for name, row in CONDITIONS.items()}

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Energies of isolated atoms by type (eV) that are fixed beforehand, by the first member.

        None where one is to be fitted.
        """
        return tuple(self.members[0].atom_ener) if self.members else ()

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features; 0 where there are none."""
        return 0

    def layout(self) -> Layout:
        """How neighbours are to be packed for this model."""
        raise NotImplementedError

    def resized(self, parts: Iterable[Any]) -> Any:
        """Return the model with parts that have other numbers of slots."""
        return self.with_parts(parts)

    def init(self, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters in their precisions; `draw(seed_list)` returns a NumPy generator."""
        raise NotImplementedError

    def cast(self, params: Params, change: Callable[[Any, str], Any]) -> Params:
        """Return the parameters with `change(part, precision)` in place of each part, which computes in that precision."""
        raise NotImplementedError

    def in_precision(self, params: Params, *, xp: Namespace) -> Params:
        """Return the parameters with every leaf in the precision that its part computes in."""
        return self.cast(
            params, lambda part, precision: map_leaves(lambda leaf: xp.astype(leaf, dtype_of(precision, xp=xp)), part)
        )

    def narrowed(self, params: Params, narrow: Callable[[Any], Any]) -> Params:
        """Return the parameters with `narrow(part)` in place of each part in bfloat16, which NumPy lacks and stores in float32."""
        return self.cast(params, lambda part, precision: narrow(part) if PRECISIONS[precision] == "bfloat16" else part)

    def first_atom_matters(self, params: Params) -> bool:
        """Whether results depend on the first atom of a frame (docs/theory/neighbours.md#empty-slots). On the host."""
        return any(part.first_atom_matters(own) for _, part, own in self.each_part(params))

    def trainables(self) -> Any:
        """Which parameters training may change: a tree of flags, one for everything below it.

        What is absent is fixed.
        """
        return {}

    def atomic_output(
        self, params: Params, pairs: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""
        raise NotImplementedError

    def without_excluded(self, value_Nd: Array, pairs: Neighbours, *, xp: Namespace) -> Array:
        """Return atomic values (N, d) with zeros for atoms of `atom_exclude_types`."""
        for excluded in self.atom_exclude_types:
            value_Nd = xp.where(
                xp.expand_dims(xp.equal(pairs.type_N, excluded), axis=-1), xp.zeros_like(value_Nd), value_Nd
            )
        return value_Nd

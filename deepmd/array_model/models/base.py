"""What the rest of the package may ask of every model, with the answers of those that have nothing special to say."""

from __future__ import annotations

from typing import Any, ClassVar

from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.outputs import ENERGY, Output
from deepmd.array_model.pairs import Conditions, Layout, Pairs


class Model:
    """A model: a frozen dataclass of options with these methods. `kind` is set by `register`."""

    kind: ClassVar[str]
    type_map: tuple[str, ...]
    pair_exclude_types: tuple[tuple[int, int], ...]
    atom_exclude_types: tuple[int, ...]
    rcond: float | None
    preset_out_bias: dict[str, list[Any]] | None

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def ntypes(self) -> int:
        """Number of types T."""
        return len(self.type_map)

    @property
    def output(self) -> Output:
        """What it predicts."""
        return ENERGY

    @property
    def numb_fparam(self) -> int:
        """Number of frame parameters."""
        return 0

    @property
    def numb_aparam(self) -> int:
        """Number of atomic parameters."""
        return 0

    @property
    def default_fparam(self) -> tuple[float, ...] | None:
        """Frame parameters where none are given."""
        return None

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Energies of isolated atoms by type (eV) that are fixed beforehand, None where one is to be fitted."""
        return ()

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features; 0 where there are none."""
        return 0

    @property
    def members(self) -> tuple[Any, ...]:
        """Models that this one combines; their parameters are `params["models"]`."""
        return ()

    def layout(self) -> Layout:
        """How neighbours are to be packed for this model."""
        raise NotImplementedError

    @property
    def automatic(self) -> tuple[str, ...]:
        """Values of `sel` that neighbour statistics have to resolve."""
        return ()

    @property
    def cutoffs(self) -> frozenset[float]:
        """Cutoffs (Angstrom) of its parts, all that `with_sel` may ask for."""
        return frozenset()

    def with_sel(self, most: Any) -> Any:
        """Return the model with every automatic `sel` resolved by `most(rcut)`, the largest numbers of neighbours by type."""
        return self

    def with_sel_of(self, other: Any) -> Any:
        """Return the model with every automatic `sel` taken from another model of the same kinds; as it is if the kinds differ."""
        return self

    # -- parameters -------------------------------------------------------------------------------------------------

    def init(self, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters in their precisions; `draw(seed_list)` returns a NumPy generator."""
        raise NotImplementedError

    def in_precision(self, params: Params, *, xp: Namespace) -> Params:
        """Return the parameters with every leaf in the precision that its part computes in."""
        raise NotImplementedError

    def narrowed(self, params: Params, narrow: Any) -> Params:
        """Return the parameters with `narrow(part)` in place of each part in bfloat16, which NumPy lacks and stores in float32."""
        return params

    def trainables(self) -> Any:
        """Which parameters training may change: a tree of flags, one for everything below it; what is absent is fixed."""
        return {}

    # -- evaluation -------------------------------------------------------------------------------------------------

    @property
    def evaluation(self) -> str | int:
        """How embedding nets are evaluated (an option of the descriptors)."""
        return "direct"

    def with_evaluation(self, evaluation: str | int) -> Any:
        """Return the model with another way to evaluate its embedding nets; one without any stays as it is."""
        return self

    def expanded(self, params: Params, closest: float | None, *, stored: bool, xp: Namespace) -> tuple[Any, Params, str]:
        """Plan expansions of embedding nets, on the host (see the descriptors); the text says why there are none."""
        return self, params, ""

    def without_tables(self, params: Params) -> Params:
        """Return the parameters without expansions."""
        return params

    def domain_start(self, params: Params) -> float:
        """Distance (Angstrom) below which expansions continue linearly; 0 without expansions. On the host."""
        return 0.0

    def atomic_output(self, params: Params, pairs: Pairs, conditions: Conditions, *, xp: Namespace) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""
        raise NotImplementedError

    def without_excluded(self, value: Array, pairs: Pairs, *, xp: Namespace) -> Array:
        """Return atomic values (N, ...) with zeros for atoms of `atom_exclude_types`."""
        for excluded in self.atom_exclude_types:
            hit = xp.equal(pairs.type_N, excluded)
            while len(xp.shape(hit)) < len(xp.shape(value)):
                hit = xp.expand_dims(hit, axis=-1)
            value = xp.where(hit, xp.zeros_like(value), value)
        return value

    # -- files ------------------------------------------------------------------------------------------------------

    def common(self, params: Params) -> dict[str, Any]:
        """Return what the stored forms of all models share."""
        return {
            "@class": "Model",
            "type_map": list(self.type_map),
            "atom_exclude_types": list(self.atom_exclude_types),
            "pair_exclude_types": [list(pair) for pair in self.pair_exclude_types],
            "rcond": self.rcond,
            "preset_out_bias": self.preset_out_bias,
            "@variables": {"out_bias": params["out_bias"], "out_std": params["out_std"]},
        }

    def serialize(self, params: Params) -> dict[str, Any]:
        """Return the stored form."""
        raise NotImplementedError

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[Any, Params]:
        """Return model and parameters from the stored form."""
        raise NotImplementedError


def common_options(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the stored forms of all models share."""
    return {
        "type_map": tuple(tree["type_map"]),
        "pair_exclude_types": tuple((a, b) for a, b in tree.get("pair_exclude_types", ())),
        "atom_exclude_types": tuple(tree.get("atom_exclude_types", ())),
        "rcond": tree.get("rcond"),
        "preset_out_bias": tree.get("preset_out_bias"),
    }

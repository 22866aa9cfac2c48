"""ener: atomic energies from features, one net per atom type (spec core, section 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.outputs import ENERGY, Output
from deepmd.array_model.pairs import Pairs
from deepmd.array_model.registry import register


@register("fitting_net", "ener")
@dataclass(frozen=True)
class EnergyFitting(Fitting):
    """Options of the energy fitting. `atom_ener` holds the energy of an isolated atom per type (eV), None where not assigned."""

    atom_ener: tuple[float | None, ...] = ()

    @property
    def output(self) -> Output:
        """Energy."""
        return ENERGY

    def isolated(self, nets: int) -> tuple[bool, ...]:
        """With `atom_ener`, the nets of the types that have one."""
        assigned = [energy is not None for energy in self.atom_ener]
        return tuple(any(assigned) and (nets == 1 or number >= len(assigned) or assigned[number]) for number in range(nets))

    def finish(self, params: Params, f_NK: Array, features: Features, bias_Td: Array, std_Td: Array, pairs: Pairs, *, xp: Namespace) -> Array:
        """Atomic energies (N, 1), eV. Energies are never scaled."""
        return f_NK + xp.take(bias_Td, pairs.type_N, axis=0)

    def stored(self, widths: Widths) -> dict[str, Any]:
        """Return the keys of this kind."""
        return {"var_name": "energy", "dim_out": 1, "atom_ener": list(self.atom_ener) or None}

    @classmethod
    def options(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the options of this kind."""
        return {"atom_ener": tuple(tree.get("atom_ener") or ())}

"""ener: atomic energies from features, one net per atom type (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.outputs import ENERGY


@dataclass(frozen=True)
class EnergyFitting(Fitting):
    """Options of the energy fitting.

    `atom_ener` holds the energy of an isolated atom per type (eV), None where not assigned.
    """

    kind = "ener"

    atom_ener: tuple[float | None, ...] = ()

    output = ENERGY

    def isolated(self, nets: int) -> tuple[bool, ...]:
        """With `atom_ener`, the nets of the types that have one."""
        assigned = [energy is not None for energy in self.atom_ener]
        return tuple(
            any(assigned) and (nets == 1 or number >= len(assigned) or assigned[number]) for number in range(nets)
        )

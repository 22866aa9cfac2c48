"""ener: atomic energies from features (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.outputs import ENERGY


@dataclass(frozen=True)
class EnergyFitting(Fitting):
    """Options of the energy fitting.

    `atom_ener` holds the energy of an isolated atom of each type (eV), None without an assigned energy.
    """

    kind = "ener"

    atom_ener: tuple[float | None, ...] = ()

    output = ENERGY

    def isolated(self, nets: int) -> tuple[bool, ...]:
        """Return the flags of nets with vacuum subtraction: types with an energy in `atom_ener` or beyond its list.

        A single net for all types has the flag if any type has an energy.
        """
        assigned = [energy is not None for energy in self.atom_ener]
        return tuple(
            any(assigned) and (nets == 1 or number >= len(assigned) or assigned[number]) for number in range(nets)
        )

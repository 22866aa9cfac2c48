"""dos: atomic densities of states on a grid of energies (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.outputs import Output


@dataclass(frozen=True)
class DosFitting(Fitting):
    """Options of the fitting of densities of states (Zeng et al., Phys. Rev. B 106, 174305 (2022)).

    `numb_dos` is the number of grid points.
    """

    kind = "dos"

    precision: str = "float64"
    numb_dos: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.numb_dos < 1:
            raise ValueError(f"numb_dos is {self.numb_dos}; it must be at least 1")

    @property
    def output(self) -> Output:
        """Density of states."""
        return Output("dos", self.numb_dos, label="dos", atomic_label="atom_dos")

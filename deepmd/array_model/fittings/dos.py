"""dos: atomic densities of states on a grid of energies (spec core, section 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.outputs import Output
from deepmd.array_model.pairs import Pairs
from deepmd.array_model.registry import register


@register("fitting_net", "dos")
@dataclass(frozen=True)
class DosFitting(Fitting):
    """Options of the fitting of densities of states (Zeng et al., Phys. Rev. B 106, 174305 (2022)). `numb_dos` is the number of grid points."""

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

    def finish(self, params: Params, f_NK: Array, features: Features, bias_Td: Array, std_Td: Array, pairs: Pairs, *, xp: Namespace) -> Array:
        """Atomic densities of states (N, numb_dos)."""
        return f_NK + xp.take(bias_Td, pairs.type_N, axis=0)

    def stored(self, widths: Widths) -> dict[str, Any]:
        """Return the keys of this kind."""
        return {"var_name": "dos", "dim_out": self.numb_dos, "atom_ener": None}

    @classmethod
    def options(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the options of this kind."""
        return {"numb_dos": tree["dim_out"]}

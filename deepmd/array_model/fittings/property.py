"""property: any scalar or list of scalars that is a sum or a mean over atoms (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.contracts import Features
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.outputs import Output


@dataclass(frozen=True)
class PropertyFitting(Fitting):
    """Options of the property fitting.

    Attributes
    ----------
    property_name : name of the property in the data, `property_name`.npy
    task_dim : number of components
    intensive : the property is the mean over atoms, not the sum
    distinguish_types : True: bias and scale of each type. False: bias and scale of type 0 for all
    """

    kind = "property"

    property_name: str = ""
    task_dim: int = 1
    intensive: bool = False
    distinguish_types: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.property_name:
            raise ValueError("property_name is missing: the name of the data file without .npy")
        if self.task_dim < 1:
            raise ValueError(f"task_dim is {self.task_dim}; it must be at least 1")

    @property
    def output(self) -> Output:
        """Property with the labels `property_name` and `atom_` + `property_name`."""
        label = self.property_name
        return Output("property", self.task_dim, intensive=self.intensive, label=label, atomic_label=f"atom_{label}")

    def finish(
        self,
        params: Params,
        f_NK: Array,
        features: Features,
        bias_Td: Array,
        std_Td: Array,
        neighbours: Neighbours,
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic values (N, task_dim): output of the net times scale plus bias."""
        type_N = neighbours.type_N if self.distinguish_types else xp.zeros_like(neighbours.type_N)
        return f_NK * xp.take(std_Td, type_N, axis=0) + xp.take(bias_Td, type_N, axis=0)

"""Outputs of models: names, widths and labels, the one table that derivatives, evaluators and interfaces read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """Quantity that a model predicts as a sum (or a mean) over atoms.

    Attributes
    ----------
    name : name of the total; the atomic values are called `atom_NAME`
    width : components of a value; tensors are flattened row by row
    differentiable : derivatives by positions (`force`, `virial`, `atom_virial`) are outputs too, one set per component
    intensive : the total is the mean over atoms, not the sum
    scalar : values have no axis of components, as an energy
    label, atomic_label : names of the total and of the atomic values in the data
    """

    name: str
    width: int
    differentiable: bool = False
    intensive: bool = False
    scalar: bool = False
    label: str = ""
    atomic_label: str = ""

    @property
    def atomic(self) -> str:
        """Name of the atomic values."""
        return f"atom_{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all results that a model with this output offers."""
        return (self.atomic, self.name, *(DERIVATIVES if self.differentiable else ()), "descriptor")

    @property
    def per_frame(self) -> tuple[str, ...]:
        """Names of results with one value per frame; all other results have one per atom."""
        return (self.name, "virial")


DERIVATIVES = ("force", "virial", "atom_virial")
"""Outputs that need the derivative by displacements."""

ENERGY = Output("energy", 1, differentiable=True, scalar=True, label="energy", atomic_label="atom_ener")
"""Energy, eV."""

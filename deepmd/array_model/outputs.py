"""What a model predicts: the one table that derivatives, evaluators and interfaces read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """A quantity that is a sum (or a mean) over atoms.

    Attributes
    ----------
    name : of the total; `atom_NAME` is that of the atomic values
    width : components of a value, tensors flattened row by row
    differentiable : derivatives by positions (`force`, `virial`, `atom_virial`) are outputs, one set per component
    intensive : the total is the mean over atoms, not their sum
    scalar : a single number without an axis of its own, as an energy
    label, atomic_label : what the data call the total and the atomic values
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
        """Everything that a model with this output can be asked for."""
        return (self.atomic, self.name, *(DERIVATIVES if self.differentiable else ()), "descriptor")

    @property
    def per_frame(self) -> tuple[str, ...]:
        """Outputs with one value for each frame; the others have one for each atom."""
        return (self.name, "virial")


DERIVATIVES = ("force", "virial", "atom_virial")
"""Outputs that need the derivative by displacements."""

ENERGY = Output("energy", 1, differentiable=True, scalar=True, label="energy", atomic_label="atom_ener")
"""Energy, eV."""

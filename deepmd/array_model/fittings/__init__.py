"""Fitting nets, one module each. Importing this package registers them."""

from deepmd.array_model.fittings import dipole, dos, energy, polar, property

__all__ = ["dipole", "dos", "energy", "polar", "property"]

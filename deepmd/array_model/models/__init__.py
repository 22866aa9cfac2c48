"""Model kinds, one module each. Importing this package registers them."""

from deepmd.array_model.models import linear, pairtab, standard, zbl

__all__ = ["linear", "pairtab", "standard", "zbl"]

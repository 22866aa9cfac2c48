"""Fitting nets, one module each. Importing this package registers them."""

from deepmd.array_model.fittings import energy as energy

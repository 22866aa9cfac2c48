"""Fitting nets, one module each. Importing this package registers them."""

from deepmd.array_model.fittings import dipole as dipole
from deepmd.array_model.fittings import dos as dos
from deepmd.array_model.fittings import energy as energy
from deepmd.array_model.fittings import polar as polar
from deepmd.array_model.fittings import property as property

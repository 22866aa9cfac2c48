"""Descriptors, one module each. Importing this package registers them."""

from deepmd.array_model.descriptors import dpa3 as dpa3
from deepmd.array_model.descriptors import se_e2_a as se_e2_a

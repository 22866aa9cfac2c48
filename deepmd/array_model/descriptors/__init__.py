"""Descriptors, one module each. Importing this package registers them."""

from deepmd.array_model.descriptors import (
    dpa2,
    dpa3,
    hybrid,
    loc_frame,
    se_atten,
    se_e2_a,
    se_e2_a_typed,
    se_e2_r,
    se_e3,
    se_e3_tebd,
)

__all__ = [
    "dpa2",
    "dpa3",
    "hybrid",
    "loc_frame",
    "se_atten",
    "se_e2_a",
    "se_e2_a_typed",
    "se_e2_r",
    "se_e3",
    "se_e3_tebd",
]

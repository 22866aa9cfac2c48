"""Descriptors, one module each. Importing this package registers them."""

from deepmd.array_model.descriptors import dpa2 as dpa2
from deepmd.array_model.descriptors import dpa3 as dpa3
from deepmd.array_model.descriptors import hybrid as hybrid
from deepmd.array_model.descriptors import loc_frame as loc_frame
from deepmd.array_model.descriptors import se_atten as se_atten
from deepmd.array_model.descriptors import se_e2_a as se_e2_a
from deepmd.array_model.descriptors import se_e2_a_typed as se_e2_a_typed
from deepmd.array_model.descriptors import se_e2_r as se_e2_r
from deepmd.array_model.descriptors import se_e3 as se_e3
from deepmd.array_model.descriptors import se_e3_tebd as se_e3_tebd

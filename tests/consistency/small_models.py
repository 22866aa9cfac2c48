"""Small descriptors and fitting nets that several tests combine."""

from __future__ import annotations

from dataclasses import replace

from deepmd.array_model.descriptors.dpa2 import Dpa2, Repinit
from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.fittings.dipole import DipoleFitting
from deepmd.array_model.fittings.dos import DosFitting
from deepmd.array_model.fittings.polar import PolarFitting
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.array_model.repflow import Repflow
from deepmd.array_model.repformer import Repformer

INIT = Repinit(rcut=3.0, rcut_smth=0.5, nsel=48, neuron=(2, 4), axis_neuron=2, tebd_dim=3)

BLOCK = Repformer(
    **{"rcut": 2.2, "rcut_smth": 0.5, "nsel": 30, "nlayers": 2, "g1_dim": 4, "g2_dim": 3, "axis_neuron": 2},
    **{
        "attn1_hidden": 2,
        "attn1_nhead": 2,
        "attn2_hidden": 2,
        "attn2_nhead": 2,
        "update_h2": True,
        "update_residual": 0.5,
    },
)

THREE = replace(
    INIT, use_three_body=True, three_body_neuron=(2,), three_body_rcut=2.0, three_body_sel=24, three_body_rcut_smth=0.5
)

DPA2 = Dpa2(INIT, BLOCK)

FLOW = Repflow(
    **{"e_rcut": 3.0, "e_rcut_smth": 0.5, "e_sel": 48, "a_rcut": 2.2, "a_rcut_smth": 0.5, "a_sel": 30},
    **{
        "n_dim": 4,
        "e_dim": 3,
        "a_dim": 4,
        "nlayers": 2,
        "axis_neuron": 2,
        "smooth_edge_update": True,
        "update_residual": 0.5,
        "fix_stat_std": 0.0,
    },
)

DPA3 = Dpa3(FLOW)

HARD = replace(
    BLOCK, g1_out_conv=False, g1_out_mlp=False, use_sqrt_nnei=False, attn2_has_gate=True, update_style="res_residual"
)


CONDITIONED = {"neuron": (3,), "numb_fparam": 1, "numb_aparam": 2}

GAP = PropertyFitting(**CONDITIONED, property_name="gap", task_dim=2, intensive=True)

FITTINGS = {
    "dipole": DipoleFitting(**CONDITIONED),
    "polar": PolarFitting(**CONDITIONED, scale=(0.7, 1.3)),
    "polar, full": PolarFitting(neuron=(3,), fit_diag=False, shift_diag=False),
    "dos": DosFitting(**CONDITIONED, numb_dos=3),
    "property": GAP,
    "property, extensive": replace(GAP, intensive=False, distinguish_types=False),
    "property, float32": replace(GAP, precision="float32"),
}

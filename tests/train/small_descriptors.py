"""Sections of small descriptors, as an input has them."""

from __future__ import annotations

SMALL = {"rcut": 3.0, "rcut_smth": 1.0, "neuron": [4], "seed": 1}

DISTANCES = {"type": "se_e2_r", "sel": [12, 20], **SMALL}

ATTENTIVE = {"type": "se_atten", "sel": 40, "axis_neuron": 2, "tebd_dim": 2, "attn": 4, "attn_layer": 1, **SMALL}

TYPED = {"type": "se_e3_tebd", "sel": 30, "tebd_dim": 2, **SMALL, "rcut": 2.5}

LOCAL = {"type": "loc_frame", "sel_a": [4, 8], "sel_r": [8, 12], "rcut": 3.5}

KINDS = {
    "loc_frame": LOCAL,
    "se_e2_r": DISTANCES,
    "se_e3": {"type": "se_e3", "sel": [10, 20], **SMALL},
    "se_e3_tebd": TYPED,
    "se_atten": ATTENTIVE,
    "se_atten_v2": {**ATTENTIVE, "type": "se_atten_v2", "attn_layer": 0},
    "se_e3, expanded": {"type": "se_e3", "sel": [10, 20], **SMALL, "evaluation": "spectral"},
    "se_atten, expanded": {**ATTENTIVE, "attn_layer": 0, "evaluation": "spectral"},
    "se_atten_v2, expanded": {**ATTENTIVE, "type": "se_atten_v2", "attn_layer": 0, "evaluation": "spectral"},
    "hybrid": {
        "type": "hybrid",
        "list": [{**DISTANCES, "rcut": 3.5}, {**TYPED, "sel": 20, "rcut": 2.0, "tebd_input_mode": "strip"}],
    },
}

MESSAGES = {
    "dpa2": {
        "type": "dpa2",
        "repinit": {"rcut": 3.0, "rcut_smth": 1.0, "nsel": 40, "neuron": [2, 4], "axis_neuron": 2, "tebd_dim": 2},
        "repformer": {
            **{"rcut": 2.4, "rcut_smth": 0.5, "nsel": 20, "nlayers": 2, "g1_dim": 4, "g2_dim": 3, "axis_neuron": 2},
            **{
                "attn1_hidden": 2,
                "attn1_nhead": 1,
                "attn2_hidden": 2,
                "attn2_nhead": 1,
                "update_style": "res_residual",
            },
        },
        "seed": 1,
    },
    "dpa3": {
        "type": "dpa3",
        "repflow": {
            **{"e_rcut": 3.0, "e_rcut_smth": 1.0, "e_sel": 40, "a_rcut": 2.4, "a_rcut_smth": 0.5, "a_sel": 20},
            **{"n_dim": 4, "e_dim": 3, "a_dim": 4, "nlayers": 2, "axis_neuron": 2},
        },
        "seed": 1,
    },
}
"""Descriptors that pass messages."""

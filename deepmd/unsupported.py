"""Features of DeePMD-kit that are not supported yet: keys, types and commands, each with its purpose, for messages."""

from __future__ import annotations

from typing import Any, NamedTuple

SPIN = "magnetic degrees of freedom"
HEADS = "several heads (multi-task training)"
DPA4 = "a descriptor of its own, with equivariant features of higher order"
SPEED = "switches of an execution engine that is not used here"
STAGES = "another way to run the training"
BRIDGE = "interpolation between a model and a pair potential"
POPULATION = "populations of spins"
DIRECT = "forces from a net of their own, not the derivative of an energy"


class Key(NamedTuple):
    """A key of the input.

    Attributes
    ----------
    off : value that switches the feature off; accepted, as null is
    because : purpose of the key
    trained : a model trained with another value computes something else, so that its file is refused
    """

    off: Any
    because: str
    trained: bool = False


DATA = {
    "min_pair_dist": Key(0.0, "a filter of frames"),
    "set_prefix": Key("set", "other names of folders of a system"),
    "mixed_batch": Key(False, "batches that mix systems up to a number of atoms; batch_size 'mixed:N' mixes N frames"),
}

MUON = Key(None, "an option of the optimizers AdaMuon and HybridMuon")
KALMAN = Key(None, "an option of the optimizer LKF")
DPA4_ONLY = Key(None, "an option of models of type dpa4")

KEYS: dict[str, dict[str, Key]] = {
    "": {
        "nvnmd": Key(None, "hardware of its own"),
        **dict.fromkeys(("loss_dict", "learning_rate_dict", "optimizer_dict"), Key(None, HEADS)),
    },
    "model": {
        "modifier": Key(None, "long-range electrostatics by a second model", True),
        "spin": Key(None, SPIN, True),
        "model_dict": Key(None, HEADS, True),
        "shared_dict": Key(None, HEADS, True),
        "fitting_net_dict": Key(None, HEADS, True),
        "hybrid": Key(None, "a descriptor outside of its section", True),
        "bridging_method": Key("None", BRIDGE, True),
        "bridging_r_inner": Key(0.5, BRIDGE),
        "bridging_r_outer": Key(0.8, BRIDGE),
        "finetune_head": Key(None, HEADS),
        "model_branch_alias": Key([], HEADS),
        "info": Key({}, HEADS),
        "compress": Key(None, "tables of a compressed model; dp compress makes them"),
        **dict.fromkeys(("use_compile", "enable_tf32"), Key(False, SPEED)),
        "lora": DPA4_ONLY,
    },
    "model/descriptor": {"spin": Key(None, SPIN, True)},
    "model/fitting_net": {
        "dim_case_embd": Key(0, HEADS, True),
        "layer_name": Key(None, HEADS, True),
        "spin": Key(None, SPIN, True),
    },
    "loss": {
        "start_pref_h": Key(0, "Hessians"),
        "limit_pref_h": Key(0, "Hessians"),
        "start_pref_gf": Key(0, "generalised forces"),
        "limit_pref_gf": Key(0, "generalised forces"),
        "numb_generalized_coord": Key(0, "generalised forces"),
    },
    "optimizer": {
        **dict.fromkeys(("kf_blocksize", "kf_start_pref_e", "kf_limit_pref_e"), KALMAN),
        **dict.fromkeys(("kf_start_pref_f", "kf_limit_pref_f"), KALMAN),
        **dict.fromkeys(("momentum", "muon_momentum", "muon_mode", "muon_2d_only", "min_2d_dim"), MUON),
        **dict.fromkeys(("lr_adjust", "lr_adjust_coeff", "enable_gram", "flash_muon", "magma_muon"), MUON),
    },
    "training": {
        **dict.fromkeys(("data_dict", "model_prob", "num_epoch_dict", "fitting_weight"), Key(None, HEADS)),
        "mixed_precision": Key(None, "arithmetic in another precision than that of the parameters"),
        "ema_ckpt_keep": Key(None, STAGES),
        **dict.fromkeys(("profiling", "enable_profiler", "enable_compile", "enable_tf32"), Key(False, SPEED)),
        **dict.fromkeys(("enable_ema", "disp_avg"), Key(False, STAGES)),
        "ema_decay": Key(0.999, STAGES),
        "acc_freq": Key(1, STAGES),
        "zero_stage": Key(0, SPEED),
        "neighbor_graph_method": Key("auto", SPEED),
    },
    "training/training_data": DATA,
    "training/validation_data": DATA,
    "validating": {
        "ema_full_validation": Key(False, STAGES),
        **dict.fromkeys(("compiled_infer", "tf32_infer", "amp_infer"), Key(False, SPEED)),
    },
}
"""Keys by section of the input; "" is the top level."""

KINDS: dict[str, dict[str, str]] = {
    "descriptor": {
        **dict.fromkeys(("dpa4", "DPA4", "SeZM", "sezm", "dpa4c", "DPA4C"), DPA4),
        "se_a_mask": "neighbours whose number a mask of the data gives",
        **dict.fromkeys(
            ("se_a_tpe", "se_a_ebd"), "types in nets of their own; se_e2_a with model/type_embedding has one"
        ),
        **dict.fromkeys(
            ("se_a_ebd_v2", "se_a_tpe_v2"),
            "se_e2_a with types in a net of their own; se_atten_v2 without attention layers has one",
        ),
    },
    "fitting_net": {
        "population": POPULATION,
        **dict.fromkeys(("dpa4_ener", "sezm_ener"), "the fitting net of dpa4"),
        **dict.fromkeys(("direct_force", "direct_force_ener"), DIRECT),
    },
    "model": {
        "pairwise_dprc": "two regions, of QM and of MM",
        **dict.fromkeys(("dpa4", "DPA4", "SeZM", "sezm"), DPA4),
        "spin_ener": SPIN,
    },
    "learning_rate": {},
    "optimizer": {
        "LKF": "a Kalman filter",
        "AdaMuon": "orthogonalised updates",
        "HybridMuon": "orthogonalised updates",
    },
    "loss": {"ener_spin": SPIN, "dens": "denoising of positions", "population": POPULATION},
}
"""Types by section of the input, each with its purpose."""

COMMANDS = {
    "gui": "a graphical interface",
    "pretrained": "a download of models",
    "transfer": "parameters of one graph in another. Here dp convert-backend OLD.pb NEW.pb writes a graph of today "
    "with the parameters of OLD.pb",
    "train-nvnmd": "hardware of its own",
}
"""Commands, each with its purpose."""

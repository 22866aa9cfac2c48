"""Models of DPA-2 and DPA-3 that together use every option, as sections of DeePMD-kit's input."""

from __future__ import annotations

from typing import Any

REPINIT = {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 40, "neuron": [2, 4], "axis_neuron": 2, "tebd_dim": 3}
REPFORMER = {
    **{"rcut": 3.0, "rcut_smth": 0.5, "nsel": 20, "nlayers": 2, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 3},
    **{"attn1_hidden": 3, "attn1_nhead": 2, "attn2_hidden": 3, "attn2_nhead": 2, "update_residual": 0.5},
}
REPFLOW = {
    **{"n_dim": 6, "e_dim": 5, "a_dim": 4, "nlayers": 2, "e_rcut": 4.0, "e_rcut_smth": 1.0, "e_sel": 40},
    **{"a_rcut": 3.0, "a_rcut_smth": 0.5, "a_sel": 20, "axis_neuron": 3, "update_residual": 0.5},
}
UPDATES = (
    "update_g1_has_conv",
    "update_g1_has_drrd",
    "update_g1_has_grrg",
    "update_g1_has_attn",
    "update_g2_has_g1g1",
    "update_g2_has_attn",
)
OTHER = {"exclude_types": [[0, 1]], "env_protection": 0.02}
THREE = {
    "use_three_body": True,
    "three_body_neuron": [2, 4],
    "three_body_rcut": 3.2,
    "three_body_rcut_smth": 0.5,
    "three_body_sel": 24,
}
LATE = {"e_rcut_smth": 3.4, "a_rcut_smth": 2.6}
PLAIN = {"g1_out_conv": False, "g1_out_mlp": False}


def dpa2(
    init: dict[str, Any] | None = None, block: dict[str, Any] | None = None, ntypes: int = 2, **top: Any
) -> dict[str, Any]:
    """Section of a DPA-2 model with other options of repinit, repformer and at the top; `pair` goes to the model."""
    descriptor = {"type": "dpa2", "repinit": {**REPINIT, **(init or {})}, "repformer": {**REPFORMER, **(block or {})}}
    return model(descriptor, ntypes, **top)


def dpa3(block: dict[str, Any] | None = None, ntypes: int = 2, **top: Any) -> dict[str, Any]:
    """Section of a DPA-3 model, likewise."""
    return model({"type": "dpa3", "repflow": {**REPFLOW, **(block or {})}}, ntypes, **top)


def model(
    descriptor: dict[str, Any], ntypes: int, pair: list[list[int]] | None = None, fitting_act: str = "tanh", **top: Any
) -> dict[str, Any]:
    """Section of an energy model."""
    fitting = {"type": "ener", "neuron": [4], "seed": 3, "precision": "float64", "activation_function": fitting_act}
    descriptor = {**descriptor, "precision": "float64", "seed": 2, **top}
    section = {"type_map": ["O", "H", "C"][:ntypes], "descriptor": descriptor, "fitting_net": fitting}
    return {**section, "pair_exclude_types": pair} if pair else section


def only(*names: str, **more: Any) -> dict[str, Any]:
    """Options of a repformer with these updates alone."""
    return {**{name: name in names for name in UPDATES}, **more}


DPA2 = {
    "all_avg": dpa2(block={"update_h2": True}),
    "all_incr_gate": dpa2(block={"update_h2": True, "update_style": "res_incr", "attn2_has_gate": True}),
    "all_residual_norm": dpa2(block={"update_h2": True, "update_style": "res_residual", "attn2_has_gate": True}),
    "all_residual_const": dpa2(
        block={"update_h2": True, "update_style": "res_residual", "update_residual_init": "const"}, ntypes=3
    ),
    "no_out_conv": dpa2(block={"g1_out_conv": False, "update_h2": True, "update_style": "res_residual"}),
    "no_out_mlp": dpa2(block={"g1_out_mlp": False, "use_sqrt_nnei": False, "update_style": "res_incr"}),
    "neither_out": dpa2(block={**PLAIN, "update_h2": True}),
    "not_smooth": dpa2(block={"update_h2": True}, smooth=False),
    "not_smooth_no_sqrt": dpa2(
        block={**PLAIN, "use_sqrt_nnei": False, "attn2_has_gate": True, "update_style": "res_residual"}, smooth=False
    ),
    "only_conv": dpa2(block=only("update_g1_has_conv", g1_out_mlp=False)),
    "only_drrd": dpa2(block=only("update_g1_has_drrd")),
    "only_attn": dpa2(block=only("update_g1_has_attn", g1_out_mlp=False)),
    "only_grrg_h2": dpa2(block=only("update_g1_has_grrg", update_h2=True)),
    "direct_dist": dpa2(block={"direct_dist": True, "update_h2": True}),
    "three_concat": dpa2(init=THREE, ntypes=3),
    "three_strip": dpa2(init={**THREE, "tebd_input_mode": "strip"}),
    "three_strip_not_smooth": dpa2(init={**THREE, "tebd_input_mode": "strip"}, smooth=False),
    "three_excluded": dpa2(init=THREE, **OTHER),
    "three_strip_excluded": dpa2(init={**THREE, "tebd_input_mode": "strip"}, ntypes=3, **OTHER),
    "three_beyond": dpa2(init={**THREE, "three_body_rcut": 4.6, "three_body_sel": 45}),
    "three_beyond_truncated": dpa2(
        init={**THREE, "three_body_rcut": 4.6, "three_body_sel": 18, "nsel": 14}, block={"nsel": 7}
    ),
    "strip_excluded": dpa2(init={"tebd_input_mode": "strip", "type_one_side": True, "resnet_dt": True}, **OTHER),
    "strip_two_side": dpa2(init={"tebd_input_mode": "strip", "resnet_dt": True}, ntypes=3),
    "added_type": dpa2(
        init={"type_one_side": True, "activation_function": "gelu"},
        add_tebd_to_repinit_out=True,
        concat_output_tebd=False,
        use_tebd_bias=True,
    ),
    "identity": dpa2(block={"g1_dim": 8}, init={"tebd_dim": 4}),
    "truncated": dpa2(init={"nsel": 12}, block={"nsel": 5}),
    "econf_ln_eps": dpa2(
        init={"activation_function": "silu"}, block={"activation_function": "silu", "ln_eps": 1e-3}, use_econf_tebd=True
    ),
    "pairs_excluded": dpa2(init={**THREE, "nsel": 14, "three_body_sel": 12}, block={"nsel": 6}, pair=[[0, 0]]),
}

DPA3 = {
    "base": dpa3(),
    "avg": dpa3({"update_style": "res_avg"}),
    "incr_heads": dpa3({"update_style": "res_incr", "n_multi_edge_message": 3}),
    "residual_norm": dpa3({"update_residual_init": "norm", "n_multi_edge_message": 2}, ntypes=3),
    "no_angle": dpa3({"update_angle": False}),
    "no_angle_avg": dpa3({"update_angle": False, "update_style": "res_avg"}),
    "smooth_edges": dpa3({"smooth_edge_update": True}),
    "compress_1": dpa3({"a_compress_rate": 1}),
    "compress_2": dpa3({"a_compress_rate": 2, "a_compress_e_rate": 2, "smooth_edge_update": True}),
    "compress_split": dpa3({"a_compress_rate": 1, "a_compress_use_split": True, "optim_update": False}),
    "use_dist": dpa3({"edge_init_use_dist": True}),
    "exp_switch": dpa3({"use_exp_switch": True, **LATE}),
    "use_dist_exp_switch": dpa3({"edge_init_use_dist": True, "use_exp_switch": True, **LATE}, ntypes=3),
    "dynamic": dpa3({"use_dynamic_sel": True, "smooth_edge_update": True, "sel_reduce_factor": 7.0}),
    "dynamic_more": dpa3(
        {
            **{"use_dynamic_sel": True, "smooth_edge_update": True, "optim_update": False, "a_compress_rate": 1},
            **{"n_multi_edge_message": 2, "edge_init_use_dist": True},
        }
    ),
    "dynamic_truncated": dpa3({"use_dynamic_sel": True, "smooth_edge_update": True, "e_sel": 9, "a_sel": 5}),
    "truncated": dpa3({"e_sel": 9, "a_sel": 5}),
    "excluded": dpa3({"a_sel": 8}, concat_output_tebd=True, use_tebd_bias=True, **OTHER),
    "no_mapping": dpa3(use_loc_mapping=False, activation_function="tanh"),
    "sequential": dpa3({"sequential_update": True}),
    "sequential_smooth": dpa3(
        {"sequential_update": True, "use_dynamic_sel": True, "smooth_edge_update": True, "n_multi_edge_message": 2},
        ntypes=3,
    ),
    "charge_spin": dpa3(concat_output_tebd=True, add_chg_spin_ebd=True),
    # vectors as long as there are spins have a shortcut; sums of a hundred random numbers would saturate tanh and leave
    # no force to compare
    "charge_spin_wide": dpa3(
        {"n_dim": 100},
        ntypes=3,
        add_chg_spin_ebd=True,
        default_chg_spin=[-1.0, 2.0],
        use_tebd_bias=True,
        fitting_act="silu",
    ),
    "econf_std": dpa3({"fix_stat_std": 0.0}, use_econf_tebd=True, concat_output_tebd=True),
    "pairs_excluded": dpa3({"e_sel": 14, "a_sel": 5}, pair=[[0, 0]]),
}

SECTIONS = {
    **{f"dpa2_{name}": section for name, section in DPA2.items()},
    **{f"dpa3_{name}": section for name, section in DPA3.items()},
}

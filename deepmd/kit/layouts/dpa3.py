"""The stored form of DPA-3 (docs/layouts.md#dpa-3)."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Params
from deepmd.array_model.repflow import Repflow
from deepmd.kit.layouts import nets, parts

OF_LAYERS = (
    *(
        "e_rcut",
        "e_rcut_smth",
        "a_rcut",
        "a_rcut_smth",
        "a_sel",
        "n_dim",
        "e_dim",
        "a_dim",
        "a_compress_rate",
        "a_compress_e_rate",
    ),
    *(
        "a_compress_use_split",
        "n_multi_edge_message",
        "axis_neuron",
        "update_angle",
        "update_style",
        "update_residual",
        "update_residual_init",
    ),
    *("optim_update", "smooth_edge_update", "use_dynamic_sel", "sel_reduce_factor", "sequential_update"),
)
"""Options of the block that every stored layer repeats."""


def to_dict(config: Dpa3, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    """Return the stored form of options and parameters."""
    block, precision = config.repflow, PRECISIONS[config.precision]
    options = {name: value for name, value in asdict(block).items() if name != "skip_stat"}
    options["fix_stat_std"] = config.fixed_std
    shared = {name: options[name] for name in OF_LAYERS}

    def layer(stored: Params) -> dict[str, Any]:
        maps = {name: nets.layer_to_dict(stored[name], precision, config.trainable) for name in block.shapes()}
        factors = {"@variables": {name: stored[name] for name in block.residuals()}} if block.residuals() else {}
        kept = {
            **shared,
            "e_sel": [block.e_sel],
            "ntypes": len(type_map),
            "activation_function": config.activation_function,
        }
        return {"@class": "RepFlowLayer", "@version": 2, **kept, "precision": precision, **maps, **factors}

    return {
        "@class": "Descriptor",
        "type": "dpa3",
        "@version": 2,
        "ntypes": len(type_map),
        "repflow_args": options,
        "concat_output_tebd": config.concat_output_tebd,
        "activation_function": config.activation_function,
        "precision": precision,
        "exclude_types": [list(pair) for pair in config.exclude_types],
        "env_protection": config.env_protection,
        "trainable": config.trainable,
        "use_econf_tebd": config.use_econf_tebd,
        "use_tebd_bias": config.use_tebd_bias,
        "use_loc_mapping": config.use_loc_mapping,
        "add_chg_spin_ebd": config.add_chg_spin_ebd,
        "default_chg_spin": config.default_chg_spin and list(config.default_chg_spin),
        "type_map": list(type_map),
        "type_embedding": parts.types_to_dict(config.types(), params["type_embedding"], type_map),
        **(parts.charge_spin_to_dict(config.frame_embedding(), params) if config.add_chg_spin_ebd else {}),
        "repflow_variable": {
            "edge_embd": nets.layer_to_dict(params["edge_embd"], precision, config.trainable),
            "angle_embd": nets.layer_to_dict(params["angle_embd"], precision, config.trainable),
            "repflow_layers": [layer(stored) for stored in params["layers"]],
            "env_mat": nets.environment(config),
            "@variables": {"davg": params["davg"], "dstd": params["dstd"]},
        },
    }


def from_dict(tree: dict[str, Any]) -> tuple[Dpa3, Params]:
    """Return options and parameters from the stored form."""
    what = "descriptor dpa3"
    nets.check_version(tree, 2, what)
    names = {field.name for field in fields(Repflow)}
    block = Repflow(**{name: value for name, value in tree["repflow_args"].items() if name in names})
    config = Dpa3(
        repflow=block,
        concat_output_tebd=tree["concat_output_tebd"],
        activation_function=tree["activation_function"],
        precision=tree["precision"],
        exclude_types=tuple((a, b) for a, b in tree["exclude_types"]),
        env_protection=tree["env_protection"],
        trainable=bool(tree.get("trainable", True)),
        use_econf_tebd=tree["use_econf_tebd"],
        use_tebd_bias=tree.get("use_tebd_bias", True),
        use_loc_mapping=tree.get("use_loc_mapping", True),
        add_chg_spin_ebd=bool(tree.get("add_chg_spin_ebd")),
        default_chg_spin=tree.get("default_chg_spin") and tuple(tree["default_chg_spin"]),
    )
    embedding, table = parts.types_from_dict(tree["type_embedding"], tuple(tree["type_map"]))
    if replace(embedding, trainable=True) != replace(config.types(), trainable=True):
        raise InputError(
            f"{what}: the stored type embedding {embedding} is not that of the descriptor, {config.types()}"
        )
    stored = tree["repflow_variable"]
    layers = []
    for number, item in enumerate(stored["repflow_layers"]):
        where = f"{what}, layer {number}"
        nets.check_version(item, 2, where)
        layer: Params = {name: nets.affine_from_dict(item[name], f"{where}, {name}") for name in block.shapes()}
        factors = item.get("@variables", item)  # older files have them beside the other keys
        layer.update({name: list(factors[name]) for name in block.residuals()})
        layers.append(layer)
    return config, {
        **stored["@variables"],
        "type_embedding": table,
        "edge_embd": nets.affine_from_dict(stored["edge_embd"], what),
        "angle_embd": nets.affine_from_dict(stored["angle_embd"], what),
        "layers": layers,
        **(parts.charge_spin_from_dict(tree, what) if config.add_chg_spin_ebd else {}),
    }

"""DPA-3 in `.dp` files (docs/layouts.md#dpa-3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.namespace import PRECISIONS
from deepmd.array_model.repflow import Repflow
from deepmd.kit.layouts import nets, parts
from deepmd.kit.rows import FLAG, UNSET, Conversion, Row, option_row, statistics_rows, version_row, write_only_row

NOT_IN_LAYERS = ("e_sel", "nlayers", "fix_stat_std", "edge_init_use_dist", "use_exp_switch")
"""Options of the block that its stored layers leave out or store in another form."""

OPTIONS = [
    Row("repflow_args", "repflow", Conversion(None, parts.options_below(Repflow))),
    *nets.option_rows(
        ["concat_output_tebd", "activation_function", "precision", "exclude_types", "env_protection"], UNSET
    ),
    option_row("trainable", default=True, conversion=FLAG),
    *nets.option_rows(["use_econf_tebd"], UNSET),
    *nets.option_rows(["use_tebd_bias", "use_loc_mapping"], True),
    option_row("add_chg_spin_ebd", default=False, conversion=FLAG),
    option_row("default_chg_spin", default=None),
]


def params_of(config: Dpa3, type_map: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of the parameters, and of entries that repeat options."""
    block, precision, ntypes = config.repflow, PRECISIONS[config.precision], len(type_map)
    linear, types = (
        nets.layer_conversion(precision, config.trainable),
        parts.types_conversion(config.type_embedding(), type_map),
    )
    options = {name: value for name, value in asdict(block).items() if name != "skip_stat"}
    options["fix_stat_std"] = config.fixed_std
    head = {
        "@class": "RepFlowLayer",
        "@version": 2,
        **{name: value for name, value in options.items() if name not in NOT_IN_LAYERS},
        "e_sel": [block.e_sel],
        "ntypes": ntypes,
        "activation_function": config.activation_function,
        "precision": precision,
    }
    yield from (
        write_only_row("ntypes", lambda _: ntypes),
        write_only_row("repflow_args", lambda _: options),
        Row("type_embedding", "type_embedding", types, torch="type_embedding"),
        *(parts.charge_spin_rows(config.frame_embedding()) if config.add_chg_spin_ebd else ()),
        *(
            Row(f"repflow_variable/{name}", name, linear, torch=f"repflows.{name}")
            for name in ("edge_embd", "angle_embd")
        ),
        write_only_row("repflow_variable/env_mat", lambda _: nets.environment(config)),
        *statistics_rows("repflow_variable/", "", "repflows.", uniform=False),
    )
    for number in range(block.nlayers):
        key, path = f"repflow_variable/repflow_layers/{number}", f"layers/{number}"
        module = f"repflows.layers.{number}"
        yield from (write_only_row(key, lambda _: head), version_row(key, 2))
        for name in block.affine_shapes():
            yield Row(f"{key}/{name}", f"{path}/{name}", linear, torch=f"{module}.{name}")
        yield from parts.factor_rows(key, path, module, block.residuals())

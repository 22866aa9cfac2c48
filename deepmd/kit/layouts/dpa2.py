"""DPA-2 in `.dp` files (docs/layouts.md#dpa-2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from deepmd.array_model.attention import SHIFT
from deepmd.array_model.descriptors.dpa2 import Dpa2, Repinit
from deepmd.array_model.namespace import PRECISIONS
from deepmd.array_model.repformer import Repformer
from deepmd.kit.layouts import nets, parts
from deepmd.kit.rows import (
    FLAG,
    UNSET,
    Conversion,
    Row,
    checked_row,
    option_row,
    statistics_rows,
    version_row,
    write_only_row,
)

LAYERS = "repformers_variable/repformer_layers"
NEW = ("use_sqrt_nnei", "g1_out_conv", "g1_out_mlp")
"""Options of the repformer that files before version 3 lack; there all are false."""

NOT_IN_LAYERS = ("nsel", "nlayers", "direct_dist", "update_residual", "update_residual_init", "set_davg_zero")
"""Options of the repformer that its stored layers do not repeat."""

OF_PAIRS = ("update_g2_has_g1g1", "update_g2_has_attn", "update_h2")
"""Options of the repformer that are off in the last layer."""


def _options_of(block: Repformer) -> dict[str, Any]:
    return {**asdict(block), "ln_eps": 1e-5 if block.ln_eps is None else block.ln_eps}


OPTIONS = [
    Row("repinit_args", "repinit", Conversion(asdict, parts.options_below(Repinit))),
    Row("repformer_args", "repformer", Conversion(_options_of, parts.options_below(Repformer))),
    *nets.option_rows(["concat_output_tebd", "precision", "smooth", "exclude_types", "env_protection"], UNSET),
    option_row("trainable", default=True, conversion=FLAG),
    *nets.option_rows(["add_tebd_to_repinit_out"], UNSET),
    option_row("use_econf_tebd", default=False),
    option_row("use_tebd_bias", default=True),
]


def upgrade(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a stored dict of an older version with the options that version 3 added."""
    if tree.get("@version", 1) >= 3 or not isinstance(tree.get("repformer_args"), dict):
        return tree
    return {**tree, "repformer_args": {**tree["repformer_args"], **dict.fromkeys(NEW, False)}}


def params_of(config: Dpa2, type_map: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of the parameters, and of entries that repeat options."""
    linear, ntypes = nets.layer_conversion(PRECISIONS[config.precision], config.trainable), len(type_map)
    types = parts.types_conversion(config.type_embedding(), type_map)
    yield write_only_row("ntypes", lambda _: ntypes)
    yield Row("type_embedding", "type_embedding", types, torch="type_embedding")
    if config.g1_shape:  # "tranform" [sic], as DeePMD-kit names it
        yield Row("g1_shape_tranform", "g1_shape_tranform", linear, torch="g1_shape_tranform")
    else:
        yield write_only_row("g1_shape_tranform", lambda _: {"@class": "Identity", "@version": 1})
    if config.add_tebd_to_repinit_out:
        yield Row("tebd_transform", "tebd_transform", linear, torch="tebd_transform")
    descriptors = (
        ("repinit", "repinit", config.pair_descriptor),
        ("three_body", "repinit_three_body", config.three_body_descriptor),
    )
    for path, stem, part in descriptors:
        if part is None:
            continue
        key, module = f"{stem}_variable/", f"{stem}."
        for name, net in part.nets().items():
            conversion = nets.embeddings_conversion(net, config.precision, config.trainable, 0, ntypes, 1)
            yield Row(f"{key}{name}", f"{path}/{name}", conversion, torch=module + parts.MODULES[name])
        yield write_only_row(f"{key}env_mat", lambda _, part=part: nets.environment(part))  # type: ignore[misc]
        yield from statistics_rows(key, f"{path}/", module, uniform=True)
    yield Row("repformers_variable/g2_embd", "repformers/g2_embd", linear, torch="repformers.g2_embd")
    yield write_only_row("repformers_variable/env_mat", lambda _: nets.environment(config.repformer))
    yield from statistics_rows("repformers_variable/", "repformers/", "repformers.", uniform=False)
    for number in range(config.repformer.nlayers):
        yield from _layer(config, number, number == config.repformer.nlayers - 1, ntypes, linear)


def _layer(config: Dpa2, number: int, last: bool, ntypes: int, linear: Conversion) -> list[Row]:
    """Return the rows of a layer of the repformer."""
    block, precision = config.repformer, PRECISIONS[config.precision]
    key, path, module = f"{LAYERS}/{number}", f"repformers/layers/{number}", f"repformers.layers.{number}"
    options = _options_of(block)
    head = {
        "@class": "RepformerLayer",
        "@version": 2,
        **{name: value for name, value in options.items() if name not in NOT_IN_LAYERS},
        **{name: options[name] and not last for name in OF_PAIRS},
        "sel": [block.nsel],
        "ntypes": ntypes,
        "update_chnnl_2": not last,
        "smooth": config.smooth,
        "precision": precision,
    }
    rows = [write_only_row(key, lambda _: head), version_row(key, 2)]
    maps, heads = block.affine_shapes(last), _heads(block, config.smooth, precision)
    for name in dict.fromkeys(path.partition("/")[0] for path in maps if "/" in path):
        rows.append(write_only_row(f"{key}/{name}", lambda _, name=name: heads[name]))  # type: ignore[misc]
        rows.append(checked_row(f"{key}/{name}/attnw_shift", None, SHIFT))
    rows += [
        Row(f"{key}/{name}", f"{path}/{name}", linear, torch=f"{module}.{name.replace('/', '.')}") for name in maps
    ]
    if block.update_g2_has_attn and not last:
        norm = nets.norm_conversion(options["ln_eps"], block.trainable_ln, precision)
        rows.append(Row(f"{key}/attn2_lm", f"{path}/attn2_lm", norm, torch=f"{module}.attn2_lm"))
    return [*rows, *parts.factor_rows(key, path, module, block.residuals(last))]


def _heads(block: Repformer, smooth: bool, precision: str) -> dict[str, dict[str, Any]]:
    """Return the options that the sub-blocks of a layer store beside their linear maps."""
    pairs = {"@version": 1, "input_dim": block.g2_dim, "head_num": block.attn2_nhead, "precision": precision}
    nodes = {"@version": 1, "input_dim": block.g1_dim, "head_num": block.attn1_nhead, "precision": precision}
    soft = {"smooth": smooth, "attnw_shift": SHIFT}
    own = {"hidden_dim": block.attn2_hidden, "has_gate": block.attn2_has_gate}
    return {
        "attn2g_map": {"@class": "Atten2Map", **pairs, **own, **soft},
        "attn2_mh_apply": {"@class": "Atten2MultiHeadApply", **pairs},
        "attn2_ev_apply": {"@class": "Atten2EquiVarApply", **pairs},
        "loc_attn": {"@class": "LocalAtten", **nodes, "hidden_dim": block.attn1_hidden, **soft},
    }

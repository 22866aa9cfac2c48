"""Type embedding, attention layers and embedding of charge and spin in `.dp` files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any

from deepmd.array_model.attention import GatedAttention
from deepmd.array_model.charge_spin import TABLES, names_of
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Params
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.io.checking import build, find
from deepmd.kit.layouts import nets
from deepmd.kit.rows import (
    UNSET,
    Conversion,
    Row,
    array,
    check_version,
    checked_row,
    read_rows,
    with_sequences,
    write_only_row,
    write_rows,
)

MODULES = {"embeddings": "filter_layers", "embeddings_strip": "filter_layers_strip"}
"""Lists of embedding nets: our name -> name in DeePMD-kit's torch."""


def _read_factors(stored: Any, where: str) -> list[Any]:
    if not isinstance(stored, list):
        raise InputError(f"{where}: no list of arrays: {stored!r:.100}")
    return [array(item, where) for item in stored]


FACTORS = Conversion(lambda values: values, _read_factors)

TYPE_OPTIONS = [
    *nets.option_rows(
        [each.name for each in fields(TypeEmbedding) if each.name not in ("seed", "use_tebd_bias")], UNSET
    ),
    *nets.option_rows(["use_tebd_bias"], True),
    checked_row("padding", None, True),
]
"""Rows of the options of a type embedding."""


def options_below(cls: type) -> Callable[[Any, str], dict[str, Any]]:
    """Return the reader of a section of options; keys without a meaning here are ignored."""
    known = {each.name for each in fields(cls)}

    def read(stored: Any, where: str) -> dict[str, Any]:
        if not isinstance(stored, dict):
            raise InputError(f"{where}: must be a dict of options, got {stored!r:.100}")
        return {key: with_sequences(tuple, value) for key, value in stored.items() if key in known}

    return read


def factor_rows(key: str, path: str, module: str, names: Iterable[str]) -> list[Row]:
    """Return the rows of the learned residual factors; older files have them beside the other keys of a layer."""
    return [
        Row(f"{key}/@variables/{name}", f"{path}/{name}", FACTORS, old=f"{key}/{name}", torch=f"{module}.{name}")
        for name in names
    ]


def read_types(tree: Any, where: str) -> TypeEmbedding:
    """Return the options of a stored type embedding."""
    check_version(tree, 2, where)
    return build(TypeEmbedding, read_rows(TYPE_OPTIONS, tree, where), where)


def types_conversion(types: TypeEmbedding, type_map: tuple[str, ...], *, named: bool = True) -> Conversion:
    """Return the conversion of the parameters of a type embedding; the stored options must be the same.

    Parameters
    ----------
    named : files repeat the names of the types
    """
    flags, net = [types.trainable] * len(types.neuron), types.net(len(type_map))
    conversion = nets.net_conversion(net, types.precision, flags)
    vectors = ("neuron", "use_econf_tebd", "use_tebd_bias")

    def write(params: Params) -> dict[str, Any]:
        return {
            "@class": "TypeEmbedNet",
            "@version": 2,
            "ntypes": len(type_map),
            "padding": True,
            **write_rows(TYPE_OPTIONS, types),
            "type_map": list(type_map) if named else None,
            "embedding": conversion.write(params),  # type: ignore[misc]
        }

    def read(tree: Any, where: str) -> Params:
        stored = read_types(tree, where)
        if any(getattr(stored, name) != getattr(types, name) for name in vectors):
            raise InputError(f"{where}: the stored type embedding {stored} is not that of the descriptor, {types}")
        net = conversion.read(find(tree, "embedding", where), where)  # type: ignore[misc]
        return {**net, "inputs": types.inputs(type_map)}

    return Conversion(write, read, "embedding.embedding_net.")


def charge_spin_rows(embedding: TypeEmbedding) -> list[Row]:
    """Return the rows of the embedding of charge and spin."""
    tables = {name: types_conversion(embedding, names_of(limits), named=False) for name, limits in TABLES.items()}
    mix = nets.layer_conversion(embedding.precision, embedding.trainable)
    return [Row(name, name, conversion, torch=name) for name, conversion in {**tables, "mix_cs_mlp": mix}.items()]


def attention_rows(attention: GatedAttention, trainable: bool) -> Iterator[Row]:
    """Return the rows of the attention layers, a `NeighborGatedAttention`."""
    layer, norm = (
        nets.layer_conversion(attention.precision, trainable),
        nets.norm_conversion(attention.ln_eps, attention.trainable_ln, attention.precision),
    )
    common = {
        "nnei": attention.slots,
        "embed_dim": attention.width,
        "hidden_dim": attention.hidden,
        "dotr": attention.dotr,
        "do_mask": False,
        **{name: getattr(attention, name) for name in ("scaling_factor", "normalize", "temperature")},
        "precision": PRECISIONS[attention.precision],
    }
    stack = {**common, "trainable_ln": attention.trainable_ln, "ln_eps": attention.ln_eps}
    inner = {**common, "smooth": attention.smooth, "num_heads": 1, "bias": True}
    top = "attention_layers"
    head = {"@class": "NeighborGatedAttention", "@version": 1, "layer_num": attention.layers, **stack}
    yield from (write_only_row(top, lambda _: head), checked_row(f"{top}/layer_num", attention.layers))
    if not attention.layers:
        yield Row(f"{top}/{top}", "attention", Conversion(lambda _: [], lambda stored, where: []))
    for number in range(attention.layers):
        key, module = f"{top}/{top}/{number}", f"se_atten.dpa1_attention.attention_layers.{number}."
        place = f"attention/{number}"
        yield from (write_only_row(key, lambda _: stack), write_only_row(f"{key}/attention_layer", lambda _: inner))
        for name in ("num_heads", "do_mask", "bias", "smooth"):
            yield checked_row(f"{key}/attention_layer/{name}", inner[name])
        for name in attention.nets:
            stem = f"attention_layer/{name}"
            yield Row(f"{key}/{stem}", f"{place}/{name}/layers/0", layer, torch=f"{module}{stem.replace('/', '.')}")
        yield Row(f"{key}/attn_layer_norm", f"{place}/norm", norm, torch=f"{module}attn_layer_norm")

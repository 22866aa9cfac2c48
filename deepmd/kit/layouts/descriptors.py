"""Descriptors in `.dp` files: a row of `LAYOUTS` for each kind that DeePMD-kit has (docs/layouts.md#local-descriptors).

Plug-ins are stored as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from deepmd.array_model.contracts import Descriptor
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.mixed import Mixed
from deepmd.array_model.descriptors.se_atten import SeAtten
from deepmd.array_model.descriptors.se_e2_a_typed import SeE2ATyped
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.namespace import Params
from deepmd.array_model.registry import lookup
from deepmd.io.checking import build, find, find_list
from deepmd.kit.layouts import dpa2, dpa3, nets, parts
from deepmd.kit.rows import (
    ARRAYS,
    FLAG,
    OPTION,
    REQUIRED,
    UNSET,
    Conversion,
    Row,
    check_version,
    checked_row,
    constant_row,
    option_row,
    read_rows,
    statistics_rows,
    write_only_row,
    write_rows,
)

NOT_STORED = ("seed", "evaluation")


@dataclass(frozen=True)
class DescriptorLayout:
    """Stored form of a kind of descriptor.

    Attributes
    ----------
    type : name in files
    options : rows of the options
    params : function of (configuration, type map) that returns the rows of the parameters
    version, newest : version that is written, and the newest that is read
    upgrade : function from a stored dict of an older version to the current version
    """

    type: str
    options: Sequence[Row]
    params: Callable[[Any, tuple[str, ...]], Iterable[Row]]
    version: int = 1
    newest: int = 1
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = lambda tree: tree


def descriptor_to_dict(descriptor: Descriptor, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
    """Return the stored form of a descriptor and its parameters. Leaves are copied as they are, arrays or not."""
    if isinstance(descriptor, Hybrid):
        each = zip(descriptor.members, params["members"], strict=True)
        members = [descriptor_to_dict(member, own, type_map) for member, own in each]
        return {"@class": "Descriptor", "type": "hybrid", "@version": 1, "list": members}
    layout = layout_of(type(descriptor))
    return {
        "@class": "Descriptor",
        "type": layout.type,
        "@version": layout.version,
        **write_rows(layout.options, descriptor),
        "type_map": list(type_map),
        **write_rows(layout.params(descriptor, type_map), params),
    }


def descriptor_from_dict(tree: dict[str, Any], where: str = "model/descriptor") -> tuple[Any, Params]:
    """Return options and parameters from the stored form."""
    cls = lookup("descriptor", find(tree, "type", where), where)
    what = f"descriptor {cls.kind}"
    if cls is Hybrid:
        check_version(tree, 1, what)
        each = [descriptor_from_dict(item, f"{where}/list/{k}") for k, item in enumerate(find_list(tree, "list", what))]
        return Hybrid(tuple(config for config, _ in each)), {"members": [params for _, params in each]}
    layout = layout_of(cls)
    check_version(tree, layout.newest, what)
    tree = layout.upgrade(tree)
    config = build(cls, read_rows(layout.options, tree, what), what)
    type_map = find(tree, "type_map", what, optional=True)  # the first versions lack it and do not need it
    names = tuple(type_map) if isinstance(type_map, list) else ()
    return config, read_rows(layout.params(config, names), tree, what)


# -- strictly local ---------------------------------------------------------------------------------------------------

SHARED = ("rcut", "rcut_smth", "neuron", "activation_function", "resnet_dt", "precision")
ADDED = ("exclude_types", "set_davg_zero", "env_protection")
"""Options that old files lack."""

TYPE_DEFAULTS = {"use_econf_tebd": False, "use_tebd_bias": True}
"""Options that are read from the stored type embedding, and their values if an old file lacks them."""

LOCAL = [
    *nets.option_rows(SHARED, REQUIRED),
    option_row("trainable", default=True, conversion=FLAG),
    *nets.option_rows(ADDED, UNSET),
    write_only_row("sel", lambda config: list(config.sel)),
    Row("sel", "sel", Conversion(None, OPTION.read)),
    write_only_row("env_mat", lambda config: nets.environment(config, config.env_protection)),
    checked_row("env_mat/use_exp_switch", None, False),
]
SPIN = constant_row("spin", None)
OF_NET_COUNT = [
    Row("type_one_side", "type_one_side", Conversion(OPTION.write)),
    checked_row("type_one_side", None, True, False),
    Row("embeddings/ndim", "type_one_side", Conversion(None, lambda ndim, where: ndim != 2), True),
]
"""`type_one_side` of se_e2_r follows from the number of nets, because DeePMD-kit's torch ignores the stored option."""


def _local(
    kind: str, module: str, names: Sequence[str], *more: Row, version: int = 2, newest: int = 2, uniform: bool = True
) -> DescriptorLayout:
    """Return the layout of a strictly local descriptor.

    Parameters
    ----------
    module : module of DeePMD-kit's torch that has nets and statistics, with a trailing dot
    names : options besides those of `LOCAL`
    more : further rows of options
    uniform : statistics must be the same in all slots, because one slot stands for all empty slots
    """
    own = nets.option_rows([name for name in names if name not in TYPE_DEFAULTS], REQUIRED)
    written = [Row(name, name, Conversion(OPTION.write)) for name in names if name in TYPE_DEFAULTS]
    options = [*LOCAL, *own, *written, *more]
    return DescriptorLayout(kind, options, partial(_local_params, module=module, uniform=uniform), version, newest)


def _local_params(config: Any, type_map: tuple[str, ...], *, module: str, uniform: bool) -> Iterator[Row]:
    """Yield the rows of statistics, type embedding, nets and attention layers."""
    ntypes = len(type_map)
    yield from statistics_rows("", "", module, uniform=uniform)
    if isinstance(config, Sectioned):
        keys = config.types_per_net
        shapes, expected = {"embeddings": config.net()}, len(config.slots) ** keys
    else:
        keys, shapes, expected = 0, config.nets(), 1
        yield write_only_row("ntypes", lambda _: ntypes)
    if isinstance(config, Mixed | SeE2ATyped):
        types = config.types if isinstance(config, SeE2ATyped) else config.type_embedding()
        yield Row("type_embedding", "type_embedding", parts.types_conversion(types, type_map), torch="type_embedding")
    for name, net in shapes.items():
        conversion = nets.embeddings_conversion(net, config.precision, config.trainable, keys, ntypes, expected)
        yield Row(name, name, conversion, torch=module + parts.MODULES[name])
    if isinstance(config, SeAtten):
        yield from parts.attention_rows(config.attention(), config.trainable)


def _read_only_row(key: str, path: str, default: Any = REQUIRED, read: Any = OPTION.read) -> Row:
    return Row(key, path, Conversion(None, read), default)


READ_TYPE_OPTIONS = [_read_only_row(f"type_embedding/{name}", name, default) for name, default in TYPE_DEFAULTS.items()]
EPS = [write_only_row("ln_eps", lambda config: config.attention().ln_eps), _read_only_row("ln_eps", "ln_eps", UNSET)]
SE_ATTEN_OPTIONS = (
    *("axis_neuron", "tebd_dim", "attn", "attn_layer", "attn_dotr", "attn_mask", "scaling_factor", "normalize"),
    *("temperature", "trainable_ln", "type_one_side", "concat_output_tebd", "use_econf_tebd", "use_tebd_bias"),
)
SE_E3_TEBD_OPTIONS = ("tebd_dim", "tebd_input_mode", "smooth", "concat_output_tebd", "use_econf_tebd")
SE_E2_A_OPTIONS = ("axis_neuron", "type_one_side")
READ_TYPE_EMBEDDING = _read_only_row("type_embedding", "types", read=parts.read_types)

LAYOUTS = {
    # version 3 adds the tables of a compressed model, which are redundant beside its nets
    "se_e2_a": _local("se_e2_a", "sea.", SE_E2_A_OPTIONS, SPIN, newest=3, uniform=False),
    "se_e2_a_typed": _local("se_e2_a_typed", "", SE_E2_A_OPTIONS, SPIN, READ_TYPE_EMBEDDING, newest=3, uniform=False),
    "se_e2_r": _local("se_r", "", (), SPIN, *OF_NET_COUNT, uniform=False),
    "se_e3": _local("se_e3", "seat.", ()),
    "se_e3_tebd": _local("se_e3_tebd", "se_ttebd.", SE_E3_TEBD_OPTIONS, *READ_TYPE_OPTIONS, version=1, newest=1),
    "se_atten": _local(
        "dpa1",
        "se_atten.",
        (*SE_ATTEN_OPTIONS, "tebd_input_mode", "smooth_type_embedding"),
        SPIN,
        *READ_TYPE_OPTIONS,
        *EPS,
    ),
    "se_atten_v2": _local("se_atten_v2", "se_atten.", SE_ATTEN_OPTIONS, SPIN, *READ_TYPE_OPTIONS, *EPS),
    # version 4 adds the tables of a compressed model
    "dpa2": DescriptorLayout("dpa2", dpa2.OPTIONS, dpa2.params_of, 3, 4, dpa2.upgrade),
    "dpa3": DescriptorLayout("dpa3", dpa3.OPTIONS, dpa3.params_of, 2, 2),
}


def layout_of(cls: type[Descriptor]) -> DescriptorLayout:
    """Return the layout of a kind. Options and parameters of plug-ins, and of loc_frame, are stored as they are."""
    if cls.kind in LAYOUTS:
        return LAYOUTS[cls.kind]
    names = [each.name for each in fields(cls) if each.init and each.name not in NOT_STORED]  # type: ignore[arg-type]
    if not issubclass(cls, Sectioned | Mixed):
        row = Row("@variables", "", ARRAYS)
        return DescriptorLayout(cls.kind, nets.option_rows(names, UNSET), lambda config, type_map: [row])
    known = {*SHARED, *ADDED, "sel", "trainable", "ln_eps"}
    more = [*(READ_TYPE_OPTIONS if issubclass(cls, Mixed) else ()), *(EPS if issubclass(cls, SeAtten) else ())]
    return _local(cls.kind, "", [name for name in names if name not in known], *more)

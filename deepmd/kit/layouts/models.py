"""Models in `.dp` files (docs/layouts.md#objects)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.models.base import OUTPUT_PARAMS
from deepmd.array_model.models.base import Model as ModelBase
from deepmd.array_model.models.linear import Combination
from deepmd.array_model.models.pairtab import PairTabModel
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.namespace import Params
from deepmd.array_model.outputs import ENERGY
from deepmd.array_model.registry import lookup
from deepmd.io.checking import build, find, find_list
from deepmd.kit.layouts import nets
from deepmd.kit.layouts.descriptors import descriptor_from_dict, descriptor_to_dict
from deepmd.kit.layouts.fittings import fitting_from_dict, fitting_to_dict
from deepmd.kit.rows import (
    ARRAY,
    FLAG,
    OPTION,
    UNSET,
    Conversion,
    Row,
    array,
    check_version,
    checked_row,
    option_row,
    read_rows,
    write_only_row,
    write_rows,
)

COMMON = nets.option_rows([each.name for each in fields(ModelBase)], UNSET)
"""Options that every file has."""

Parts = tuple[dict[str, Any], Params]
"""Parts of a model by option, and the parameters of the parts."""


@dataclass(frozen=True)
class ModelLayout:
    """Stored form of a kind of model, besides the common keys.

    Attributes
    ----------
    write : function of (model, parameters) that returns the stored parts
    read : function of the stored dict that returns the parts and their parameters
    options : rows of options
    version : version that is written, and the newest that is read
    """

    write: Callable[[Any, Params], dict[str, Any]]
    read: Callable[[dict[str, Any]], Parts]
    options: Sequence[Row] = ()
    version: int = 1


def model_to_dict(model: Model, params: Params) -> dict[str, Any]:
    """Return the stored form of a model and its parameters. Leaves are copied as they are, arrays or not."""
    layout = _layout(model.kind)
    return {
        "@class": "Model",
        "type": model.kind,
        "@version": layout.version,
        **write_rows(COMMON, model),
        "@variables": {name: params[name] for name in OUTPUT_PARAMS},
        **layout.write(model, params),
        **write_rows(layout.options, model),
    }


def model_from_dict(tree: dict[str, Any], where: str = "model") -> tuple[Any, Params]:
    """Return model and parameters from the stored form."""
    cls = lookup("model", find(tree, "type", where, optional=True) or "standard", where)
    layout, what = _layout(cls.kind), f"model {cls.kind}"
    check_version(tree, layout.version, what)
    parts, params = layout.read(tree)
    options = read_rows([*COMMON, *layout.options], tree, what)
    model = build(cls, {**options, **parts}, what)
    output_params = {
        name: array(find(tree, f"@variables/{name}", what), what) for name in OUTPUT_PARAMS if name not in params
    }
    return model, {**output_params, **params}


def _layout(kind: str) -> ModelLayout:
    if kind not in LAYOUTS:
        raise InputError(
            f"model {kind}: no form for files is known. Known: {', '.join(LAYOUTS)}; "
            "a plug-in adds its own to deepmd.kit.layouts.models.LAYOUTS"
        )
    return LAYOUTS[kind]


# -- kinds ------------------------------------------------------------------------------------------------------------


def _standard(model: StandardModel, params: Params) -> dict[str, Any]:
    descriptor, fitting = model.descriptor, model.fitting
    assert isinstance(fitting, Fitting)
    how = model.type_map, descriptor.widths, descriptor.mixed_types
    return {
        "descriptor": descriptor_to_dict(descriptor, params["descriptor"], model.type_map),
        "fitting": fitting_to_dict(fitting, params["fitting"], *how),
    }


def _read_standard(tree: dict[str, Any]) -> Parts:
    descriptor, descriptor_params = descriptor_from_dict(find(tree, "descriptor", "model"), "model/descriptor")
    fitting, fitting_params = fitting_from_dict(find(tree, "fitting", "model"))
    ntypes = len(find_list(tree, "type_map", "model"))
    slots = getattr(descriptor, "slots", None)  # descriptors of plug-ins may have other options
    if not descriptor.mixed and slots is not None and len(slots) != ntypes:
        raise InputError(f"model: sel has {len(slots)} entries, type_map has {ntypes}")
    # zeros, for old files that have the bias in the fitting net only
    none = 0.0 * find(fitting_params, "bias_atom_e", "model/fitting")[None]
    stored = {name: find(tree, f"@variables/{name}", "model", optional=True) for name in OUTPUT_PARAMS}
    bias = none if stored["out_bias"] is None else array(stored["out_bias"], "model: out_bias")
    std = none + 1.0 if stored["out_std"] is None else array(stored["out_std"], "model: out_std")
    if fitting.output == ENERGY:
        # energies are never scaled; DeePMD-kit's conversion to .pb would multiply by what its torch stores here
        std = 0.0 * std + 1.0
    params = {"descriptor": descriptor_params, "fitting": fitting_params, "out_bias": bias, "out_std": std}
    return {"descriptor": descriptor, "fitting": fitting}, params


def _members(model: Combination, params: Params) -> dict[str, Any]:
    return {"models": [model_to_dict(member, p) for member, p in zip(model.models, params["models"], strict=True)]}


def _read_members(tree: dict[str, Any]) -> Parts:
    stored = find_list(tree, "models", "model")
    each = [model_from_dict(item, f"models/{number}") for number, item in enumerate(stored)]
    return {"models": tuple(model for model, _ in each)}, {"models": [params for _, params in each]}


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float):
        raise InputError(f"{where}: {value!r:.100} is no number")
    return float(value)


def _weights(value: Any, where: str) -> Any:
    return value if isinstance(value, str) else tuple(_number(item, where) for item in _list(value, where))


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: {value!r:.100} is no list")
    return value


def _slots(value: Any, where: str) -> Any:
    return sum(int(_number(item, where)) for item in value) if isinstance(value, list) else value


def _intervals(value: Any, where: str) -> int:
    if type(value) is not int or value < 1:
        raise InputError(f"{where}: stored with {value!r} intervals; accepted: at least 1")
    return value


def _step(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or not value > 0.0:
        raise InputError(f"{where}: stored with intervals of {value!r} Angstrom; accepted: a positive length")
    return float(value)


NUMBER = Conversion(lambda value: value, _number)
WEIGHTS = Row("weights", "weights", Conversion(OPTION.write, _weights))
ZBL = [
    write_only_row("weights", lambda _: "mean"),
    *(option_row(name, conversion=NUMBER) for name in ("sw_rmin", "sw_rmax", "smin_alpha")),
    # DeePMD-kit's files lack the key, which means true
    option_row("srtab_add_bias", "add_bias", True, Conversion(lambda value: UNSET if value else False, FLAG.read)),
]
GRID = [
    option_row("rmin", "start", conversion=NUMBER),
    option_row("rmax", "stop", conversion=NUMBER),
    option_row("hh", "step", conversion=Conversion(NUMBER.write, _step)),
    option_row("nspline", "intervals", conversion=Conversion(NUMBER.write, _intervals)),
]
TABLE = [Row(f"@variables/{name}", name, ARRAY) for name in ("vdata", "tab_info", "tab_data")]
RANGE = [option_row("rcut", conversion=NUMBER), option_row("sel", conversion=Conversion(NUMBER.write, _slots))]


def _pairtab(model: PairTabModel, params: Params) -> dict[str, Any]:
    head = {"@class": "PairTab", "@version": 1, "ntypes": model.ntypes, "rcut": model.rcut}
    return {"tab": {**head, **write_rows(GRID, model), **write_rows(TABLE, params)}}


def _read_pairtab(tree: dict[str, Any]) -> Parts:
    what, table = "model pairtab: tab", find(tree, "tab", "model pairtab")
    check_version(table, 1, what)
    types = [checked_row("ntypes", len(find_list(tree, "type_map", "model pairtab")))]
    return read_rows([*types, *GRID], table, what), read_rows(TABLE, table, what)


LAYOUTS = {
    "standard": ModelLayout(_standard, _read_standard, version=2),
    "linear": ModelLayout(_members, _read_members, [WEIGHTS], version=3),
    "zbl": ModelLayout(_members, _read_members, ZBL, version=2),
    "pairtab": ModelLayout(_pairtab, _read_pairtab, RANGE, version=2),
}

"""Stored forms of models (docs/layouts.md#objects)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from deepmd.array_model.errors import InputError
from deepmd.array_model.models.base import OUTER, Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.outputs import ENERGY
from deepmd.array_model.registry import lookup
from deepmd.kit.layouts import nets
from deepmd.kit.layouts.descriptors import descriptor_from_dict, descriptor_to_dict
from deepmd.kit.layouts.fittings import fitting_from_dict, fitting_to_dict

COMMON = tuple(each.name for each in fields(Model))
"""Options that every file has."""

VERSIONS = {"standard": 2, "linear": 3, "zbl": 2, "pairtab": 2}

TABLE = ("vdata", "tab_info", "tab_data")
"""Parameters of a pair table."""

RANGES = ("sw_rmin", "sw_rmax", "smin_alpha")
"""Options of zbl, under their own names."""

Own = tuple[dict[str, Any], Params]
"""Options of a kind, and parameters."""

Form = tuple[Callable[[Any, Params], dict[str, Any]], Callable[[dict[str, Any]], Own]]
"""What a kind has besides the common keys, and how it is read."""


def model_to_dict(model: Any, params: Params) -> dict[str, Any]:
    """Return the stored form of a model and its parameters, whose leaves may be anything."""
    return {
        "@class": "Model",
        "type": model.kind,
        "@version": VERSIONS.get(model.kind, 1),
        **nets.options_to_dict(model, COMMON),
        "@variables": {name: params[name] for name in OUTER},
        **_form(model.kind)[0](model, params),
    }


def model_from_dict(tree: dict[str, Any], where: str = "model") -> tuple[Any, Params]:
    """Return model and parameters from the stored form.

    Raises
    ------
    InputError
        It is newer than this program, of an unknown kind, or contradicts itself.
    """
    cls = lookup("model", tree.get("type", "standard"), where)
    nets.check_version(tree, VERSIONS.get(cls.kind, 1), f"model {cls.kind}")
    options, params = _form(cls.kind)[1](tree)
    try:
        model = cls(**nets.options_from_dict(tree, {name: name for name in COMMON}), **options)
    except ValueError as error:
        raise InputError(f"model {cls.kind}: {error}") from error
    return model, {**{name: tree["@variables"][name] for name in OUTER if name not in params}, **params}


def _form(kind: str) -> Form:
    if kind not in FORMS:
        raise InputError(
            f"model {kind}: no form for files is known. Known: {', '.join(FORMS)}; a plug-in adds its own to deepmd.kit.layouts.models.FORMS"
        )
    return FORMS[kind]


# -- kinds ------------------------------------------------------------------------------------------------------------


def _standard(model: Any, params: Params) -> dict[str, Any]:
    descriptor = model.descriptor
    return {
        "descriptor": descriptor_to_dict(descriptor, params["descriptor"], model.type_map),
        "fitting": fitting_to_dict(
            model.fitting, params["fitting"], model.type_map, descriptor.widths, descriptor.mixed_types
        ),
    }


def _read_standard(tree: dict[str, Any]) -> Own:
    descriptor, descriptor_params = descriptor_from_dict(tree["descriptor"], "model/descriptor")
    fitting, fitting_params = fitting_from_dict(tree["fitting"])
    ntypes = len(tree["type_map"])
    if not descriptor.mixed and len(descriptor.slots) != ntypes:
        raise InputError(f"model: sel has {len(descriptor.slots)} entries, type_map has {ntypes}")
    outer = tree.get("@variables", {})
    none = 0.0 * fitting_params["bias_atom_e"][None]  # of a file from before these were kept apart
    bias, std = outer.get("out_bias", none), outer.get("out_std", none + 1.0)
    if (
        fitting.output == ENERGY
    ):  # never scaled; DeePMD-kit's conversion to .pb would multiply by what its torch stores here
        std = 0.0 * std + 1.0
    params = {"descriptor": descriptor_params, "fitting": fitting_params, "out_bias": bias, "out_std": std}
    return {"descriptor": descriptor, "fitting": fitting}, params


def _members(model: Any, params: Params) -> dict[str, Any]:
    return {"models": [model_to_dict(member, p) for member, p in zip(model.models, params["models"], strict=True)]}


def _read_members(tree: dict[str, Any]) -> Own:
    each = [model_from_dict(item, f"models/{number}") for number, item in enumerate(tree["models"])]
    return {"models": tuple(model for model, _ in each)}, {"models": [params for _, params in each]}


def _linear(model: Any, params: Params) -> dict[str, Any]:
    return {**_members(model, params), "weights": nets.with_sequences(list, model.weights)}


def _read_linear(tree: dict[str, Any]) -> Own:
    options, params = _read_members(tree)
    weights = (
        tree["weights"] if isinstance(tree["weights"], str) else tuple(float(weight) for weight in tree["weights"])
    )
    return {**options, "weights": weights}, params


def _zbl(model: Any, params: Params) -> dict[str, Any]:
    own = {} if model.add_bias else {"srtab_add_bias": False}  # DeePMD-kit knows no other than true there
    return {**_members(model, params), "weights": "mean", **{name: getattr(model, name) for name in RANGES}, **own}


def _read_zbl(tree: dict[str, Any]) -> Own:
    options, params = _read_members(tree)
    ranges = {name: float(tree[name]) for name in RANGES}
    return {**options, **ranges, "add_bias": bool(tree.get("srtab_add_bias", True))}, params


def _pairtab(model: Any, params: Params) -> dict[str, Any]:
    grid = {
        "rmin": model.start,
        "rmax": model.stop,
        "hh": model.step,
        "ntypes": model.ntypes,
        "rcut": model.rcut,
        "nspline": model.intervals,
    }
    table = {"@class": "PairTab", "@version": 1, **grid, "@variables": {name: params[name] for name in TABLE}}
    return {"tab": table, "rcut": model.rcut, "sel": model.sel}


def _read_pairtab(tree: dict[str, Any]) -> Own:
    table = tree["tab"]
    nets.check_version(table, 1, "model pairtab: tab")
    nets.require(table, "ntypes", [len(tree["type_map"])], "model pairtab: tab")
    sel = tree["sel"] if isinstance(tree["sel"], int) else sum(tree["sel"])
    intervals = table["nspline"]
    if type(intervals) is not int or intervals < 1 or not table["hh"] > 0.0:
        raise InputError(f"model pairtab: stored with {intervals!r} intervals of {table['hh']!r} Angstrom")
    grid = {
        "start": float(table["rmin"]),
        "stop": float(table["rmax"]),
        "step": float(table["hh"]),
        "intervals": intervals,
    }
    return {"rcut": float(tree["rcut"]), "sel": sel, **grid}, {name: table["@variables"][name] for name in TABLE}


FORMS: dict[str, Form] = {
    "standard": (_standard, _read_standard),
    "linear": (_linear, _read_linear),
    "zbl": (_zbl, _read_zbl),
    "pairtab": (_pairtab, _read_pairtab),
}

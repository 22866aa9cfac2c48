"""Sections `model` that load or combine models: pairtab, frozen, linear_ener, and `use_srtab`. For train_input.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepmd.array_model.contracts import STRICT
from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.models.linear import LinearModel
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.models.zbl import ZblModel
from deepmd.array_model.tree import flatten
from deepmd.io.checking import build
from deepmd.io.pair_table import read_table, sum_slots
from deepmd.io.sections import FileName, ModelSection
from deepmd.plan import slots
from deepmd.unsupported import KEYS

FixedParams = dict[str, np.ndarray]
"""{path: array}: parameters that the input determines, of pair tables and frozen models."""

Read = Callable[[dict[str, Any]], tuple[ModelSection, Any, FixedParams]]
"""Function that reads a section `model` of any type: its other keys, the model, parameters that it determines."""


@dataclass(frozen=True)
class PairTabSection:
    """`model` of type pairtab, without the keys that all models share."""

    tab_file: FileName
    rcut: float
    sel: int | tuple[int, ...]

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.rcut > 0.0 or sum_slots(self.sel) < 1:
            raise ValueError(f"rcut is {self.rcut}, sel {self.sel}; both must be positive")


@dataclass(frozen=True)
class FrozenSection:
    """`model` of type frozen."""

    model_file: FileName

    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class LinearSection:
    """`model` of type linear_ener, without the keys that all models share."""

    models: tuple[dict[str, Any], ...]
    weights: str | tuple[float, ...]
    shared_dict: dict[str, Any] | None = None

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.shared_dict:
            raise ValueError("shared_dict is known, but not supported yet. Remove it to go on without")


SECTIONS: dict[str, type] = {
    "pairtab": PairTabSection,
    "frozen": FrozenSection,
    "linear_ener": LinearSection,
    "linear": LinearSection,
}
"""Sections by the `type` of the model; the keys of `ModelSection` come in addition."""


def read_combination(kind: str, section: dict[str, Any], read: Read) -> tuple[ModelSection, Any, FixedParams]:
    """Build the model of a section of one of `SECTIONS`; `read` builds its members."""
    cls: Any = SECTIONS[kind]
    names = cls.__dataclass_fields__
    own = build(cls, {key: value for key, value in section.items() if key in names}, "model")
    common = {key: value for key, value in section.items() if key not in names}
    known = (*names, *ModelSection.__dataclass_fields__)
    for key in common:
        if key not in known and key not in KEYS["model"]:
            raise InputError(f"model: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}")
    if kind == "frozen":
        return _frozen(own, common)
    if kind == "pairtab":
        shared = build(ModelSection, common, "model", KEYS["model"])
        model, params = read_table(
            own.tab_file, own.rcut, sum_slots(own.sel), shared.type_map, "model/tab_file", **_options(shared)
        )
        return shared, model, flatten(params)
    return _linear(own, common, read)


def preset_bias(shared: ModelSection) -> dict[str, list[Any]] | None:
    """Return `preset_out_bias` as models have it."""
    given = shared.preset_out_bias
    return None if given is None else {key: list(value) for key, value in given.items()}


def _options(shared: ModelSection) -> dict[str, Any]:
    """Return the options that every combination has."""
    return {
        "pair_exclude_types": shared.pair_exclude_types,
        "atom_exclude_types": shared.atom_exclude_types,
        "preset_out_bias": preset_bias(shared),
    }


def _frozen(own: FrozenSection, common: dict[str, Any]) -> tuple[ModelSection, Any, FixedParams]:
    """Return the model and parameters of a model file, unchanged."""
    from deepmd.io.formats import load_model

    content = load_model(own.model_file)
    common = {"type_map": list(content.model.type_map), **common}
    shared = build(ModelSection, common, "model", KEYS["model"])
    if shared.type_map != content.model.type_map:
        raise InputError(
            f"model/type_map is {list(shared.type_map)}, but {own.model_file} has {list(content.model.type_map)}"
        )
    return shared, content.model, flatten(content.params)


def _linear(own: LinearSection, common: dict[str, Any], read: Read) -> tuple[ModelSection, Any, FixedParams]:
    """Return a sum of models. Biases b_k that members bring along become one bias of the sum, sum_k w_k b_k."""
    for each in own.models:  # the first that tells the type map
        if "type_map" not in common and ("type_map" in each or each.get("type") == "frozen"):
            common = {**common, "type_map": each["type_map"] if "type_map" in each else list(read(each)[0].type_map)}
    shared = build(ModelSection, common, "model", KEYS["model"])
    members, given = [], {}
    for number, each in enumerate(own.models):
        inherited = {} if each.get("type") == "frozen" else {"type_map": list(shared.type_map)}
        try:
            _, member, theirs = read({**inherited, **each})
        except InputError as error:
            raise InputError(f"model/models/{number}: {error}") from error
        members.append(member)
        given.update({f"models/{number}/{path}": value for path, value in theirs.items()})
    weights = own.weights if isinstance(own.weights, str) else tuple(own.weights)
    try:
        model = LinearModel(shared.type_map, tuple(members), **_options(shared), weights=weights)
    except ValueError as error:
        raise InputError(f"model: {error}") from error
    total = np.zeros((1, model.ntypes, 1))
    for number, weight in enumerate(model.member_weights):
        path = f"models/{number}/out_bias"
        if path in given:
            total = total + weight * given[path]
            given[path] = 0.0 * given[path]
    return shared, model, {**given, "out_bias": total}


def with_table(shared: ModelSection, model: StandardModel) -> tuple[Any, FixedParams]:
    """Return the model of a section with `use_srtab`: a Deep Potential, replaced by a pair table at short distances."""
    missing = [name for name in ("smin_alpha", "sw_rmin", "sw_rmax") if getattr(shared, name) is None]
    if missing:
        raise InputError(f"model/{missing[0]}: required with use_srtab, but missing")
    most = 1 if slots.find_automatic(model) else sum(model.layout().sel)  # 1: placeholder for an automatic sel
    table, params = read_table(
        str(shared.use_srtab), max(slots.find_cutoffs(model)), most, shared.type_map, "model/use_srtab"
    )
    options = {
        name: getattr(model, name) for name in ("pair_exclude_types", "atom_exclude_types", "rcond", "preset_out_bias")
    }
    bare = replace(model, pair_exclude_types=(), atom_exclude_types=())
    numbers = {name: getattr(shared, name) for name in ("smin_alpha", "sw_rmin", "sw_rmax")}
    try:
        whole = ZblModel(shared.type_map, (bare, table), **options, **numbers, add_bias=shared.srtab_add_bias)
    except ValueError as error:
        raise InputError(f"model: {error}") from error
    return whole, {f"models/1/{path}": value for path, value in flatten(params).items()}

"""input.json: reading, checking, defaults (docs/input.md). Frameworks are not needed.

Sections: sections.py. Models of models: combinations.py. The way back: write_input.py. Inputs of old DeePMD-kit
versions: kit/old_input.py.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from deepmd.array_model.components import descriptors_of, exchange_descriptors, fittings_of
from deepmd.array_model.contracts import Model
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_atten import SeAtten
from deepmd.array_model.descriptors.se_e2_a_typed import SeE2ATyped
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.registry import canonical, lookup
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.io.checking import build, check_finite, check_object, rename, without_comments
from deepmd.io.combinations import SECTIONS as COMBINATIONS
from deepmd.io.combinations import FixedParams, preset_bias, read_combination, with_table
from deepmd.io.kit_table import from_kit
from deepmd.io.sections import (
    LEARNING_RATES,
    OPTIMIZERS,
    AdamSection,
    LearningRate,
    ModelSection,
    TrainingDataSection,
    TrainingSection,
    ValidatingSection,
    ValidationSection,
)
from deepmd.losses import LOSSES, Loss, Target
from deepmd.plan import slots
from deepmd.unsupported import HEADS, KEYS
from deepmd.unsupported import KINDS as UNSUPPORTED

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class TrainInput:
    """A checked input.

    Attributes
    ----------
    model : configuration; `sel` of a descriptor may still be "auto"
    fixed_params : {path: array}, parameters that the input determines, of pair tables and frozen models
    model_section : the keys of `model` besides its parts: type map, statistics, exclusions
    combination : section `model` as given, if it describes more than a descriptor and a fitting net; else None
    data, validation, training, learning_rate, optimizer, loss, validating : the sections
    """

    model: Model
    fixed_params: FixedParams
    model_section: ModelSection
    combination: dict[str, Any] | None
    data: TrainingDataSection
    validation: ValidationSection | None
    training: TrainingSection
    learning_rate: LearningRate
    optimizer: AdamSection
    loss: Loss
    validating: ValidatingSection


SECTION_ALIASES = {("loss", "ener_hess"): "ener"}
"""Aliases of types of sections: {(section, alias): type}."""

SECTIONS = ("model", "learning_rate", "optimizer", "loss", "training", "validating")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an input file, JSON or YAML, as a dict."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            tree = yaml.load(text, Loader=_Loader)
        else:
            tree = json.loads(text, object_pairs_hook=_Pairs)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(tree, _Pairs):
        raise InputError(f"{path}: must hold an object with the keys {', '.join(SECTIONS)}")
    return cast("dict[str, Any]", _without_pairs(tree, ""))


class _Pairs(list[Any]):
    """Keys and values of an object as they stand in a file."""


class _Loader(yaml.SafeLoader):
    """YAML loader that keeps every key."""


def _pairs_of(loader: _Loader, node: yaml.MappingNode) -> _Pairs:
    loader.flatten_mapping(node)
    return _Pairs(loader.construct_pairs(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _pairs_of)


def _without_pairs(tree: Any, where: str) -> Any:
    """Return objects as dicts; raise InputError for a key that an object has twice, unless it is a comment."""
    if isinstance(tree, _Pairs):
        out: dict[Any, Any] = {}
        for key, value in tree:
            place = f"{where}/{key}" if where else str(key)
            value = _without_pairs(value, place)
            if key in out and not str(key).startswith("_"):
                raise InputError(f"{place}: is given twice, as {out[key]!r:.100} and as {value!r:.100}; keep one")
            out[key] = value
        return out
    return [_without_pairs(item, f"{where}/{k}") for k, item in enumerate(tree)] if isinstance(tree, list) else tree


def read_input(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bool]:
    """Read an input file; also return whether it had the layout of an old DeePMD-kit version."""
    tree, old = from_kit("upgrade_old_input")(read_json(path))
    _refuse_heads(tree)
    return tree, old


def _refuse_heads(tree: dict[str, Any]) -> None:
    """Raise InputError if an input describes several heads."""
    sections = {where: tree if where == "" else tree.get(where) for where in ("", "model", "training")}
    found = [
        f"{where}/{key}".lstrip("/")
        for where, section in sections.items()
        if isinstance(section, dict)
        for key, row in KEYS[where].items()
        if row.because == HEADS and section.get(key) not in (None, row.off)
    ]
    if found:
        raise InputError(f"{HEADS} are not supported yet; the input has {', '.join(found)}")


def lacks_type_map(tree: dict[str, Any]) -> bool:
    """Return whether no part of the section `model` tells the type map."""
    section = tree.get("model")
    if not isinstance(section, dict) or "type_map" in section or section.get("type") == "frozen":
        return False
    members = section.get("models")
    return all(lacks_type_map({"model": item}) for item in members) if isinstance(members, list) else True


def data_section(tree: dict[str, Any]) -> TrainingDataSection:
    """Return the section `training/training_data` of an input."""
    check_object(tree.get("training"), "training")
    section, place = tree["training"].get("training_data", {}), "training/training_data"
    return build(TrainingDataSection, without_comments(section), place, KEYS[place])


def parse_input(tree: dict[str, Any]) -> TrainInput:
    """Check an input and fill in the defaults."""
    tree = without_comments(tree)
    check_finite(tree)
    for key in list(tree):
        if key in KEYS[""]:
            if tree[key] is not None:
                because = KEYS[""][key].because
                raise InputError(f"{key}: known, but not supported yet ({because}). Remove it to go on without")
            del tree[key]
        elif key not in SECTIONS:
            raise InputError(f"unknown section {key!r}.{nearest(key, SECTIONS)} Known: {', '.join(SECTIONS)}")
    for key in ("model", "learning_rate", "training"):
        if key not in tree:
            raise InputError(f"section {key!r} is missing")
    check_object(tree["training"], "training")
    training = dict(tree["training"])
    data = training.pop("training_data", {})
    validation = training.pop("validation_data", None)
    model_section, model, fixed_params = _build_model(tree["model"])
    as_json = json.loads(json.dumps(tree["model"]))  # lists for tuples, because files keep the section as JSON
    options = TrainInput(
        model=model,
        fixed_params=fixed_params,
        combination=None if model.kind == "standard" and not fixed_params else as_json,
        model_section=model_section,
        data=build(TrainingDataSection, data, "training/training_data", KEYS["training/training_data"]),
        validation=None
        if validation is None
        else build(ValidationSection, validation, "training/validation_data", KEYS["training/validation_data"]),
        training=build(TrainingSection, training, "training", KEYS["training"]),
        learning_rate=_build_by_type(tree["learning_rate"], "learning_rate", LEARNING_RATES, "exp"),
        optimizer=_build_by_type(tree.get("optimizer", {}), "optimizer", OPTIMIZERS, "Adam"),
        loss=_build_loss(tree.get("loss", {}), model),
        validating=build(ValidatingSection, tree.get("validating", {}), "validating", KEYS["validating"]),
    )
    if options.validation is not None and options.data.validation_fraction:
        text = "sets validation frames aside, and validation_data is given; keep one of them"
        raise InputError(f"training/training_data/validation_fraction: {text}")
    warmup, steps = options.learning_rate.warmup_steps, options.training.numb_steps
    if steps is not None and warmup >= max(steps, 1):
        raise InputError(f"learning_rate/warmup_steps: {warmup}; accepted: less than training/numb_steps, {steps}")
    return options


def _build_by_type(section: Any, where: str, kinds: Mapping[str, type[T]], default: str) -> T:
    """Build the dataclass that the `type` of a section names."""
    check_object(section, where)
    kind, later = str(section.get("type", default)), UNSUPPORTED[where]  # str: a list or an object is an unknown type
    kind = SECTION_ALIASES.get((where, kind), kind)
    if kind in later:
        text = f"{kind!r} is known, but not supported yet ({later[kind]})"
        raise InputError(f"{where}/type: {text}. Accepted: {', '.join(kinds)}")
    if kind not in kinds:
        known = (*kinds, *later)
        text = f"unknown type {kind!r}. Known: {', '.join(known)}.{nearest(kind, known)}"
        raise InputError(f"{where}/type: {text}")
    return build(kinds[kind], {key: value for key, value in section.items() if key != "type"}, where, KEYS.get(where))


def _build_loss(section: Any, model: Model) -> Loss:
    """Build the loss; its default type follows from what the model predicts."""
    suited = [kind for kind, cls in LOSSES.items() if model.output.name in cls.predicts]
    if not suited:
        raise InputError(f"loss: none is for models of {model.output.name}. Known: {', '.join(LOSSES)}")
    loss = _build_by_type(section, "loss", LOSSES, suited[0])
    if loss.kind not in suited:
        kinds = [f"fitting_net type {fitting.kind!r}" for fitting in fittings_of(model)]  # sums of tables have none
        what = kinds[0] if kinds else f"type {model.kind!r}"
        raise InputError(f"loss/type: {loss.kind!r} is not for models of {what}. Accepted: {', '.join(suited)}")
    return loss.with_target(Target.of(model))


def _build_part(section: Any, kind: str, where: str, default: str | None) -> Any:
    """Build a descriptor or a fitting net from its section."""
    check_object(section, where)
    name = section.get("type", default)
    if name is None:
        raise InputError(f"{where}/type: required, but missing")
    cls = lookup(kind, canonical(kind, name, where), where)
    section = {key: value for key, value in section.items() if key != "type"}
    if cls is Hybrid:
        section = rename(section, cls.aliases, where)
        members = section.get("members")
        if isinstance(members, list | tuple):
            each = tuple(_build_part(item, kind, f"{where}/list/{k}", None) for k, item in enumerate(members))
            section["members"] = each
    part = build(cls, section, where, KEYS["model/descriptor" if kind == "descriptor" else where])
    if isinstance(part, SeE2R) and not part.type_one_side:
        text = "a net for each pair of types, as in DeePMD-kit's TensorFlow; its torch ignores the key"
        log.warning("%s/type_one_side is false: %s and has one for each neighbour type", where, text)
    return part


def _build_model(section: Any) -> tuple[ModelSection, Any, FixedParams]:
    """Build a model from its section; return the other keys, the model, and parameters that the section determines."""
    check_object(section, "model")
    section = rename(section, {}, "model")
    kind = section.pop("type", "standard")
    if kind in COMBINATIONS:
        return read_combination(kind, section, _build_model)
    if canonical("model", kind, "model/type") != "standard":  # kinds that inputs describe by other keys
        raise InputError(f"model/type: {kind!r} is no type of an input. Accepted: standard, {', '.join(COMBINATIONS)}")
    parts = {}
    for key in ("descriptor", "fitting_net"):
        if key not in section:
            raise InputError(f"model/{key}: required, but missing")
        parts[key] = section.pop(key)
    descriptor = _build_part(parts["descriptor"], "descriptor", "model/descriptor", None)
    fitting = _build_part(parts["fitting_net"], "fitting_net", "model/fitting_net", "ener")
    if (types := section.pop("type_embedding", None)) is not None:
        descriptor = _add_type_embedding(descriptor, types)
    shared = build(ModelSection, section, "model", KEYS["model"])
    _check_types(shared, descriptor, fitting)
    _check_automatic(descriptor)
    if fitting.needs_equivariant and not descriptor.widths.equivariant:
        raise InputError(
            f"model/fitting_net: type {fitting.kind!r} needs a descriptor with equivariant features; "
            f"{descriptor.kind!r} has none"
        )
    model = StandardModel(
        type_map=shared.type_map,
        descriptor=descriptor,
        fitting=fitting,
        pair_exclude_types=shared.pair_exclude_types,
        atom_exclude_types=_types_without_output(shared, fitting),
        rcond=fitting.rcond,
        preset_out_bias=preset_bias(shared),
    )
    return (shared, model, {}) if shared.use_srtab is None else (shared, *with_table(shared, model))


def _add_type_embedding(descriptor: Any, section: Any) -> Any:
    """Return the descriptor with the type embedding of the model.

    Members of type se_e2_a become SeE2ATyped. Members of type se_atten have a linear layer of their own, which gives
    every table of vectors that the net of the section can give; it gets the width of that net.
    """
    parts: tuple[Any, ...] = descriptors_of(descriptor)
    kinds = ", ".join(part.kind for part in parts)
    if any(part.mixed and not isinstance(part, SeAtten) for part in parts) or not any(
        part.kind == "se_e2_a" or isinstance(part, SeAtten) for part in parts
    ):
        raise InputError(
            f"model/type_embedding: is for descriptors se_e2_a and se_atten, and hybrids of these; not for {kinds}"
        )
    check_object(section, "model/type_embedding")
    types = build(TypeEmbedding, {"activation_function": "tanh", **section}, "model/type_embedding")

    def typed(part: Any) -> Any:
        if part.kind == "se_e2_a":
            return SeE2ATyped(**vars(part), types=types)
        if not isinstance(part, SeAtten):
            return part
        if types.trainable != part.trainable:
            raise ValueError(f"trainable is {types.trainable}; accepted: that of the descriptor, {part.trainable}")
        taken = {name: getattr(types, name) for name in ("use_econf_tebd", "use_tebd_bias")}
        return replace(part, tebd_dim=types.neuron[-1], **taken)

    try:
        out = exchange_descriptors(descriptor, tuple(typed(part) for part in parts))
    except ValueError as error:
        raise InputError(f"model/type_embedding: {error}") from error
    linear = len(types.neuron) == 1 and types.activation_function.lower() in ("linear", "none")
    if any(isinstance(part, SeAtten) for part in parts) and not linear:
        text = "has a linear layer of its own in place of this net, which can give the same vectors; its width is"
        log.warning("model/type_embedding: se_atten %s tebd_dim = %d", text, types.neuron[-1])
    return out


def _selected_types(fitting: Any) -> tuple[int, ...] | None:
    """Return `sel_type` of a fitting net, the types with an output; None: all."""
    chosen = getattr(fitting, "sel_type", None)
    return (chosen,) if isinstance(chosen, int) else chosen


def _types_without_output(shared: ModelSection, fitting: Any) -> tuple[int, ...]:
    """Return the types without output: `atom_exclude_types`, and all but `sel_type` of the fitting net."""
    types = set(range(len(shared.type_map)))
    chosen = _selected_types(fitting)
    return tuple(sorted({*shared.atom_exclude_types, *(types - set(types if chosen is None else chosen))}))


def _check_automatic(descriptor: Any) -> None:
    """Raise InputError for a number of slots that is a text without meaning."""
    for part in descriptors_of(descriptor):
        for name, (_, value) in part.slot_options().items():
            if isinstance(value, str):
                slots.read_ratio(value, f"model/descriptor/{name}")


def _check_types(shared: ModelSection, descriptor: Any, fitting: Any) -> None:
    """Raise InputError if lists by type do not have the length of the type map, or a type does not exist."""
    ntypes = len(shared.type_map)
    parts: tuple[Any, ...] = descriptors_of(descriptor)  # Any: options differ by kind
    places = (
        ["model/descriptor"] if parts == (descriptor,) else [f"model/descriptor/list/{k}" for k in range(len(parts))]
    )
    for place, part in zip(places, parts, strict=True):
        sel = getattr(part, "sel", None)  # descriptors of plug-ins may have other options
        if not part.mixed and isinstance(sel, tuple) and len(sel) != ntypes:
            raise InputError(f"{place}/sel: has {len(sel)} entries, type_map has {ntypes}: {list(shared.type_map)}")
    for name in ("atom_ener", "scale"):
        values = getattr(fitting, name, None)
        if isinstance(values, tuple) and (len(values) > ntypes or (name == "scale" and len(values) < ntypes)):
            raise InputError(f"model/fitting_net/{name}: has {len(values)} entries, type_map has {ntypes}")
    used = {
        **{
            f"{place}/exclude_types": [t for pair in getattr(part, "exclude_types", ()) for t in pair]
            for place, part in zip(places, parts, strict=True)
        },
        "model/pair_exclude_types": [t for pair in shared.pair_exclude_types for t in pair],
        "model/atom_exclude_types": list(shared.atom_exclude_types),
        "model/fitting_net/sel_type": list(_selected_types(fitting) or ()),
    }
    for where, types in used.items():
        wrong = [t for t in types if not 0 <= t < ntypes]
        if wrong:
            raise InputError(
                f"{where}: type {wrong[0]} does not exist; "
                f"types are 0..{ntypes - 1} for type_map {list(shared.type_map)}"
            )

"""`.pth` and `.pt` files of DeePMD-kit: options by the attributes of its modules, parameters by the rows of layouts/.

Needs no torch, which could not load a `.pth` without DeePMD-kit's operator library: io/torch_archive.py reads it.
Another kind of descriptor or fitting net is another row of `DESCRIPTORS` or `FITTINGS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.errors import InputError
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.outputs import ENERGY
from deepmd.array_model.registry import canonical, lookup
from deepmd.io.bounded import check_arrays
from deepmd.io.checking import build
from deepmd.io.model_file import ModelFile, shortest
from deepmd.io.pair_table import of_splines, sum_slots
from deepmd.io.torch_archive import CLASS
from deepmd.kit.layouts.descriptors import layout_of
from deepmd.kit.layouts.fittings import PARAMS as FITTING_PARAMS
from deepmd.kit.model_section import (
    BY_DP,
    COMPRESSED,
    LEAVES,
    Section,
    StatedModel,
    assemble,
    combine,
    kind_of,
    parse_definition,
)
from deepmd.kit.rows import Row, with_sequences


@dataclass(frozen=True)
class ModuleNames:
    """Names of the options of a kind of descriptor or fitting net in modules; rows of layouts/ name its parameters.

    Attributes
    ----------
    kind : `type` in an input
    block : attribute that has most options, with a trailing dot, or ""; the other options are in the module itself
    options : our option -> attribute of another name
    sections : our nested section -> module of its options, with a trailing dot, and options that are attributes of
        another name, which begins at the module of the whole descriptor
    """

    kind: str
    block: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)


TYPE_EMBEDDING_ATTRIBUTES = {name: f"type_embedding.{name}" for name in ("use_tebd_bias", "use_econf_tebd")}
SE_ATTEN_ATTRIBUTES = {"attn": "attn_dim", "smooth_type_embedding": "smooth"}
REPINIT_ATTRIBUTES = {
    "nsel": "repinit.nnei",
    "use_three_body": "use_three_body",
    "three_body_sel": "repinit_three_body.nnei",
}
REPINIT_ATTRIBUTES |= {f"three_body_{name}": f"repinit_three_body.{name}" for name in ("neuron", "rcut", "rcut_smth")}
DPA2_SECTIONS = {"repinit": ("repinit.", REPINIT_ATTRIBUTES), "repformer": ("repformers.", {"nsel": "repformers.nnei"})}

DESCRIPTORS = {
    # class: its names
    "DescrptSeA": ModuleNames("se_e2_a", "sea."),
    "DescrptSeR": ModuleNames("se_e2_r"),
    "DescrptSeT": ModuleNames("se_e3", "seat."),
    "DescrptDPA1": ModuleNames("se_atten", "se_atten.", SE_ATTEN_ATTRIBUTES),
    "DescrptSeAttenV2": ModuleNames("se_atten_v2", "se_atten.", SE_ATTEN_ATTRIBUTES),
    "DescrptDPA2": ModuleNames("dpa2", sections=DPA2_SECTIONS),
    "DescrptDPA3": ModuleNames("dpa3", sections={"repflow": ("repflows.", {})}),
    "DescrptSeTTebd": ModuleNames("se_e3_tebd", "se_ttebd.", TYPE_EMBEDDING_ATTRIBUTES),
}
FITTINGS = {
    "EnergyFittingNet": ModuleNames("ener"),
    "DipoleFittingNet": ModuleNames("dipole"),
    "PolarFittingNet": ModuleNames("polar"),
    "DOSFittingNet": ModuleNames("dos", options={"numb_dos": "dim_out"}),
    "PropertyFittingNet": ModuleNames("property", options={"property_name": "var_name"}),
}

HYBRID_CLASS, MEMBERS_ATTRIBUTE = "DescrptHybrid", "descrpt_list."
"""Class of a hybrid, and the attribute that has its members."""


@dataclass(frozen=True)
class PartModule:
    """Part of the model: its module (with a trailing dot), kinds by class, path of our parameters."""

    module: str
    kinds: Mapping[str, ModuleNames]
    path: str


PART_MODULES = {
    "descriptor": PartModule("atomic_model.descriptor.", DESCRIPTORS, "descriptor"),
    "fitting_net": PartModule("atomic_model.fitting_net.", FITTINGS, "fitting"),
}
"""Parts of a section `model`, with their modules."""

COMBINATIONS = {"LinearEnergyAtomicModel": "linear", "DPZBLLinearEnergyAtomicModel": "zbl"}
"""Classes of models that combine other models -> our kinds."""

EXCLUDED = ("pair_exclude_types", "atom_exclude_types")
OF_ZBL = ("use_srtab", "sw_rmin", "sw_rmax", "smin_alpha", "srtab_add_bias")

SMIN_ALPHA = 0.1
"""`smin_alpha` (Angstrom) in training and evaluation by DeePMD-kit's torch, whatever its input says."""

TRAINING_OPTIONS = {"seed", "trainable", "rcond"}
"""Options without effect after training; modules use these names for other attributes."""


def read_pth(values: Mapping[str, Any], path: Path) -> ModelFile:
    """Read a frozen model of DeePMD-kit.

    Parameters
    ----------
    values : attributes of its modules, by name (see `torch_archive.attributes`)
    """
    if f"atomic_model.{CLASS}" not in values:
        raise InputError(
            f"{path}: TorchScript, but not a model of this program or of DeePMD-kit: "
            "it has neither 'definition' nor 'atomic_model'"
        )
    return _read(values, parse_definition(values.get("model_def_script"), str(path)), path)


def read_pt(tree: Any, path: Path) -> ModelFile:
    """Read a training checkpoint of DeePMD-kit."""
    state = tree.get("model", tree) if isinstance(tree, dict) else None
    extra = state.get("_extra_state") if isinstance(state, dict) else None
    definition = extra.get("model_params") if isinstance(extra, dict) else None
    if not isinstance(state, dict) or not isinstance(definition, dict):
        raise InputError(f"{path}: not a checkpoint of this program or of DeePMD-kit: it does not describe its model")
    if "model_dict" in definition:
        heads = ", ".join(map(str, definition["model_dict"]))
        raise InputError(
            f"{path}: a checkpoint of several models ({heads}), which is not supported. "
            "Freeze one with DeePMD-kit's --head first"
        )
    return _read({str(name).removeprefix("model.Default."): value for name, value in state.items()}, definition, path)


def _read(values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    try:
        kind = _kind(values, definition)
        if kind in COMBINATIONS.values():
            return _combination(kind, values, definition, path)
        return _table(values, definition) if kind == "pairtab" else _standard(values, definition, path)
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error


def _kind(values: Mapping[str, Any], definition: Section) -> str:
    """Return the kind of a model: by the class of its module, or by its section (checkpoints store no classes)."""
    cls = values.get(f"atomic_model.{CLASS}")
    if cls is not None:
        return {**COMBINATIONS, "PairTabAtomicModel": "pairtab"}.get(str(cls), "standard")
    kind = canonical("model", definition.get("type", "standard"), "model/type")
    return "zbl" if kind == "standard" and definition.get("use_srtab") else kind


def _combination(kind: str, values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    """Return a combination of models; each member is read from the attributes below its own module.

    Exclusions count for the whole only.
    """
    network = {key: value for key, value in definition.items() if key not in (*EXCLUDED, *OF_ZBL, "type")}
    sections = [network, {"type": "pairtab"}] if kind == "zbl" else definition.get("models") or []
    if not isinstance(sections, list) or not all(isinstance(inner, dict) for inner in sections):
        raise InputError("model/models: must be a list of objects with keys")
    numbers = _numbers(values, "atomic_model.models.")
    sections = sections or [{}] * len(numbers)
    _check_numbers(numbers, sections, "model/models")
    stated = values.get("atomic_model.type_map"), definition.get("type_map")
    named = (*stated, *(inner.get("type_map") for inner in sections))
    type_map = next((names for names in named if isinstance(names, list)), None)
    if type_map is None:
        raise InputError("model/type_map: the file does not name its elements")
    members: list[ModelFile] = []
    for number, inner in enumerate(sections):
        start = f"atomic_model.models.{number}."
        own = {name.replace(start, "atomic_model.", 1): v for name, v in values.items() if name.startswith(start)}
        given = {"type_map": type_map, **{key: value for key, value in inner.items() if key not in EXCLUDED}}
        if kind == "zbl" and number == 1:  # the pair table shares the neighbour list of the network
            layout = members[0].model.layout()
            given.update(rcut=layout.rcut, sel=sum(layout.sel))
        members.append(_read(own, given, path))
    options = {"type_map": tuple(map(str, type_map)), **_options_of(kind, values, definition)}
    return combine(kind, members, options, values.get("atomic_model.out_bias"), definition, _distance(values))


def _options_of(kind: str, values: Mapping[str, Any], definition: Section) -> Section:
    """Return the options of a combination: exclusions, and weights or switching distances."""

    def stated(name: str, default: Any = None) -> Any:
        return values.get(f"atomic_model.{name}", definition.get(name, default))

    out: Section = {name: with_sequences(tuple, stated(name) or ()) for name in EXCLUDED}
    if kind == "zbl":
        out |= {name: stated(name) for name in ("sw_rmin", "sw_rmax")}
        return {**out, "smin_alpha": values.get("atomic_model.smin_alpha", SMIN_ALPHA)}
    return {**out, "weights": with_sequences(tuple, stated("weights", "mean"))}


def _table(values: Mapping[str, Any], definition: Section) -> ModelFile:
    """Return a pair table from its stored splines. Cutoff and slots, which checkpoints lack, come from the section."""
    stated = {name: values.get(f"atomic_model.{name}", definition.get(name)) for name in ("type_map", "rcut", "sel")}
    named = {name: values.get(f"atomic_model.{name}") for name in ("tab_info", "tab_data", "out_bias")}
    arrays = {name: array for name, array in named.items() if isinstance(array, np.ndarray)}
    missing = [name for name in ("type_map", "rcut", "sel") if stated[name] is None]
    missing += [name for name in ("tab_info", "tab_data") if name not in arrays]
    if missing:
        raise InputError(f"the file has a pair table without {', '.join(missing)}")
    options = build(TableOptions, stated, "model")
    info, data = arrays.pop("tab_info"), arrays.pop("tab_data")
    model, params = of_splines(info, data, options.rcut, sum_slots(options.sel), options.type_map)
    return ModelFile(model, {**params, **arrays})


@dataclass(frozen=True)
class TableOptions:
    """Options of modules of pair tables."""

    type_map: tuple[str, ...]
    rcut: float
    sel: int | tuple[int, ...]


def _distance(values: Mapping[str, Any]) -> float | None:
    """Return the shortest distance of the training data, Angstrom, or None if it is unknown."""
    distance = values.get("min_nbor_dist")
    return shortest(float(distance.item())) if isinstance(distance, np.ndarray) and distance.size == 1 else None


def _standard(values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    common = ("type_map", "pair_exclude_types", "atom_exclude_types")
    section = {name: found for name in common if (found := values.get(f"atomic_model.{name}")) is not None}
    section |= {
        part: _part(part, place.module, values, definition.get(part) or {}) for part, place in PART_MODULES.items()
    }
    weights = {place.path: _first_weights(values, place.module) for place in PART_MODULES.values()}
    module, path_of = (
        PART_MODULES["descriptor"].module + MEMBERS_ATTRIBUTE,
        PART_MODULES["descriptor"].path + "/members/",
    )
    weights |= {f"{path_of}{k}": _first_weights(values, f"{module}{k}.") for k in _numbers(values, module)}
    size = sum(value.size for value in values.values() if isinstance(value, np.ndarray))
    tables = any(".compress_data." in name and isinstance(v, np.ndarray) and v.size for name, v in values.items())

    def arrays_of(model: StandardModel, paths: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the parameters of the file."""
        found = _arrays(model, paths, values)
        if tables and not any("/embeddings/" in name for name in found):
            raise InputError(COMPRESSED)
        check_arrays((array.nbytes for array in found.values()), path)
        return found

    return assemble(definition, StatedModel(section, arrays_of, size, weights, _distance(values)), str(path))


def _first_weights(values: Mapping[str, Any], module: str) -> np.ndarray | None:
    """Return the weights of one layer below a module, or None; their dtype is the precision of the part."""
    names = (name for name in values if name.startswith(module) and name.endswith(".matrix"))
    return next((values[name] for name in names if isinstance(values[name], np.ndarray)), None)


def _arrays(model: StandardModel, paths: Iterable[str], values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the parameters that modules have, by our paths.

    Raise InputError for a layer that is left over, because evaluation without it would be wrong silently.
    """
    names = {"out_bias": "atomic_model.out_bias", "out_std": "atomic_model.out_std"}
    if model.fitting.output == ENERGY:  # energies are never scaled
        del names["out_std"]
    descriptor, fitting = PART_MODULES["descriptor"], PART_MODULES["fitting_net"]
    rows = [(fitting.module, fitting.path, FITTING_PARAMS)]
    for number, part in enumerate(descriptors_of(model.descriptor)):
        several = isinstance(model.descriptor, Hybrid)
        module = f"{descriptor.module}{MEMBERS_ATTRIBUTE}{number}." if several else descriptor.module
        path = f"{descriptor.path}/members/{number}" if several else descriptor.path
        rows.append((module, path, list(layout_of(type(part)).params(part, model.type_map))))
    for path in paths:
        for module, below, own in rows:
            if name := _name_of(path, below, own):
                names[path] = f"{module}{name}"
    # a `.pth` has lists of nets under two names, a checkpoint under one
    other = {path: name.replace("._networks.", ".networks.") for path, name in names.items()}
    found = {path: values.get(name, values.get(other[path])) for path, name in names.items()}
    modules = tuple(place.module for place in PART_MODULES.values())
    known = {*names.values(), *other.values()}
    left = {name for name in values if name.startswith(modules) and name.endswith(tuple(LEAVES))} - known
    if left := {name for name in left if isinstance(values[name], np.ndarray)}:
        raise InputError(
            f"the file has parameters that its description does not explain: {', '.join(sorted(left)[:5])}"
        )
    return {path: value for path, value in found.items() if isinstance(value, np.ndarray)}


def _name_of(path: str, below: str, rows: Iterable[Row]) -> str:
    """Return the name of a parameter below the module of a part, "" if no row has it."""
    for row in rows:
        start = f"{below}/{row.path}"
        if row.torch and (path == start or path.startswith(f"{start}/")):
            *above, leaf = path.removeprefix(start).split("/")
            # embeddings/0/layers/1/w -> filter_layers._networks.0.layers.1.matrix
            rest = [*above[1:], {ours: theirs for theirs, ours in LEAVES.items()}.get(leaf, leaf)] if leaf else []
            return f"{row.torch}.{row.conversion.torch}{'.'.join(rest)}" if rest else row.torch
    return ""


def _part(part: str, module: str, values: Mapping[str, Any], inner: Any, where: str = "") -> Section:
    """Return the options of a section that a module states.

    Parameters
    ----------
    module : name of the module, with a trailing dot
    inner : section in the definition
    where : path of `inner`, if it is not the path of the part
    """
    where, cls = where or f"model/{part}", values.get(f"{module}{CLASS}")
    stated = inner if isinstance(inner, dict) else {}
    if cls == HYBRID_CLASS or (cls is None and stated.get("type") == "hybrid"):
        return {"type": "hybrid", "list": _members(part, module, values, stated.get("list"))}
    names = _names(part, cls, stated)
    if names is None:
        kind = f"type {stated.get('type', '')!r} ({cls})"
        raise InputError(f"{where}: {kind} cannot be read from .pth and .pt files yet. {BY_DP}")
    config = lookup(part, names.kind, part)
    out: Section = {"type": names.kind}
    for name in {option.name for option in fields(config)} - TRAINING_OPTIONS - {*names.sections}:
        attribute = names.options.get(name, name)
        value = values.get(f"{module}{names.block}{attribute}", values.get(f"{module}{attribute}"))
        if value is not None and not isinstance(
            value, np.ndarray
        ):  # some modules keep arrays under the name of an option
            out[name] = value
    for name, (below_module, others) in names.sections.items():
        options = [option.name for option in fields(get_type_hints(config)[name])]
        places = {option: module + others.get(option, f"{below_module}{option}") for option in options}
        out[name] = {option: values[place] for option, place in places.items() if values.get(place) is not None}
    return out


def _members(part: str, module: str, values: Mapping[str, Any], sections: Any) -> list[Section]:
    """Return the sections of the members of a hybrid that modules state."""
    numbers = _numbers(values, f"{module}{MEMBERS_ATTRIBUTE}")
    given = sections if isinstance(sections, list) else [{}] * len(numbers)
    _check_numbers(numbers, given, f"model/{part}/list")
    each = enumerate(given)
    return [
        _part(part, f"{module}{MEMBERS_ATTRIBUTE}{k}.", values, inner, f"model/{part}/list/{k}") for k, inner in each
    ]


def _numbers(values: Mapping[str, Any], module: str) -> list[int]:
    """Return the numbers of the modules in a list of modules."""
    pattern = re.compile(re.escape(module) + r"(\d+)\.")
    return sorted({int(match[1]) for name in values if (match := pattern.match(name))})


def _check_numbers(numbers: list[int], given: list[Any], where: str) -> None:
    if numbers != list(range(len(given))):
        raise InputError(f"{where}: the input has {len(given)} members, the file has those of numbers {numbers}")


def _names(part: str, cls: Any, stated: Section) -> ModuleNames | None:
    """Return the names of a part: by the class of its module, or by its section (checkpoints store no classes)."""
    kinds = PART_MODULES[part].kinds
    if cls is not None:
        return kinds.get(str(cls))
    kind = canonical(part, kind_of(part, {part: stated}), f"model/{part}/type")
    return {names.kind: names for names in kinds.values()}.get(kind)

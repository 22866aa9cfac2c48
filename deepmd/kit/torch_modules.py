"""`.pth` and `.pt` files of DeePMD-kit: arrays and options by the names of its modules.

Its `.pth` calls operators of a library of its own, without which torch cannot load it; `torch_archive.py` reads it all the
same. Another kind of descriptor or fitting net is another row of `DESCRIPTORS` or `FITTINGS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.registry import canonical, lookup
from deepmd.io.bounded import check_arrays
from deepmd.io.model_file import ModelFile
from deepmd.io.pair_table import of_splines
from deepmd.io.torch_archive import CLASS
from deepmd.kit.model_section import BY_DP, COMPRESSED, Found, Section, assemble, combine, kind_of, parse_definition

LEAVES = {"matrix": "w", "bias": "b", "idt": "idt"}


def nets(attribute: str, path: str) -> dict[str, str]:
    """Return the rows of a collection of nets for `Names.arrays`."""
    return {
        rf"{attribute}\._?networks\.(\d+)\.layers\.(\d+)\.{theirs}": rf"{path}/\1/layers/\2/{ours}"
        for theirs, ours in LEAVES.items()
    }


@dataclass(frozen=True)
class Names:
    """What the modules of a kind of descriptor or fitting net are called.

    Attributes
    ----------
    kind : what an input calls it
    block : attribute that has most options and arrays, with a dot behind it, or "" for the module itself, which may have the others
    arrays : regular expression of a name below the module: our path below the part, with the groups of the expression
    options : our options that are attributes of another name
    unread : our options under whose names a module keeps something else
    sections : our options that are sections of their own: the module of each, with a dot behind it, and which of its options are attributes
        of another name; these begin at the module of the whole
    """

    kind: str
    block: str
    arrays: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    sections: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)


STATISTICS = {"mean": "davg", "stddev": "dstd"}


def block(name: str, *strips: str) -> dict[str, str]:
    """Return the rows of nets and statistics of a descriptor in `name` (a regular expression with the dot, or "")."""
    rows = {**nets("filter_layers", "embeddings"), **STATISTICS}
    for strip in strips:
        rows |= nets(strip, "embeddings_strip")
    return {name + theirs: ours for theirs, ours in rows.items()}


def affine(attribute: str, path: str) -> dict[str, str]:
    """Return the rows of linear maps."""
    return {rf"{attribute}\.{theirs}": f"{path}/{ours}" for theirs, ours in LEAVES.items()}


def embedding(attribute: str, path: str) -> dict[str, str]:
    """Return the rows of vectors of types, or of what is embedded as types are."""
    return affine(
        rf"{attribute}\.embedding\.embedding_net\.layers\.(\d+)",
        rf"{path}/layers/\g<{1 + re.compile(attribute).groups}>",
    )


TYPES = embedding("type_embedding", "type_embedding")
LAYER = r"se_atten\.dpa1_attention\.attention_layers\.(\d+)\."
ATTENTION = {
    **{
        rf"{LAYER}attention_layer\.{proj}\.{theirs}": rf"attention/\1/{proj}/layers/0/{ours}"
        for proj in ("in_proj", "out_proj")
        for theirs, ours in LEAVES.items()
    },
    **{rf"{LAYER}attn_layer_norm\.{theirs}": rf"attention/\1/norm/{ours}" for theirs, ours in LEAVES.items()},
}
DPA1 = {**block(r"se_atten\.", "filter_layers_strip"), **TYPES, **ATTENTION}
TEBD = {name: f"type_embedding.{name}" for name in ("use_tebd_bias", "use_econf_tebd")}
ATTN = {"attn": "attn_dim", "smooth_type_embedding": "smooth"}


def messages(attribute: str) -> dict[str, str]:
    """Return the rows of layers of messages, whose maps, one or two names deep, and factors are called as ours."""
    layer, ours = rf"{attribute}\.layers\.(\d+)\.", r"layers/\1"
    return {
        **affine(rf"{layer}(\w+)", rf"{ours}/\2"),
        **affine(rf"{layer}(\w+)\.(\w+)", rf"{ours}/\2/\3"),
        rf"{layer}(\w+_residual)\.(\d+)": rf"{ours}/\2/\3",
    }


def below(path: str, rows: Mapping[str, str]) -> dict[str, str]:
    """Return rows whose arrays we keep in a part of the part."""
    return {theirs: f"{path}/{ours}" for theirs, ours in rows.items()}


DPA2 = {
    **TYPES,
    **affine(r"(g1_shape_tranform|tebd_transform)", r"\1"),
    **below("repinit", block(r"repinit\.", "filter_layers_strip")),
    **below("three_body", block(r"repinit_three_body\.", "filter_layers_strip")),
    **below("repformers", {**messages("repformers"), **affine(r"repformers\.g2_embd", "g2_embd")}),
    **{rf"repformers\.{theirs}": f"repformers/{ours}" for theirs, ours in STATISTICS.items()},
}
REPINIT = {"nsel": "repinit.nnei", "use_three_body": "use_three_body", "three_body_sel": "repinit_three_body.nnei"}
REPINIT |= {f"three_body_{name}": f"repinit_three_body.{name}" for name in ("neuron", "rcut", "rcut_smth")}
DPA3 = {
    **TYPES,
    **embedding(r"(chg_embedding|spin_embedding)", r"\1"),
    **affine("mix_cs_mlp", "mix_cs_mlp"),
    **affine(r"repflows\.(edge_embd|angle_embd)", r"\1"),
    **messages("repflows"),
    **{rf"repflows\.{theirs}": ours for theirs, ours in STATISTICS.items()},
}

DESCRIPTORS = {
    # class: its names
    "DescrptSeA": Names("se_e2_a", "sea.", block(r"sea\.")),
    "DescrptSeR": Names("se_e2_r", "", block("")),
    "DescrptSeT": Names("se_e3", "seat.", block(r"seat\.")),
    "DescrptDPA1": Names("se_atten", "se_atten.", DPA1, ATTN),
    "DescrptSeAttenV2": Names("se_atten_v2", "se_atten.", DPA1, ATTN),
    "DescrptDPA2": Names(
        "dpa2",
        "",
        DPA2,
        sections={"repinit": ("repinit.", REPINIT), "repformer": ("repformers.", {"nsel": "repformers.nnei"})},
    ),
    "DescrptDPA3": Names("dpa3", "", DPA3, sections={"repflow": ("repflows.", {})}),
    "DescrptSeTTebd": Names("se_e3_tebd", "se_ttebd.", {**block(r"se_ttebd\.", "filter_layers_strip"), **TYPES}, TEBD),
}

HYBRID, MEMBERS = "DescrptHybrid", "descrpt_list."
"""Class of a hybrid, and the attribute that has its members."""

FITTING_ARRAYS = {
    **nets("filter_layers", "nets"),
    **{name: name for name in ("bias_atom_e", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")},
}
FITTINGS = {
    "EnergyFittingNet": Names("ener", "", FITTING_ARRAYS),
    "DipoleFittingNet": Names("dipole", "", FITTING_ARRAYS),
    "PolarFittingNet": Names(
        "polar", "", {**FITTING_ARRAYS, **{name: name for name in ("scale", "constant_matrix")}}, unread=("scale",)
    ),
    "DOSFittingNet": Names("dos", "", FITTING_ARRAYS, {"numb_dos": "dim_out"}),
    "PropertyFittingNet": Names("property", "", FITTING_ARRAYS, {"property_name": "var_name"}),
}

PARTS = {
    # section of `model`: (module, its kinds, where we keep its parameters)
    "descriptor": ("atomic_model.descriptor.", DESCRIPTORS, "descriptor"),
    "fitting_net": ("atomic_model.fitting_net.", FITTINGS, "fitting"),
}

COMBINATIONS = {"LinearEnergyAtomicModel": "linear", "DPZBLLinearEnergyAtomicModel": "zbl"}
"""Classes of models that combine others: our kinds."""

EXCLUDED = ("pair_exclude_types", "atom_exclude_types")
OF_ZBL = ("use_srtab", "sw_rmin", "sw_rmax", "smin_alpha", "srtab_add_bias")

SMIN_ALPHA = 0.1
"""Angstrom: what DeePMD-kit's torch trains and evaluates with, whatever its input says."""

TRAINING = {"seed", "trainable", "rcond"}
"""Options that are of no account after training; modules keep something else under these names."""


def read_pth(values: Mapping[str, Any], path: Path) -> ModelFile:
    """Read a frozen model of DeePMD-kit.

    Parameters
    ----------
    values : attributes of its modules, by name (see `torch_archive.attributes`)

    Raises
    ------
    InputError
        It is no model of DeePMD-kit, holds another kind of model, or is compressed and lacks its networks.
    """
    if f"atomic_model.{CLASS}" not in values:
        raise InputError(
            f"{path}: TorchScript, but not a model of this program or of DeePMD-kit: it has neither 'definition' nor 'atomic_model'"
        )
    return _read(values, parse_definition(values.get("model_def_script"), str(path)), path)


def read_pt(tree: Any, path: Path) -> ModelFile:
    """Read a training checkpoint of DeePMD-kit.

    Raises
    ------
    InputError
        It is no checkpoint of DeePMD-kit, one of several models, or of another kind of model.
    """
    state = tree.get("model", tree) if isinstance(tree, dict) else None
    extra = state.get("_extra_state") if isinstance(state, dict) else None
    definition = extra.get("model_params") if isinstance(extra, dict) else None
    if not isinstance(state, dict) or not isinstance(definition, dict):
        raise InputError(f"{path}: not a checkpoint of this program or of DeePMD-kit: it does not describe its model")
    if "model_dict" in definition:
        heads = ", ".join(map(str, definition["model_dict"]))
        raise InputError(
            f"{path}: a checkpoint of several models ({heads}), which is not supported. Freeze one with DeePMD-kit's --head first"
        )
    return _read({str(name).removeprefix("model.Default."): value for name, value in state.items()}, definition, path)


def _read(values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    kind = _kind(values, definition, path)
    if kind in COMBINATIONS.values():
        return _combination(kind, values, definition, path)
    return _table(values, definition, path) if kind == "pairtab" else _standard(values, definition, path)


def _kind(values: Mapping[str, Any], definition: Section, path: Path) -> str:
    """Return what a model is: by the class of its module, which checkpoints do not store, or by its section."""
    cls = values.get(f"atomic_model.{CLASS}")
    if cls is not None:
        return {**COMBINATIONS, "PairTabAtomicModel": "pairtab"}.get(str(cls), "standard")
    kind = canonical("model", definition.get("type", "standard"), f"{path}: model/type")
    return "zbl" if kind == "standard" and definition.get("use_srtab") else kind


def _combination(kind: str, values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    """Return a sum of models: each is read by itself, with what is below its module.

    Exclusions count for the whole only.
    """
    network = {key: value for key, value in definition.items() if key not in (*EXCLUDED, *OF_ZBL, "type")}
    sections = [network, {"type": "pairtab"}] if kind == "zbl" else definition.get("models") or []
    if not isinstance(sections, list) or not all(isinstance(inner, dict) for inner in sections):
        raise InputError(f"{path}: model/models: must be a list of objects with keys")
    numbers = {int(match[1]) for name in values if (match := re.match(r"atomic_model\.models\.(\d+)\.", name))}
    if not sections:
        sections = [{}] * len(numbers)
    if sorted(numbers) != list(range(len(sections))):
        raise InputError(
            f"{path}: model/models: the input has {len(sections)} members, the file has those of numbers {sorted(numbers)}"
        )
    named = (
        values.get("atomic_model.type_map"),
        definition.get("type_map"),
        *(inner.get("type_map") for inner in sections),
    )
    type_map = next((names for names in named if isinstance(names, list)), None)
    if type_map is None:
        raise InputError(f"{path}: model/type_map: the file does not name its elements")
    members: list[ModelFile] = []
    for number, inner in enumerate(sections):
        prefix = f"atomic_model.models.{number}."
        own = {
            f"atomic_model.{name.removeprefix(prefix)}": value
            for name, value in values.items()
            if name.startswith(prefix)
        }
        given = {"type_map": type_map, **{key: value for key, value in inner.items() if key not in EXCLUDED}}
        if kind == "zbl" and number == 1:  # the list is that of the network
            layout = members[0].model.layout()
            given.update(rcut=layout.rcut, sel=sum(layout.sel))
        members.append(_read(own, given, path))
    bias = values.get("atomic_model.out_bias")
    try:
        options = {"type_map": tuple(map(str, type_map)), **_options_of(kind, values, definition)}
        return combine(kind, members, options, None if bias is None else bias, definition, _distance(values))
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error


def _options_of(kind: str, values: Mapping[str, Any], definition: Section) -> Section:
    """Return what a combination of models states besides them."""
    out: Section = {}
    for name in EXCLUDED:
        stated = values.get(f"atomic_model.{name}", definition.get(name)) or ()
        out[name] = tuple(tuple(item) if isinstance(item, list | tuple) else item for item in stated)
    if kind == "zbl":
        out |= {name: values.get(f"atomic_model.{name}", definition.get(name)) for name in ("sw_rmin", "sw_rmax")}
        return {**out, "smin_alpha": values.get("atomic_model.smin_alpha", SMIN_ALPHA)}
    weights = values.get("atomic_model.weights", definition.get("weights", "mean"))
    return {**out, "weights": weights if isinstance(weights, str) else tuple(map(float, weights))}


def _table(values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    """Return a pair table; the file has its splines, and a checkpoint leaves cutoff and slots to the section."""
    stated = {name: values.get(f"atomic_model.{name}", definition.get(name)) for name in ("type_map", "rcut", "sel")}
    arrays = {name: values.get(f"atomic_model.{name}") for name in ("tab_info", "tab_data", "out_bias")}
    missing = [name for name in ("type_map", "rcut", "sel") if stated[name] is None]
    missing += [name for name in ("tab_info", "tab_data") if not isinstance(arrays[name], np.ndarray)]
    if missing:
        raise InputError(f"{path}: the file has a pair table without {', '.join(missing)}")
    found = {name: array for name, array in arrays.items() if array is not None}
    try:
        sel = stated["sel"] if isinstance(stated["sel"], int) else sum(stated["sel"])
        model, params = of_splines(
            found.pop("tab_info"), found.pop("tab_data"), float(stated["rcut"]), sel, tuple(stated["type_map"])
        )
    except (InputError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: {error}") from error
    return ModelFile(model, {**params, **found})


def _distance(values: Mapping[str, Any]) -> float | None:
    """Return the shortest distance of the training data, Angstrom, if it is known."""
    distance = values.get("min_nbor_dist")
    known = isinstance(distance, np.ndarray) and distance.size == 1 and 0.0 < distance.item() < math.inf
    return float(distance.item()) if known else None  # type: ignore[union-attr]


def _standard(values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    section: Section = {
        name: values[f"atomic_model.{name}"]
        for name in ("type_map", "pair_exclude_types", "atom_exclude_types")
        if values.get(f"atomic_model.{name}") is not None
    }
    tensors = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    found = {"out_bias": tensors["atomic_model.out_bias"]} if "atomic_model.out_bias" in tensors else {}
    for part, (module, _, place) in PARTS.items():
        section[part] = _part(part, module, place, values, definition.get(part) or {}, found, path)
    if section["fitting_net"]["type"] != "ener" and "atomic_model.out_std" in tensors:  # energies are never scaled
        found["out_std"] = tensors["atomic_model.out_std"]
    if any(".compress_data." in name and tensor.size for name, tensor in tensors.items()) and not any(
        "/embeddings/" in name for name in found
    ):
        raise InputError(f"{path}: {COMPRESSED}")
    check_arrays((tensor.nbytes for tensor in found.values()), path)
    arrays = found
    return assemble(definition, Found(section, arrays, _distance(values)), str(path))


def _part(
    part: str,
    module: str,
    place: str,
    values: Mapping[str, Any],
    inner: Any,
    found: dict[str, np.ndarray],
    path: Path,
    where: str = "",
) -> Section:
    """Return what a module states of a section, and add its arrays to `found`.

    Parameters
    ----------
    module : its name, with a dot behind it
    place : where we keep its parameters
    inner : its section in the definition
    where : the path of that, if it is not that of the part
    """
    where, cls = where or f"model/{part}", values.get(f"{module}{CLASS}")
    stated = inner if isinstance(inner, dict) else {}
    if cls == HYBRID or (cls is None and stated.get("type") == "hybrid"):
        return {"type": "hybrid", "list": _members(part, module, place, values, stated.get("list"), found, path)}
    names = _names(part, cls, stated, path)
    if names is None:
        raise InputError(
            f"{path}: {where}: type {stated.get('type', '')!r} ({cls}) cannot be read from .pth and .pt files yet. {BY_DP}"
        )
    for name, value in values.items():
        if (
            isinstance(value, np.ndarray)
            and name.startswith(module)
            and (ours := _path_of(name.removeprefix(module), names))
        ):
            found[f"{place}/{ours}"] = value
    out: Section = {"type": names.kind}
    kind = lookup(part, names.kind, part)
    for name in {option.name for option in fields(kind)} - TRAINING - {*names.unread, *names.sections}:
        attribute = names.options.get(name, name)
        value = values.get(f"{module}{names.block}{attribute}", values.get(f"{module}{attribute}"))
        if value is not None:
            out[name] = value
    for name, (below_module, others) in names.sections.items():
        places = {
            option.name: module + others.get(option.name, f"{below_module}{option.name}")
            for option in fields(get_type_hints(kind)[name])
        }
        out[name] = {option: values[place] for option, place in places.items() if values.get(place) is not None}
    return out


def _members(
    part: str,
    module: str,
    place: str,
    values: Mapping[str, Any],
    sections: Any,
    found: dict[str, np.ndarray],
    path: Path,
) -> list[Section]:
    """Return what the members of a hybrid state."""
    pattern = re.compile(re.escape(f"{module}{MEMBERS}") + r"(\d+)\.")
    numbers = {int(match[1]) for name in values if (match := pattern.match(name))}
    given = sections if isinstance(sections, list) else [{}] * len(numbers)
    if sorted(numbers) != list(range(len(given))):
        raise InputError(
            f"{path}: model/{part}/list: the input has {len(given)} members, the file has those of numbers {sorted(numbers)}"
        )
    return [
        _part(
            part,
            f"{module}{MEMBERS}{number}.",
            f"{place}/members/{number}",
            values,
            inner,
            found,
            path,
            f"model/{part}/list/{number}",
        )
        for number, inner in enumerate(given)
    ]


def _names(part: str, cls: Any, stated: Section, path: Path) -> Names | None:
    """Return the names of a part: by its class, which checkpoints do not store, or by its section."""
    kinds = PARTS[part][1]
    if cls is not None:
        return kinds.get(str(cls))
    kind = canonical(part, kind_of(part, {part: stated}), f"{path}: model/{part}/type")
    return {names.kind: names for names in kinds.values()}.get(kind)


def _path_of(name: str, names: Names) -> str | None:
    for pattern, path in names.arrays.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(path)
    return None

"""Models of DeePMD-kit's native files: from the `model` section of an input and named arrays to a model file.

A file states its configuration up to twice: in the attributes of what it evaluates, which count most, and in the
section of the input that it was trained with. The readers in `adapters/` know the names in a file, this module knows
what makes a model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from deepmd.array_model import models
from deepmd.array_model.errors import InputError
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.registry import canonical, lookup
from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io.checking import build, rename, without_comments
from deepmd.io.model_file import Drawn, ModelFile, from_json, to_json
from deepmd.io.train_input import read_json

assert models  # imported for its registrations

log = logging.getLogger(__name__)

Section = dict[str, Any]

PARTS = {"descriptor": "descriptor", "fitting_net": "fitting"}
"""Sections of `model` that are parts of it, and where the parameters of each are."""

OFF: dict[str, dict[str, tuple[Any, ...]]] = {
    "model": {
        **dict.fromkeys(("type_embedding", "modifier", "spin", "use_srtab", "model_dict", "shared_dict", "hybrid"), ()),
        "bridging_method": ("None", "none"),
    },
    "model/descriptor": {"spin": (), "tebd_input_mode": ()},
    "model/fitting_net": {"dim_case_embd": (0,), "layer_name": (), "spin": ()},
}
"""Keys that change what a model computes in ways we do not support, and the values that mean they do not.

Null and false always do.
"""

PASSED = {
    "model": (
        *(
            "type",
            "data_stat_nbatch",
            "data_stat_protect",
            "data_bias_nsample",
            "srtab_add_bias",
            "smin_alpha",
            "sw_rmin",
            "sw_rmax",
            "compress",
        ),
        *(
            "finetune_head",
            "model_branch_alias",
            "info",
            "bridging_r_inner",
            "bridging_r_outer",
            "enable_tf32",
            "use_compile",
        ),
    ),
    "model/descriptor": ("ntypes", "type_map"),
    "model/fitting_net": ("ntypes", "type_map", "dim_descrpt", "mixed_types"),
}
"""Keys without influence on what a trained model computes."""

WITHOUT_MEANING = {"se_e2_r": ("type_one_side",)}
"""Options of a kind that DeePMD-kit's torch stores and passes over: there a net belongs to a type of neighbours, whatever the option says."""

COMPRESSED = (
    "a compressed model: tables replace its embedding nets, which are not in the file. Needed: the model from before the compression, "
    "the input of `dp compress`, or the checkpoint"
)

BY_DP = "Convert the model with DeePMD-kit to .dp, which is read: dp convert-backend IN OUT.dp"
"""What to do about kinds that only `.dp` and `.yaml` bring."""

OPTIONAL = ("out_bias", "out_std", "fitting/bias_atom_e", "fitting/scale", "fitting/constant_matrix")
"""Parameters that files may lack: in older ones the bias was part of the nets.

Checkpoints leave to the options of polar what these fix.
"""

MOST_TYPES = 1000


@dataclass(frozen=True)
class Found:
    """What a file says by itself.

    Attributes
    ----------
    section : the part of a `model` section that the file states by attributes
    arrays : parameters by our paths, such as `descriptor/embeddings/0/layers/1/w`
    min_nbor_dist : shortest distance of the training data, Angstrom, or None
    """

    section: Section
    arrays: Mapping[str, np.ndarray]
    min_nbor_dist: float | None = None


def assemble(definition: Section, found: Found, where: str) -> ModelFile:
    """Return the model of a file.

    Parameters
    ----------
    definition : `model` section of the input that it was trained with, or {}

    Raises
    ------
    InputError
        The model is of a kind or has an option that is not supported; parameters are missing, left over, or of other
        shapes.
    """
    try:
        definition = json.loads(json.dumps(without_comments(definition)))
        section = _merged(definition, found)
        model = _model(section)
        # fresh parameters tell which there must be; what a file may leave out keeps its fresh value
        fresh = model.init(Drawn(sum(array.size for array in found.arrays.values())), xp=plain)
        template = ModelFile(model, fresh, definition or section, found.min_nbor_dist)
        expected = flatten(fresh)
        unused = (
            [path for path in expected if path.startswith("fitting/aparam_")]
            if model.fitting.use_aparam_as_mask
            else []
        )
        arrays = {**{path: expected[path] for path in (*OPTIONAL, *unused) if path in expected}, **found.arrays}
        left = sorted(set(arrays) - set(expected))
        if left:  # the model would be evaluated without them
            raise InputError(f"the file has parameters that its description does not explain: {', '.join(left[:5])}")
        description = to_json(template, "numpy")
    except (InputError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        text = (
            str(error)
            if isinstance(error, InputError)
            else f"its description cannot be used: {type(error).__name__}: {error}"
        )
        raise InputError(f"{where}: {text}") from error
    return from_json(description, arrays, where)


def combine(
    kind: str,
    members: list[ModelFile],
    options: Section,
    bias: np.ndarray | None,
    definition: Section,
    distance: float | None,
) -> ModelFile:
    """Return the model that combines others; what the file says of exclusions and weights is among the options.

    Raises
    ------
    InputError
        They do not fit together.
    """
    try:
        model = lookup("model", kind, "model")(models=tuple(member.model for member in members), **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"model: {error}") from error
    zeros = np.zeros((1, model.ntypes, 1))
    params = {
        "models": [member.params for member in members],
        "out_bias": zeros if bias is None else bias,
        "out_std": zeros + 1.0,
    }
    content = ModelFile(model, params, definition, distance)
    return from_json(to_json(content, "numpy"), flatten(params), "model")


def section_of_input(path: Path) -> Section:
    """Return the `model` section of an input file.

    Raises
    ------
    InputError
        The file cannot be read or has no such section.
    """
    section = read_json(path).get("model")
    if not isinstance(section, dict):
        raise InputError(f"{path}: has no section 'model'")
    return section


def parse_definition(text: Any, where: str) -> Section:
    """Return the JSON object that a file stores as text; none is {}.

    Raises
    ------
    InputError
        The text is no JSON object.
    """
    try:
        tree = json.loads(text or "{}")
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: the stored input is damaged: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{where}: the stored input is no object with keys but {str(tree)[:100]}")
    return tree


def kind_of(part: str, *sections: Section) -> Any:
    """Return what the first section that says it calls the type of a part, or None."""
    named = [inner["type"] for section in sections if isinstance(inner := section.get(part), dict) and "type" in inner]
    return named[0] if named else "ener" if part == "fitting_net" else None


# -- configuration --------------------------------------------------------------------------------------------------


def _merged(definition: Section, found: Found) -> Section:
    """Return the section that holds: over the definition what the file states."""
    _refuse({**definition, **found.section}, "model", "model")
    kind = canonical("model", definition.get("type", "standard"), "model/type")
    if kind != "standard" or definition.get("use_srtab"):
        asked = "use_srtab" if kind == "standard" else f"type {kind!r}"
        raise InputError(f"model: {asked} cannot be read from this kind of file yet. {BY_DP}")
    out = {**definition, **found.section}
    for part, place in PARTS.items():
        where, inner, stated = f"model/{part}", definition.get(part) or {}, found.section.get(part, {})
        if not isinstance(inner, dict):
            raise InputError(f"{where}: must be an object with keys, got {inner!r}")
        out[part] = _merged_part(part, where, inner, stated, place, found)
    _tell_unknown(out, {"type_map", "pair_exclude_types", "atom_exclude_types", "preset_out_bias", *PARTS}, "model")
    return out


def _merged_part(part: str, where: str, inner: Section, stated: Section, place: str, found: Found) -> Section:
    """Return the section of a part that holds; `place` is where its parameters are."""
    name = kind_of(part, {part: stated}, {part: inner})
    if name is None:
        raise InputError(
            f"{where}/type: the file does not say what it is. Give the input it was trained with (dp convert-backend --input)"
        )
    cls = lookup(part, name, where)
    if cls.kind == "hybrid":
        given, members = (
            inner.get("list") or [{}] * len(stated["list"]),
            stated.get("list") or [{}] * len(inner["list"]),
        )
        pairs = enumerate(zip(given, members, strict=True))
        merged = [
            _merged_part(part, f"{where}/list/{k}", own, told, f"{place}/members/{k}", found)
            for k, (own, told) in pairs
        ]
        return {"type": "hybrid", "list": merged}
    known = {field.name for field in fields(cls)}
    _refuse({key: value for key, value in inner.items() if key not in known}, f"model/{part}", where)
    meant = {
        key: value
        for key, value in rename(inner, cls.names, where).items()
        if key not in WITHOUT_MEANING.get(cls.kind, ())
    }
    out = {**meant, **stated, "type": cls.kind}
    for name, kind in get_type_hints(cls).items():
        if is_dataclass(kind) and name in out:  # a section of its own, which a file may state in part
            out[name] = _merged_options(kind, inner.get(name) or {}, stated.get(name) or {}, f"{where}/{name}")
    if (
        "precision" in known and out.get("precision", "default") == "default"
    ):  # meant what the environment of the training said
        weights = (array for path, array in found.arrays.items() if path.startswith(f"{place}/") and "/w" in path)
        out["precision"] = next((array.dtype.name for array in weights), "default")
    _tell_unknown(out, {"type", *known}, f"model/{part}")
    return out


def _merged_options(cls: Any, inner: Section, stated: Section, where: str) -> Section:
    """Return the section of options below a part that holds."""
    if not isinstance(inner, dict):
        raise InputError(f"{where}: must be an object with keys, got {inner!r}")
    known = {field.name for field in fields(cls)}
    out = {**rename(inner, getattr(cls, "names", {}), where), **stated}
    unknown = sorted(key for key in out.keys() - known if out[key] is not None)
    if unknown:
        log.warning(
            "%s: the file was made with options that are not known here and are passed over: %s",
            where,
            ", ".join(unknown),
        )
    return {key: value for key, value in out.items() if key in known}


def _refuse(section: Section, part: str, where: str) -> None:
    for key, accepted in OFF[part].items():
        if section.get(key) not in (None, False, *accepted):
            raise InputError(f"{where}/{key}: models with this option are not supported (given: {section[key]!r})")


def _tell_unknown(section: Section, known: set[str], where: str) -> None:
    unknown = sorted(
        {key for key, value in section.items() if value is not None} - known - {*PASSED[where], *OFF[where]}
    )
    if unknown:
        log.warning(
            "%s: the file was made with options that are not known here and are passed over: %s",
            where,
            ", ".join(unknown),
        )


def _built(part: str, section: Section, where: str) -> Any:
    """Return the configuration of a part."""
    cls = lookup(part, section["type"], where)
    if cls.kind == "hybrid":
        return cls(tuple(_built(part, member, f"{where}/list/{k}") for k, member in enumerate(section["list"])))
    known = {field.name for field in fields(cls)}
    return build(cls, {key: value for key, value in section.items() if key in known}, where)


def _model(section: Section) -> StandardModel:
    parts = {}
    for part in PARTS:
        parts[part] = _built(part, section[part], f"model/{part}")
    names = section.get("type_map")
    if not names:
        raise InputError(
            "model/type_map: the file does not name its elements. Give the input it was trained with (dp convert-backend --input)"
        )
    if len(names) > MOST_TYPES:
        raise InputError(f"model/type_map: has {len(names)} types; more than {MOST_TYPES} are not supported")
    preset = section.get("preset_out_bias")
    model = StandardModel(
        type_map=tuple(map(str, names)),
        descriptor=parts["descriptor"],
        fitting=parts["fitting_net"],
        pair_exclude_types=tuple((int(a), int(b)) for a, b in section.get("pair_exclude_types") or ()),
        atom_exclude_types=tuple(map(int, section.get("atom_exclude_types") or ())),
        rcond=parts["fitting_net"].rcond,
        preset_out_bias=None if preset is None else {key: list(value) for key, value in preset.items()},
    )
    if not model.descriptor.mixed and len(model.layout().sel) != model.ntypes:
        raise InputError(
            f"model/descriptor/sel: has {len(model.layout().sel)} entries, type_map has {model.ntypes}: {list(model.type_map)}"
        )
    return model

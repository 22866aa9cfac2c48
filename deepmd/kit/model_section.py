"""Models of DeePMD-kit's native files: from stated options, a `model` section and named arrays to a `ModelFile`.

A file states its configuration up to twice: by attributes of its modules or graph, which take precedence, and by the
section of the input of the training. The readers torch_modules.py and tf_graph.py know the names in a file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.registry import canonical, lookup
from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io.checking import build, rename, without_comments
from deepmd.io.model_file import ModelFile, ShapeBudget, from_json, to_json
from deepmd.io.train_input import read_json
from deepmd.unsupported import KEYS

log = logging.getLogger(__name__)

Section = dict[str, Any]

PARAM_PATHS = {"descriptor": "descriptor", "fitting_net": "fitting"}
"""Parts of a section `model`, and the path of the parameters of each."""

REFUSED_IN_FILES: dict[str, dict[str, tuple[Any, ...]]] = {
    "model": {"type_embedding": (), "use_srtab": (), "bridging_method": ("None", "none")},
    "model/descriptor": {"tebd_input_mode": ()},
    "model/fitting_net": {},
}
"""Keys that are supported in other files or by other descriptors only, and the values that mean "off"."""

REFUSED_KEYS = {
    where: {**{key: (row.off,) for key, row in KEYS[where].items() if row.trained}, **others}
    for where, others in REFUSED_IN_FILES.items()
}
"""Keys that change the results of a model but cannot be read from these files, and the values that mean "off".

Null and false always mean "off".
"""

IGNORED_KEYS = {
    "model": (
        *("type", "data_stat_nbatch", "data_stat_protect", "data_bias_nsample", "srtab_add_bias", "smin_alpha"),
        *("sw_rmin", "sw_rmax", "enable_tf32", "use_compile"),
        *(key for key, row in KEYS["model"].items() if not row.trained),
    ),
    "model/descriptor": ("ntypes", "type_map"),
    "model/fitting_net": ("ntypes", "type_map", "dim_descrpt", "mixed_types"),
}
"""Keys without influence on the results of a trained model."""

FIXED_OPTIONS = {"se_e2_r": {"type_one_side": True}}
"""Options that DeePMD-kit's torch stores but ignores: its nets of se_e2_r always belong to a neighbour type alone."""

COMPRESSED = (
    "a compressed model: tables replace its embedding nets, which are not in the file. "
    "Needed: the model from before the compression, the input of `dp compress`, or the checkpoint"
)

LEAVES = {"matrix": "w", "bias": "b", "idt": "idt"}
"""Arrays of a layer: name in modules and graphs -> ours."""

ASK = "Give the input it was trained with (dp convert-backend --input)"

BY_DP = "Convert the model with DeePMD-kit to .dp, which is read: dp convert-backend IN OUT.dp"
"""Advice for kinds that are read from `.dp` and `.yaml` only."""

OPTIONAL = ("out_bias", "out_std", "fitting/bias_atom_e", "fitting/scale", "fitting/constant_matrix")
"""Parameters that files may lack.

Older files have the energy bias in the nets. Checkpoints lack arrays that the options of polar determine.
"""

MOST_TYPES = 1000
"""Largest number of types that is read, because damaged files may claim any number."""


@dataclass(frozen=True)
class StatedModel:
    """Options and arrays that a file states, apart from a stored input of the training.

    Attributes
    ----------
    section : the part of a `model` section that the file states by attributes
    arrays : function of (model, paths of its parameters such as `descriptor/embeddings/0/layers/1/w`) that returns the
        parameters that the file has
    size : number of values in all arrays of the file
    weights : weights of one layer by the path of the part, or None. Their dtype is the precision "default", which
        environment variables set in the training
    min_nbor_dist : shortest distance of the training data, Angstrom, or None
    """

    section: Section
    arrays: Callable[[StandardModel, Iterable[str]], Mapping[str, np.ndarray]]
    size: int
    weights: Mapping[str, np.ndarray | None]
    min_nbor_dist: float | None = None


def assemble(definition: Section, found: StatedModel, where: str) -> ModelFile:
    """Return the model of a file.

    Parameters
    ----------
    definition : section `model` of the input of the training, or {}
    found : options and arrays that the file states
    where : name of the file, for errors
    """
    try:
        definition = _plain_section(definition)
        section = _merged(definition, found)
        model = _model(section)
        # initial parameters give the expected paths and shapes; ShapeBudget bounds their memory against hostile
        # descriptions. Parameters that a file may lack keep their initial values
        fresh = model.init(ShapeBudget(found.size), xp=plain)
        expected, arrays = flatten(fresh), found.arrays(model, flatten(fresh))
        unused = [
            path
            for path in expected
            if path.startswith("fitting/aparam_") and getattr(model.fitting, "use_aparam_as_mask", False)
        ]
        arrays = {**{path: expected[path] for path in (*OPTIONAL, *unused) if path in expected}, **arrays}
        left = sorted(set(arrays) - set(expected))
        if left:  # evaluation without them would be wrong silently
            raise InputError(f"the file has parameters that its description does not explain: {', '.join(left[:5])}")
        template = ModelFile(model, fresh, definition or section, found.min_nbor_dist)
        return from_json(to_json(template, "numpy"), arrays, where)
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


def _plain_section(definition: Section) -> Section:
    """Return a section without comments; raise InputError if JSON cannot hold it."""
    try:
        out: Section = json.loads(json.dumps(without_comments(definition)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"its description cannot be used: {type(error).__name__}: {error}") from error
    return out


def combine(
    kind: str,
    members: list[ModelFile],
    options: Section,
    bias: np.ndarray | None,
    definition: Section,
    distance: float | None,
) -> ModelFile:
    """Return the combination of models; `options` holds exclusions, weights and switching distances."""
    model = build(
        lookup("model", kind, "model"), {**options, "models": tuple(member.model for member in members)}, "model"
    )
    zeros = np.zeros((1, model.ntypes, 1))
    params = {
        "models": [member.params for member in members],
        "out_bias": zeros if bias is None else bias,
        "out_std": zeros + 1.0,
    }
    content = ModelFile(model, params, definition, distance)
    return from_json(to_json(content, "numpy"), flatten(params), "model")


def section_of_input(path: Path) -> Section:
    """Return the section `model` of an input file."""
    section = read_json(path).get("model")
    if not isinstance(section, dict):
        raise InputError(f"{path}: has no section 'model'")
    return section


def parse_definition(text: Any, where: str) -> Section:
    """Return the JSON object that a file stores as text, {} if there is no text."""
    try:
        tree = json.loads(text or "{}")
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: the stored input is damaged: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{where}: the stored input is no object with keys but {str(tree)[:100]}")
    return tree


def kind_of(part: str, *sections: Section) -> Any:
    """Return the `type` of a part in the first section that states it. Default: "ener" for fitting nets, else None."""
    named = [inner["type"] for section in sections if isinstance(inner := section.get(part), dict) and "type" in inner]
    return named[0] if named else "ener" if part == "fitting_net" else None


# -- configuration --------------------------------------------------------------------------------------------------


def _merged(definition: Section, found: StatedModel) -> Section:
    """Return the section in force: the definition, overridden by what the file states."""
    out = {**definition, **found.section}
    _refuse(out, "model", "model")
    kind = canonical("model", definition.get("type", "standard"), "model/type")
    if kind != "standard" or definition.get("use_srtab"):
        option = "use_srtab" if kind == "standard" else f"type {kind!r}"
        raise InputError(f"model: {option} cannot be read from this kind of file yet. {BY_DP}")
    for part, place in PARAM_PATHS.items():
        inner, stated = definition.get(part) or {}, found.section.get(part, {})
        out[part] = _merged_part(part, f"model/{part}", inner, stated, place, found)
    _warn_of_unknown(
        out, {"type_map", "pair_exclude_types", "atom_exclude_types", "preset_out_bias", *PARAM_PATHS}, "model"
    )
    return out


def _merged_part(part: str, where: str, inner: Any, stated: Section, place: str, found: StatedModel) -> Section:
    """Return the section in force of a part; `place` is the path of its parameters."""
    _check_section(inner, where)
    name = kind_of(part, {part: stated}, {part: inner})
    if name is None:
        raise InputError(f"{where}/type: the file does not say what it is. {ASK}")
    cls = lookup(part, name, where)
    if cls.kind == "hybrid":
        given, members = inner.get("list") or [], stated.get("list") or []
        number = max(len(given), len(members))
        given, members = given or [{}] * number, members or [{}] * number
        if len(given) != len(members):
            raise InputError(f"{where}/list: the input has {len(given)} members, the file has {len(members)}")
        return {
            "type": "hybrid",
            "list": [
                _merged_part(part, f"{where}/list/{k}", own, told, f"{place}/members/{k}", found)
                for k, (own, told) in enumerate(zip(given, members, strict=True))
            ],
        }
    known = {field.name for field in fields(cls)}
    _refuse({key: value for key, value in inner.items() if key not in known}, f"model/{part}", where)
    out = {**rename(inner, cls.aliases, where), **FIXED_OPTIONS.get(cls.kind, {}), **stated, "type": cls.kind}
    for name, kind in get_type_hints(cls).items():
        if is_dataclass(kind) and name in out:  # nested section, which a file may state in part
            out[name] = _merged_options(kind, inner.get(name) or {}, stated.get(name) or {}, f"{where}/{name}")
    if "precision" in known and out.get("precision", "default") == "default" and place in found.weights:
        weights = found.weights[place]
        out["precision"] = "default" if weights is None else weights.dtype.name
    _warn_of_unknown(out, {"type", *known}, f"model/{part}")
    return out


def _check_section(section: Any, where: str) -> None:
    if not isinstance(section, dict):
        raise InputError(f"{where}: must be an object with keys, got {section!r}")


def _merged_options(cls: Any, inner: Section, stated: Section, where: str) -> Section:
    """Return the section in force of options nested in a part."""
    _check_section(inner, where)
    known = {field.name for field in fields(cls)}
    out = {**rename(inner, getattr(cls, "aliases", {}), where), **stated}
    _warn_of_unknown(out, known, where)
    return {key: value for key, value in out.items() if key in known}


def _refuse(section: Section, part: str, where: str) -> None:
    """Raise InputError for a key of `REFUSED_KEYS` that is not off."""
    for key, accepted in REFUSED_KEYS[part].items():
        if section.get(key) not in (None, False, *accepted):
            raise InputError(f"{where}/{key}: models with this option are not supported (given: {section[key]!r})")


def _warn_of_unknown(section: Section, known: set[str], where: str) -> None:
    expected = {*known, *IGNORED_KEYS.get(where, ()), *REFUSED_KEYS.get(where, ())}
    unknown = sorted({key for key, value in section.items() if value is not None} - expected)
    if unknown:
        log.warning(
            "%s: the file was made with options that are not known here and are passed over: %s",
            where,
            ", ".join(unknown),
        )


def _built(part: str, section: Section, where: str) -> Any:
    """Build the configuration of a part."""
    cls = lookup(part, section["type"], where)
    if cls.kind == "hybrid":
        return cls(tuple(_built(part, member, f"{where}/list/{k}") for k, member in enumerate(section["list"])))
    known = {field.name for field in fields(cls)}
    return build(cls, {key: value for key, value in section.items() if key in known}, where)


def _model(section: Section) -> StandardModel:
    parts = {place: _built(part, section[part], f"model/{part}") for part, place in PARAM_PATHS.items()}
    names = section.get("type_map")
    if not names or not isinstance(names, list):
        raise InputError(f"model/type_map: the file does not name its elements. {ASK}")
    if len(names) > MOST_TYPES:
        raise InputError(f"model/type_map: has {len(names)} types; more than {MOST_TYPES} are not supported")
    options = {name: section.get(name) or () for name in ("pair_exclude_types", "atom_exclude_types")}
    options |= {"type_map": list(map(str, names)), "preset_out_bias": section.get("preset_out_bias")}
    model = build(StandardModel, {**options, **parts, "rcond": parts["fitting"].rcond}, "model")
    sel = model.layout().sel
    if not model.descriptor.mixed and len(sel) != model.ntypes:
        raise InputError(f"model/descriptor/sel: has {len(sel)} entries, type_map has {model.ntypes}: {names}")
    return model

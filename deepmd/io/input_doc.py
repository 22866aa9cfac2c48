"""`dp doc-train-input`: the keys of input.json, from the dataclasses that check them. Sections: sections.py."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from deepmd.array_model.descriptors.dpa2 import Repinit
from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.registry import registered
from deepmd.array_model.repflow import Repflow
from deepmd.array_model.repformer import Repformer
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.io import combinations, sections
from deepmd.io.checking import adapter
from deepmd.io.meanings import meaning
from deepmd.losses import LOSSES

OUT_TYPES = ("rst", "md", "json", "json_schema")


def _classes() -> dict[str, dict[str, type]]:
    """Return for each section the classes that check it, by their `type` ("" where there is none)."""
    return {
        "model": {"standard": sections.ModelSection, **combinations.SECTIONS},
        "model/descriptor": registered("descriptor"),
        "model/fitting_net": registered("fitting_net"),
        "learning_rate": dict(sections.LEARNING_RATES),
        "optimizer": dict(sections.OPTIMIZERS),
        "loss": dict(LOSSES),
        "training": {"": sections.TrainingSection},
        "training/training_data": {"": sections.TrainingDataSection},
        "training/validation_data": {"": sections.ValidationSection},
        "validating": {"": sections.ValidatingSection},
    }


def _nested() -> dict[str, dict[str, type]]:
    """Return the classes of sections inside of others, which the schema finds by itself."""
    return {
        "model/type_embedding": {"": TypeEmbedding},
        "model/descriptor/repinit": {"": Repinit},
        "model/descriptor/repformer": {"": Repformer},
        "model/descriptor/repflow": {"": Repflow},
    }


def sections_of_input() -> list[tuple[str, str, type]]:
    """Return path, type ("" where there is none) and class of each section of the input."""
    found = {**_classes(), **_nested()}
    return [(where, kind, cls) for where, kinds in found.items() for kind, cls in kinds.items()]


def keys_of(where: str, cls: type) -> list[dict[str, Any]]:
    """Return name, type, aliases, default and meaning of each option of the class of a section."""
    names: dict[str, str] = getattr(cls, "aliases", {})
    # as text, because pydantic replaces `Field.type` by the type itself when it first checks an input
    written = {
        name: text for base in reversed(cls.__mro__) for name, text in vars(base).get("__annotations__", {}).items()
    }
    out = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.metadata.get("derived"):
            continue
        entry: dict[str, Any] = {
            "name": field.name,
            "type": written[field.name],
            "alias": [old for old, new in names.items() if new == field.name],
            "doc": meaning(where, field.name),
        }
        if field.default is dataclasses.MISSING:
            entry["required"] = True
        else:
            entry["default"] = field.default
        out.append(entry)
    return out


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _title(where: str, kind: str) -> str:
    return f"{where}, type {kind}" if kind else where


def _default(key: dict[str, Any]) -> str:
    return "required" if key.get("required") else f"default {json.dumps(key['default'])}"


def _line(key: dict[str, Any]) -> str:
    aliases = f", or {', '.join(f'``{alias}``' for alias in key['alias'])}" if key["alias"] else ""
    return f"- ``{key['name']}``{aliases}: {key['type']}, {_default(key)}. {key['doc']}"


def _row(key: dict[str, Any]) -> str:
    names = ", ".join(f"`{name}`" for name in (key["name"], *key["alias"]))
    cells = (names, key["type"], _default(key).removeprefix("default "), key["doc"])
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def input_doc(out_type: str = "rst", wanted: str | None = None) -> str:
    """Return the documentation of the input.

    Parameters
    ----------
    out_type : "rst" for text, "md" for tables, "json" for lists of keys, "json_schema" for a schema that editors and
        validators read
    wanted : a key; its entries in every section, as text
    """
    if wanted is not None:
        return _entries(wanted)
    if out_type == "json":
        tree: dict[str, Any] = {}
        for where, kind, cls in sections_of_input():
            tree.setdefault(where, {})[kind] = {"doc": _first_line(cls), "keys": keys_of(where, cls)}
        return json.dumps(tree, indent=2)
    if out_type == "json_schema":
        return json.dumps(_schema(), indent=2)
    if out_type not in ("rst", "md"):
        raise InputError(f"out-type is {out_type!r}; accepted: {', '.join(OUT_TYPES)}")
    text = out_type == "rst"
    lines = ["The input", "=========", ""] if text else []
    for where, kind, cls in sections_of_input():
        title = _title(where, kind)
        lines += [title, "-" * len(title), ""] if text else [f"## {title}", ""]
        lines += [_first_line(cls), ""]
        lines += [] if text else ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [*map(_line if text else _row, keys_of(where, cls)), ""]
    return "\n".join(lines)


def _entries(wanted: str) -> str:
    """Return what a key means in every section that has it; sections with the same words share them."""
    found: dict[str, list[str]] = {}
    names = set()
    for where, kind, cls in sections_of_input():
        for key in keys_of(where, cls):
            names |= {key["name"], *key["alias"]}
            if wanted in (key["name"], *key["alias"]):
                found.setdefault(_line(key), []).append(_title(where, kind))
    if not found:
        raise InputError(f"{wanted!r} is no key of the input.{nearest(wanted, names)}")
    return "\n".join("\n".join([line, *(f"  in {title}" for title in titles)]) for line, titles in found.items())


def _schema() -> dict[str, Any]:
    """Return a JSON schema. Its objects allow additional keys, because inputs have comments and aliases."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {},
    }
    for where, kinds in _classes().items():
        place, definitions = root, []
        for part in where.split("/")[:-1]:
            place = place["properties"][part]
        for kind, cls in kinds.items():
            schema = adapter(cls).json_schema()
            schema.pop("additionalProperties", None)
            for name, entry in schema.get("properties", {}).items():
                entry["description"] = meaning(where, name)
            if kind:
                schema.setdefault("properties", {})["type"] = {"const": kind}
            definitions.append(schema)
        section = (
            definitions[0] if len(definitions) == 1 else {"type": "object", "anyOf": definitions, "properties": {}}
        )
        section.setdefault("properties", {})
        place["properties"][where.rpartition("/")[2]] = section
    root["required"] = ["model", "learning_rate", "training"]
    return root

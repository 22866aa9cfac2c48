"""`dp doc-train-input`: the keys of input.json, from the dataclasses that check them. Sections: sections.py."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from deepmd.array_model.errors import InputError
from deepmd.array_model.registry import registered
from deepmd.io import combinations, sections
from deepmd.io.checking import adapter
from deepmd.losses import LOSSES

OUT_TYPES = ("rst", "json", "json_schema")


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


def _keys(cls: type) -> list[dict[str, Any]]:
    """Return name, type, aliases and default of each option of a class."""
    names: dict[str, str] = getattr(cls, "aliases", {})
    out = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.metadata.get("derived"):
            continue
        entry: dict[str, Any] = {
            "name": field.name,
            "type": str(field.type),
            "alias": [old for old, new in names.items() if new == field.name],
        }
        if field.default is dataclasses.MISSING:
            entry["required"] = True
        else:
            entry["default"] = field.default
        out.append(entry)
    return out


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def input_doc(out_type: str = "rst") -> str:
    """Return the documentation of the input.

    Parameters
    ----------
    out_type : "rst" for text, "json" for lists of keys, "json_schema" for a schema that editors and validators read
    """
    if out_type == "json":
        tree = {
            where: {kind: {"doc": _first_line(cls), "keys": _keys(cls)} for kind, cls in kinds.items()}
            for where, kinds in _classes().items()
        }
        return json.dumps(tree, indent=2)
    if out_type == "json_schema":
        return json.dumps(_schema(), indent=2)
    if out_type != "rst":
        raise InputError(f"out-type is {out_type!r}; accepted: {', '.join(OUT_TYPES)}")
    lines = ["The input", "=========", ""]
    for where, kinds in _classes().items():
        for kind, cls in kinds.items():
            title = f"{where}, type {kind}" if kind else where
            lines += [title, "-" * len(title), "", _first_line(cls), ""]
            for key in _keys(cls):
                aliases = f", or {', '.join(f'``{alias}``' for alias in key['alias'])}" if key["alias"] else ""
                default = "required" if key.get("required") else f"default {json.dumps(key['default'])}"
                lines.append(f"- ``{key['name']}``{aliases}: {key['type']}, {default}")
            lines.append("")
    return "\n".join(lines)


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

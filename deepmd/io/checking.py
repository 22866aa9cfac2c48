"""Sections as dataclasses: aliases, comments, unknown keys, types (by pydantic). For input.json and stored trees."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
import pydantic

from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.tree import flatten
from deepmd.unsupported import Key

T = TypeVar("T")


def without_comments(tree: Any) -> Any:
    """Drop keys that begin with an underscore, at every depth."""
    if isinstance(tree, dict):
        return {key: without_comments(value) for key, value in tree.items() if not str(key).startswith("_")}
    return [without_comments(item) for item in tree] if isinstance(tree, list) else tree


def check_finite(tree: Any, where: str = "") -> None:
    """Raise InputError for a number or array that is not finite in nested dicts and lists; `where` is their path."""
    for path, leaf in flatten(tree, where).items():
        if isinstance(leaf, float | np.ndarray | np.generic) and not np.all(np.isfinite(leaf)):
            raise InputError(
                f"{path}: {'is' if np.ndim(leaf) == 0 else 'holds'} NaN or infinite; accepted: finite numbers"
            )


def find(tree: Any, key: str, what: str, optional: bool = False) -> Any:
    """Return the entry at a path such as "a/b/0" of nested dicts and lists; None if it is optional and missing.

    Parameters
    ----------
    what : name of the tree, for errors
    """
    for part in key.split("/"):
        if isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        elif optional and (tree is None or isinstance(tree, dict | list)):
            return None
        else:
            raise InputError(f"{what}: {part!r} is missing")
    return tree


def find_list(tree: Any, key: str, what: str) -> list[Any]:
    """Return an entry that must be a list; arguments as for `find`."""
    value = find(tree, key, what)
    if not isinstance(value, list):
        raise InputError(f"{what}: {key} is no list but {value!r:.100}")
    return value


def rename(section: dict[str, Any], aliases: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return the section with aliases replaced by the proper keys; raise InputError for a key under two names."""
    out: dict[str, Any] = {}
    for key, value in section.items():
        proper = aliases.get(key, key)
        if proper in out:
            raise InputError(f"{where}: {proper!r} is given twice, also as {key!r}; keep one")
        out[proper] = value
    return out


def check_object(section: Any, where: str) -> None:
    """Raise InputError unless a section is a dict."""
    if not isinstance(section, dict):
        raise InputError(f"{where}: must be an object with keys, got {section!r}")


def options_of(instance: Any) -> dict[str, Any]:
    """Return the options of a config dataclass, without fields that are derived from elsewhere."""
    derived = [field.name for field in dataclasses.fields(instance) if field.metadata.get("derived")]
    return {name: value for name, value in dataclasses.asdict(instance).items() if name not in derived}


def adapter(cls: type[T]) -> pydantic.TypeAdapter[T]:
    """Return pydantic's view of a config dataclass.

    Types of inherited fields are resolved first, because pydantic before 2.10 looks up their names in the module of the
    subclass.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        field.type = hints[field.name]
    return pydantic.TypeAdapter(cls)


def build(cls: type[T], section: Any, where: str, not_yet: Mapping[str, Key] | None = None) -> T:
    """Build a config dataclass from a section of the input.

    Parameters
    ----------
    cls : dataclass; its attribute `aliases` maps aliases to fields, `ignored` lists keys that are accepted and dropped
    section : dict from the input, without `type`
    where : path of the section in the input, for errors
    not_yet : keys of DeePMD-kit that are not supported
    """
    check_object(section, where)
    ignored = getattr(cls, "ignored", ())
    section = {key: value for key, value in section.items() if key not in ignored}
    section = rename(section, getattr(cls, "aliases", {}), where)
    known = [field.name for field in dataclasses.fields(cls) if not field.metadata.get("derived")]  # type: ignore[arg-type]
    not_yet = not_yet or {}
    missing = []
    for key in [key for key in section if key not in known]:
        if key not in not_yet:
            everything = [*known, *getattr(cls, "aliases", {}), *not_yet]
            raise InputError(f"{where}: unknown key {key!r}.{nearest(key, everything)} Known: {', '.join(known)}")
        value = section.pop(key)
        if value not in (not_yet[key].off, None):
            missing.append(
                f"{where}/{key}: known, but not supported yet ({not_yet[key].because}; given: {value!r:.100})"
            )
    if missing:
        raise InputError(f"{'; '.join(missing)}. Remove {'it' if len(missing) == 1 else 'them'} to go on without")
    for key, kind in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(section.get(key), dict):
            section[key] = build(kind, section[key], f"{where}/{key}")
    errors = _type_errors(cls, section)
    if not errors:
        try:
            return adapter(cls).validate_python(section)
        except pydantic.ValidationError as error:
            errors = error.errors(include_url=False)
    raise InputError(_explain(errors, where, known))


@cache
def _field_adapters(cls: type) -> dict[str, pydantic.TypeAdapter[Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: pydantic.TypeAdapter(hints[field.name]) for field in dataclasses.fields(cls)}


def _type_errors(cls: type, section: dict[str, Any]) -> list[Any]:
    """Return pydantic's errors for values of other types than the fields have; an integer may stand for a float.

    Field by field, because pydantic builds no dataclass from a dict under strict rules.
    """
    errors: list[Any] = []
    for name, value in section.items():
        try:
            _field_adapters(cls)[name].validate_python(_as_stored(value), strict=True)
        except pydantic.ValidationError as error:
            errors += [{**item, "loc": (name, *item["loc"])} for item in error.errors(include_url=False)]
    return errors


def _as_stored(value: Any) -> Any:
    """Return lists outside of dicts as the tuples that fields are, and numbers of NumPy as those of Python."""
    if isinstance(value, list | tuple):
        return tuple(_as_stored(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _explain(errors: list[Any], where: str, known: list[str]) -> str:
    """Return one message for all errors of pydantic, each with the path of its key."""
    problems: dict[str, list[str]] = {}
    for item in errors:
        path = "/".join([where, *(str(part) for part in item["loc"] if isinstance(part, int) or part in known)])
        if item["type"] in ("missing", "missing_argument"):
            text = "required, but missing"
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
        else:
            text = f"{item['msg'].lower()}, got {item['input']!r}"
            if isinstance(item["input"], str) and _is_number(item["input"]):
                text += " (a text; YAML reads 1e-3 as a text, too, and 1.0e-3 as a number)"
        problems.setdefault(path, []).append(text)
    return "; ".join(f"{path}: {' or '.join(dict.fromkeys(texts))}" for path, texts in problems.items())

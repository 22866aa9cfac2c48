"""Declarative layouts of stored dicts: a `Row` for each entry says key in the file, path here, and conversion.

Rows of each kind: layouts/. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import map_leaves
from deepmd.io.checking import find

REQUIRED, UNSET = object(), object()
"""Defaults of a row. REQUIRED: a file must have the key. UNSET: the dataclass has the default."""


@dataclass(frozen=True)
class Conversion:
    """Conversion between a value here and its stored form.

    Attributes
    ----------
    write : function of the value here that returns the stored value, or UNSET to store none; None: the entry is only
        read
    read : function of (stored value, where it stands) that returns the value here; None: the entry is only written
    torch : part of the names in DeePMD-kit's torch between the module of a row and the rest of the path
    """

    write: Callable[[Any], Any] | None
    read: Callable[[Any, str], Any] | None = None
    torch: str = ""


@dataclass(frozen=True)
class Row:
    """One entry of a stored dict.

    Attributes
    ----------
    key : keys in the file, joined by "/"; numbers are places in lists
    path : attributes, keys and numbers of the value here, joined by "/"; "": the whole object; None: the value is
        checked only
    conversion : between the value here and its stored form
    default : value here if a file lacks the key or has null; or REQUIRED or UNSET
    old : key in old files
    torch : name of the module in DeePMD-kit's torch that has the parameters
    """

    key: str
    path: str | None
    conversion: Conversion
    default: Any = REQUIRED
    old: str = ""
    torch: str = ""


def write_rows(rows: Iterable[Row], source: Any) -> dict[str, Any]:
    """Return the stored dict of an object, or of nested dicts and lists."""
    values = ((row.key, row.conversion.write(_at(source, row.path or ""))) for row in rows if row.conversion.write)
    return nest((key, value) for key, value in values if value is not UNSET)


def read_rows(rows: Iterable[Row], tree: Any, what: str) -> dict[str, Any]:
    """Return the values here, as nested dicts and lists."""
    found = []
    for row in rows:
        if row.conversion.read is None:
            continue
        value = find(tree, row.key, what, row.default is not REQUIRED or bool(row.old))
        if value is None and row.old:
            value = find(tree, row.old, what)
        if value is not None or row.default is REQUIRED:
            value = row.conversion.read(value, f"{what}, {row.key}")
        elif row.default is UNSET:
            continue
        else:
            value = row.default
        if row.path is not None:
            found.append((row.path, value))
    return nest(found)


def nest(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return nested dicts from (path, value) pairs, lists where paths have numbers. Merges dicts of the same path."""
    out: dict[str, Any] = {"": {}}
    for path, value in items:
        *above, name = ["", *path.split("/")] if path else [""]
        tree = out
        for key in above:
            tree = tree.setdefault(key, _FromPaths())
        if isinstance(value, dict):
            same = tree.get(name, {})
            same.update(value)
            tree[name] = same
        else:
            tree[name] = value
    return _with_lists(out[""])  # type: ignore[no-any-return]


class _FromPaths(dict[str, Any]):
    """Dict whose keys are parts of paths; in dicts that are values, keys of digits are no numbers of a list."""


def _with_lists(tree: Any) -> Any:
    """Return the tree with lists in place of dicts `_FromPaths` whose keys are all numbers."""
    if not isinstance(tree, dict):
        return tree
    values = {key: _with_lists(value) for key, value in tree.items()}
    numbered = isinstance(tree, _FromPaths) and all(str(key).isdigit() for key in values)
    return list(values.values()) if values and numbered else values


def _at(source: Any, path: str) -> Any:
    for key in path.split("/") if path else ():
        if isinstance(source, list):
            source = source[int(key)]
        else:
            source = source[key] if isinstance(source, dict) else getattr(source, key)
    return source


# -- conversions ------------------------------------------------------------------------------------------------------


def with_sequences(kind: type, value: Any) -> Any:
    """Return the value with all lists and tuples, nested ones too, as `kind` (list or tuple)."""
    return kind(with_sequences(kind, item) for item in value) if isinstance(value, list | tuple) else value


def array(value: Any, where: str) -> np.ndarray:
    """Return a stored value as an array; raise InputError if it is not an array of numbers."""
    try:
        out = np.asarray(value)
    except ValueError:  # ragged rows
        out = np.asarray(None)
    if out.dtype.kind not in "fiub":
        raise InputError(f"{where}: not an array of numbers: {value!r:.100}")
    return out


OPTION = Conversion(lambda value: with_sequences(list, value), lambda value, where: with_sequences(tuple, value))
"""Option: sequences are tuples here, lists in files."""

FLAG = Conversion(bool, lambda value, where: bool(value))


def integer(value: Any, where: str) -> int:
    """Return a stored integer."""
    if type(value) is not int:
        raise InputError(f"{where}: {value!r:.100} is no integer")
    return value


ARRAY = Conversion(lambda value: value, array)
ARRAYS = Conversion(lambda tree: tree, lambda tree, where: map_leaves(lambda leaf: array(leaf, where), tree))
"""Nested dicts and lists of arrays, stored as they are."""


def option_row(key: str, path: str = "", default: Any = REQUIRED, conversion: Conversion = OPTION) -> Row:
    """Return the row of an option; `path` is the key by default."""
    return Row(key, path or key, conversion, default)


def constant_row(key: str, value: Any, *also: Any) -> Row:
    """Return the row of a constant, written as `value`, and read as `value` or one of `also`."""
    return Row(key, None, Conversion(lambda _: value, accept(value, *also)), UNSET)


def write_only_row(key: str, function: Callable[[Any], Any]) -> Row:
    """Return a row that is only written: `function` of the whole object, which repeats other entries."""
    return Row(key, "", Conversion(function))


def checked_row(key: str, *accepted: Any) -> Row:
    """Return a row that is only read: its value must be one of `accepted`."""
    return Row(key, None, Conversion(None, accept(*accepted)), UNSET)


def accept(*accepted: Any) -> Callable[[Any, str], Any]:
    """Return a reader that raises InputError for values that are not accepted."""

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, bool | int | float | str | None) or value not in accepted:
            what, _, key = where.rpartition(", ")
            text = f"stored with {key} = {value!r:.100}, which is not supported (accepted: {list(accepted)})"
            raise InputError(f"{what}: {text}")
        return value

    return read


def version_row(key: str, version: int) -> Row:
    """Return the row that raises InputError for an inner dict of a version beyond `version`."""
    return Row(key, None, Conversion(None, lambda tree, where: check_version(tree, version, where)))


def check_version(tree: Any, newest: int, what: str) -> None:
    """Raise InputError for a stored dict of a version that this program does not know yet."""
    version = find(tree, "@version", what, optional=True)
    if not isinstance(version, int | None) or (version or 1) > newest:
        raise InputError(f"{what}: stored with version {version!r}; this program reads versions up to {newest}")


def statistics_rows(key: str, path: str, torch: str, *, uniform: bool) -> Sequence[Row]:
    """Return the rows of mean and deviation of the environment (T, S, C).

    Parameters
    ----------
    uniform : refuse values that differ between slots, because one slot stands for all empty slots
    """

    def read(value: Any, where: str) -> Any:
        values = array(value, where)
        if values.ndim != 3:
            raise InputError(f"{where}: has {values.ndim} axes; expected types, slots, columns")
        if uniform and float(abs(values - values[:, :1, :]).max(initial=0.0)) > 0.0:
            what, _, key = where.rpartition(", ")
            raise InputError(f"{what}: stored with {key} that differs between slots, which is not supported")
        return values

    return [
        Row(f"{key}@variables/{name}", f"{path}{name}", Conversion(ARRAY.write, read), torch=torch + theirs)
        for name, theirs in (("davg", "mean"), ("dstd", "stddev"))
    ]

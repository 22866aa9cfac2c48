"""LMDB data sets in the layout of DeePMD-kit 3.2 (docs/input.md#lmdb-data-sets), a system for each number of atoms.

A record is a frame. Records are decoded when a frame is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.frame_arrays import Stored, Version, version_of

ENDING = ".lmdb"

ALIASES = {
    "coords": "coord",
    "cells": "box",
    "energies": "energy",
    "forces": "force",
    "virials": "virial",
    "atom_types": "real_atom_types",
    "atype": "real_atom_types",
}
"""Names of fields in records, and those of .npy files."""

PROBED = 1024
"""Records whose fields are compared when a data set is opened; all, if there are not more."""

FLAG = "find_"
"""Prefix of entries that tell by 0 that the value of a field is none."""

DECODED = 16
"""Records that are kept decoded, because the fields of a frame are asked for one by one."""

Record = dict[str, np.ndarray]


def is_data_set(path: str) -> bool:
    """Return whether a path, without `#GROUP`, is an LMDB data set."""
    return path.endswith(ENDING) and (Path(path) / "data.mdb").is_file()


@dataclass(frozen=True)
class Frames:
    """Frames of one system of a data set.

    Attributes
    ----------
    keys : numbers of the records, ascending
    natoms : atoms of a frame
    fields : names of the values that every frame has
    """

    keys: np.ndarray
    natoms: int
    fields: frozenset[str]


class DataSet:
    """The records of a data set by number, and the systems that they make up."""

    def __init__(self, path: str, version: Version) -> None:
        self._lmdb, self._unpack = _import()
        self._path, self._version = path, version
        self.record = lru_cache(maxsize=DECODED)(self._decode)
        try:
            metadata = self._unpack(self._bytes(b"__metadata__"), raw=False, strict_map_key=False)
            self._format = str(metadata.get("frame_idx_fmt", "012d"))
            if not re.fullmatch(r"0?\d{0,2}d", self._format):
                raise ValueError(f"frame_idx_fmt is {self._format!r}; accepted: 012d and the like")
            self.elements = tuple(str(name) for name in metadata.get("type_map") or ())
            self.systems = self._find_systems(int(metadata["nframes"]), metadata.get("frame_nlocs"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: not a readable data set: {error}") from error

    def _decode(self, key: int) -> Record:
        """Return the values of a frame by name, as arrays without shape; raise ValueError for a damaged record."""
        try:
            entries = self._unpack(self._bytes(format(key, self._format).encode()), raw=False, strict_map_key=False)
            found = {name: values for name, values in map(_read_entry, entries.items()) if values is not None}
        except (TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
            raise ValueError(f"record {key} is damaged: {error!r}") from error
        absent = {
            name.removeprefix(FLAG) for name, values in found.items() if name.startswith(FLAG) and not values.any()
        }
        if "box" in found and not found["box"].any():  # an open boundary
            absent.add("box")
        out = {name: values for name, values in found.items() if not (name in absent or name.startswith(FLAG))}
        for needed in ("coord", "real_atom_types"):
            if needed not in out:
                raise ValueError(f"record {key} has no {needed}; it has {', '.join(sorted(out))}")
        return out

    def _bytes(self, key: bytes) -> bytes:
        try:
            with _environment(self._path, self._version).begin() as transaction:
                found = transaction.get(key)
        except self._lmdb.Error as error:
            raise ValueError(str(error)) from error
        if found is None:
            raise ValueError(f"there is no record {key.decode()}")
        return bytes(found)

    def _find_systems(self, count: int, natoms: Sequence[int] | None) -> dict[str, Frames]:
        """Sort frames by numbers of atoms and by fields; without odd frames in a sample all have the same fields."""
        sample = range(count) if count <= PROBED else np.linspace(0, count - 1, PROBED).astype(int).tolist()
        kinds = {frozenset(self.record(key)) for key in sample}
        if not kinds:
            raise ValueError("it holds no frame")
        if natoms is not None and len(natoms) == count and len(kinds) == 1:
            (fields,) = kinds
            numbers = np.asarray(natoms, dtype=np.int64)
            sizes = np.unique(numbers).tolist()
            return {f"{size}": Frames(np.flatnonzero(numbers == size), size, fields) for size in sizes}
        found: dict[tuple[int, frozenset[str]], list[int]] = {}
        for key in range(count):
            record = self.record(key)
            found.setdefault((record["real_atom_types"].size, frozenset(record)), []).append(key)
        systems: dict[str, Frames] = {}
        for (size, fields), keys in sorted(found.items(), key=lambda item: item[0][0]):
            same = sum(each.natoms == size for each in systems.values())
            systems[f"{size}.{same}" if same else f"{size}"] = Frames(np.array(keys), size, fields)
        return systems


@dataclass(frozen=True)
class Field:
    """Values of one name of the frames of a system."""

    path: str
    version: Version
    system: str
    name: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `Stored`: that of decoded values."""
        return np.dtype(np.float64)

    def open(self) -> Field:
        """See `Stored`."""
        return self

    def __getitem__(self, rows: Any) -> np.ndarray:
        data = _open(self.path, self.version)
        frames = data.systems[self.system]
        return np.stack([self._read(data, frames, int(key)) for key in frames.keys[rows]])

    def _read(self, data: DataSet, frames: Frames, key: int) -> np.ndarray:
        record = data.record(key)
        if record.keys() != frames.fields:
            one, other = (", ".join(sorted(names)) for names in (record, frames.fields))
            raise ValueError(f"record {key} has {one}, others of {frames.natoms} atoms have {other}")
        if record[self.name].size != self.shape[1]:
            raise ValueError(f"record {key} has {record[self.name].size} values, expected {self.shape[1]}")
        return record[self.name]


class LmdbStorage:
    """One system of an LMDB data set, with the names of files: `set.000/coord.npy`."""

    has_records = True
    numbers = None

    def __init__(self, path: str) -> None:
        self.where = path
        self._path, _, self._system = path.partition("#")
        self._place = str(Path(self._path).absolute())  # frames are read later, maybe from another working directory
        self._version = version_of(Path(self._place) / "data.mdb")
        self._data = _open(self._place, self._version)

    def name(self, *parts: str) -> str:
        """See `Storage`."""
        return "/".join([self.where, parts[-1].rpartition(".")[0]])

    def has(self, *parts: str) -> bool:
        """See `Storage`."""
        fields = self._frames.fields
        own = {"type.raw": True, "type_map.raw": bool(self._data.elements), "nopbc": "box" not in fields}
        return own.get(parts[-1], parts[-1].removesuffix(".npy") in fields)

    def words(self, name: str) -> list[str]:
        """See `Storage`. `type.raw` tells the number of atoms only, as in every mixed_type system."""
        return list(self._data.elements) if name == "type_map.raw" else ["0"] * self._frames.natoms

    def sets(self) -> list[str]:
        """See `Storage`."""
        return ["set.000"]

    def array(self, *parts: str) -> Stored:
        """See `Storage`."""
        name, frames = parts[-1].removesuffix(".npy"), self._frames
        try:
            width = self._data.record(int(frames.keys[0]))[name].size
        except (ValueError, KeyError) as error:
            raise InputError(f"{self.name(*parts)}: cannot be read: {error}") from error
        return Field(self._place, self._version, self._system or "", name, (len(frames.keys), width))

    def systems(self, patterns: Sequence[str] | None) -> list[str]:
        """See `Storage`."""
        if patterns is not None:
            raise InputError(f"rglob_patterns: are for folders; {self.where} is an LMDB data set")
        return [self.where] if self._system else [f"{self._path}#{system}" for system in self._data.systems]

    @property
    def _frames(self) -> Frames:
        if self._system not in self._data.systems:
            known = ", ".join(f"{self._path}#{system}" for system in self._data.systems)
            raise InputError(f"{self.where}: names no system of the data set; it has {known}")
        return self._data.systems[self._system]


def _import() -> tuple[Any, Any]:
    try:
        import lmdb
        import msgpack
    except ModuleNotFoundError as error:
        raise InputError(
            f"LMDB data need the package {error.name!r}, which is not installed: pip install 'deepmd[lmdb]'"
        ) from error
    return lmdb, msgpack.unpackb


_ENVIRONMENTS: dict[str, tuple[Version, Any]] = {}
"""Open environments, because a process may open each of them once."""


def _environment(path: str, version: Version) -> Any:
    """Return the open environment; forked processes use it, too, since nothing is locked or written."""
    place = str(Path(path).resolve())
    known, environment = _ENVIRONMENTS.get(place, (None, None))
    if known != version:
        if environment is not None:
            environment.close()
        lmdb, _ = _import()
        environment = lmdb.open(place, readonly=True, lock=False, readahead=False)
        _ENVIRONMENTS[place] = version, environment
    return environment


@lru_cache(maxsize=16)
def _open(path: str, version: Version) -> DataSet:
    return DataSet(path, version)


def _read_entry(entry: tuple[Any, Any]) -> tuple[str, np.ndarray | None]:
    """Return name and values of an entry of a record: {type, shape, data}, a number or lists. Others are None."""
    key, value = entry
    name = ALIASES.get(key, str(key))
    if isinstance(value, int | float) or (isinstance(value, list) and name in ALIASES.values()):
        return name, np.array(value, dtype=np.float64).reshape(-1)
    if not isinstance(value, dict):
        return name, None
    fields = {key.decode() if isinstance(key, bytes) else key: each for key, each in value.items()}
    if "data" not in fields:
        return name, None
    kind = fields["type"]
    dtype = np.dtype(kind.decode() if isinstance(kind, bytes) else kind)
    return name, np.frombuffer(fields["data"], dtype).astype(np.float64) if dtype.kind in "fiub" else None

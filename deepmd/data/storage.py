"""Files of a system, in a folder or in a group of an HDF5 file (`file.hdf5#/group`) with the same names.

Read access only. Records of LMDB data sets: `lmdb_storage.py`; files that ASE reads: `ase_storage.py`.
`systems.py` checks and combines the arrays.
"""

from __future__ import annotations

import logging
import math
import stat
import tokenize
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.ase_storage import AseStorage
from deepmd.data.frame_arrays import Dataset, Mapped, Stored, open_hdf5, version_of
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.lmdb_storage import LmdbStorage, is_data_set

log = logging.getLogger(__name__)

MOST_COMPRESSED = 1100
"""Largest ratio by which filters of HDF5 compress. A dataset that claims more is damaged or hostile."""

NO_SET = "is no folder; accepted as set.* are folders of .npy files"
LEFT_OUT = "%s; it is left out"
NOT_SEARCHED = "%s: is a link, below which no systems are looked for; name it among the systems to use those"


class Storage(Protocol):
    """Read access to one system.

    Attributes
    ----------
    where : name in errors
    has_records : whether a frame is a record, so that reading one kind of value of all frames reads everything
    """

    where: str
    has_records: bool

    @property
    def numbers(self) -> np.ndarray | None:
        """Numbers of the frames in their file, where a file holds several systems; None: 0, 1, ..."""

    def name(self, *parts: str) -> str:
        """Return the name of a file in errors."""

    def has(self, *parts: str) -> bool:
        """Return whether a file exists; raise InputError for a dangling link and for anything but a file."""

    def words(self, name: str) -> list[str]:
        """Return the words of `type.raw` or `type_map.raw`."""

    def sets(self) -> list[str]:
        """Return the names of the sets, sorted; raise InputError for a `set.*` that is no folder."""

    def array(self, *parts: str) -> Stored:
        """Return a stored array, whose size is checked against its file and whose numbers are not read."""

    def systems(self, patterns: Sequence[str] | None) -> list[str]:
        """Return the sorted paths of the systems below. Without `patterns` (of `Path.rglob`) this system counts, too.

        Links to systems count. Other links are not followed, as in DeePMD-kit, because links may run in circles. A
        warning names links that are not followed and dangling links.
        """


class Folder:
    """A system in a folder."""

    has_records = False
    numbers = None

    def __init__(self, path: str) -> None:
        self.where = path
        self._path = Path(path)

    def name(self, *parts: str) -> str:
        """See `Storage`."""
        return str(self._path.joinpath(*parts))

    def has(self, *parts: str) -> bool:
        """See `Storage`."""
        mode = _mode(self._path.joinpath(*parts))
        if mode and not stat.S_ISREG(mode):
            raise InputError(f"{self.name(*parts)}: is no file")
        return mode != 0

    def words(self, name: str) -> list[str]:
        """See `Storage`."""
        if not self.has(name):
            raise InputError(f"{self.name(name)}: no such file")
        try:
            return (self._path / name).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{self.name(name)}: cannot be read: {getattr(error, 'strerror', 'not a text file')}"
            ) from error

    def sets(self) -> list[str]:
        """See `Storage`."""
        found = sorted(self._path.glob("set.*"))
        for part in found:
            if not stat.S_ISDIR(_mode(part)):
                raise InputError(f"{part}: {NO_SET}")
        return [part.name for part in found]

    def array(self, *parts: str) -> Stored:
        """See `Storage`."""
        try:
            return _npy(self._path.joinpath(*parts))
        except DAMAGED as error:
            raise InputError(f"{self.name(*parts)}: not a readable .npy file: {error}") from error

    def systems(self, patterns: Sequence[str] | None) -> list[str]:
        """See `Storage`."""
        try:
            wanted = ["*"] if patterns is None else list(patterns)
            below = {path for pattern in wanted for path in self._path.rglob(pattern)}
        except (ValueError, NotImplementedError) as error:
            raise InputError(f"rglob_patterns: {wanted} cannot be looked for: {error}") from error
        found = [str(self._path)] if patterns is None and self.has("type.raw") else []
        for path in sorted(below):
            try:
                folder = stat.S_ISDIR(_mode(path))
            except InputError as error:
                log.warning(LEFT_OUT, error)
                continue
            if folder and Folder(str(path)).has("type.raw"):
                found.append(str(path))
            elif folder and path.is_symlink() and not path.name.startswith("set."):
                log.warning(NOT_SEARCHED, path)
        return sorted(found)


DAMAGED = (OSError, ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError, tokenize.TokenError)
"""What NumPy raises for damaged headers."""


def _npy(path: Path) -> Mapped:
    """Return the array of a .npy file, after its header."""
    with path.open("rb") as file:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        start, size = file.tell(), path.stat().st_size
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or needed > size - start:
        raise ValueError(f"its header claims the shape {shape}, {needed:.3g} bytes, and {size - start} follow")
    return Mapped(str(path.absolute()), shape, dtype, start, fortran, version_of(path))


def _mode(path: Path) -> int:
    """Return the mode of the target of a path, 0 if nothing is there; raise InputError for a dangling link."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise InputError(f"{path}: is a link to {path.readlink()}, where nothing is") from error
        return 0
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


class Group:
    """A system in an HDF5 group, whose datasets have the names of files: `type.raw`, `set.000/coord.npy`."""

    has_records = False
    numbers = None

    def __init__(self, path: str, group: Any) -> None:
        self.where = path
        self._group = group

    def name(self, *parts: str) -> str:
        """See `Storage`."""
        return "/".join([self.where.rstrip("/"), *parts])

    def has(self, *parts: str) -> bool:
        """See `Storage`."""
        kind = self._kind("/".join(parts))
        if kind not in (None, h5py.Dataset):
            raise InputError(f"{self.name(*parts)}: is a group, expected a dataset")
        return kind is not None

    def words(self, name: str) -> list[str]:
        """See `Storage`."""
        if not self.has(name):
            raise InputError(f"{self.name(name)}: no such dataset")
        values = np.asarray(self._read(name)).reshape(-1).tolist()
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
        return [word for text in texts for word in text.split()]

    def sets(self) -> list[str]:
        """See `Storage`."""
        found = sorted(name for name in self._group if name.startswith("set."))
        for part in found:
            if self._kind(part) is not h5py.Group:
                raise InputError(f"{self.name(part)}: {NO_SET}")
        return found

    def array(self, *parts: str) -> Stored:
        """See `Storage`."""
        dataset = self._dataset("/".join(parts))
        file, offset = str(Path(dataset.file.filename).absolute()), dataset.id.get_offset()
        plain = dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype)
        if offset is not None and plain and dataset.id.get_create_plist().get_external_count() == 0:
            return Mapped(file, dataset.shape, dataset.dtype, offset, False, version_of(file))
        return Dataset(file, dataset.name, dataset.shape, dataset.dtype, version_of(file))

    def _dataset(self, name: str) -> Any:
        """Return a dataset with a shape that its file can hold."""
        dataset = self._group[name]
        if dataset.shape is None:
            raise InputError(f"{self.name(name)}: not a readable dataset: it holds nothing")
        if dataset.nbytes > MOST_COMPRESSED * max(Path(dataset.file.filename).stat().st_size, 1):
            raise InputError(f"{self.name(name)}: claims {dataset.nbytes:.3g} bytes, more than its file can hold")
        return dataset

    def _read(self, name: str) -> Any:
        try:
            return self._dataset(name)[()]
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name(name)}: not a readable dataset: {error}") from error

    def systems(self, patterns: Sequence[str] | None) -> list[str]:
        """See `Storage`."""
        if patterns is not None:
            raise InputError(f"rglob_patterns: are for folders; {self.where} is in an HDF5 file, name FILE#/GROUP")
        groups, links = [""], []
        self._group.visititems(lambda name, item: groups.append(f"{name}/") if isinstance(item, h5py.Group) else None)
        self._group.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else links.append(name))
        for name in links:
            try:
                group = self._kind(name) is h5py.Group
            except InputError as error:
                log.warning(LEFT_OUT, error)
                continue
            if group and not name.rpartition("/")[2].startswith("set."):
                log.warning(NOT_SEARCHED, self.name(name))
        found = [name for name in groups if self.has(f"{name}type.raw")]
        return sorted(self.name(name).rstrip("/") if name else self.where for name in found)

    def _kind(self, name: str) -> type | None:
        """Return the class of the target of a name, None if nothing is there; raise InputError for a dangling link."""
        try:
            kind: type | None = self._group.get(name, getclass=True)
        except (KeyError, OSError, RuntimeError) as error:
            link = self._group.get(name, getlink=True)
            target = f"{getattr(link, 'filename', '')}{getattr(link, 'path', '')}"
            raise InputError(f"{self.name(name)}: is a link to {target}, where nothing is") from error
        return kind


@contextmanager
def open_storage(path: str, keys: LabelKeys = DETECTED) -> Iterator[Storage]:
    """Yield the storage of a system. `keys`: names of the labels in files that ASE reads."""
    file, inner = _split(path)
    if is_data_set(file):
        yield LmdbStorage(path)
    elif Path(path).is_dir():
        yield Folder(path)
    elif is_ase_file(file):
        yield AseStorage(file, inner, keys)
    elif "#" in path or Path(path).is_file():
        with _hdf5(file) as root:
            group = root.get(inner or "/")
            if not isinstance(group, h5py.Group):
                raise InputError(f"{path}: the file holds no group {inner!r}. It holds: {', '.join(list(root)[:10])}")
            yield Group(path if inner else f"{file}#/", group)
    else:
        raise InputError(f"{path}: no such folder or file")


def _split(path: str) -> tuple[str, str]:
    """Return file and system of `FILE#SYSTEM`; names of files may have a '#', too."""
    head, _, tail = path.rpartition("#")
    if Path(path).is_file():
        return path, ""
    if Path(head).is_file():
        return head, tail
    first, _, rest = path.partition("#")
    return first, rest


def is_ase_file(file: str) -> bool:
    """Return whether a file, without `#SYSTEM`, is one for ASE."""
    return Path(file).is_file() and not _is_hdf5(file)


def _is_hdf5(file: str) -> bool:
    return Path(file).suffix.lower() in (".h5", ".hdf5") or h5py.is_hdf5(file)


@contextmanager
def _hdf5(file: str) -> Iterator[Any]:
    if not Path(file).is_file():
        raise InputError(f"{file}: no such HDF5 file")
    try:
        root = open_hdf5(file)
    except OSError as error:
        raise InputError(f"{file}: neither a folder nor a readable HDF5 file: {error}") from error
    with root:
        yield root

"""Where the files of a system are: in a folder, or in a group of an HDF5 file (`file.hdf5#/group`) with the same names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from deepmd.array_model.errors import InputError

MOST_COMPRESSED = 1100
"""No data are compressed by more than this by what HDF5 compresses with; a dataset that claims more is damaged or hostile."""


class Storage(Protocol):
    """Read access to one system."""

    where: str

    def name(self, *parts: str) -> str:
        """Return how errors call a file."""

    def has(self, *parts: str) -> bool:
        """Return whether there is such a file."""

    def words(self, name: str) -> list[str]:
        """Return the words of `type.raw` or `type_map.raw`."""

    def sets(self) -> list[str]:
        """Return the names of the sets, sorted."""

    def array(self, *parts: str) -> np.ndarray:
        """Return a stored array as it is."""


class Folder:
    """A system in a folder."""

    def __init__(self, path: str) -> None:
        self.where = path
        self._path = Path(path)

    def name(self, *parts: str) -> str:
        """See `Storage`."""
        return str(self._path.joinpath(*parts))

    def has(self, *parts: str) -> bool:
        """See `Storage`."""
        return self._path.joinpath(*parts).is_file()

    def words(self, name: str) -> list[str]:
        """See `Storage`."""
        try:
            return (self._path / name).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.name(name)}: cannot be read: {getattr(error, 'strerror', 'not a text file')}") from error

    def sets(self) -> list[str]:
        """See `Storage`."""
        return sorted(part.name for part in self._path.glob("set.*") if part.is_dir())

    def array(self, *parts: str) -> np.ndarray:
        """See `Storage`."""
        try:
            return np.asarray(np.load(self._path.joinpath(*parts), allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{self.name(*parts)}: not a readable .npy file: {error}") from error


class Group:
    """A system in an HDF5 group, whose datasets are named as files are: `type.raw`, `set.000/coord.npy`."""

    def __init__(self, path: str, group: Any) -> None:
        self.where = path
        self._group = group

    def name(self, *parts: str) -> str:
        """See `Storage`."""
        return "/".join([self.where.rstrip("/"), *parts])

    def has(self, *parts: str) -> bool:
        """See `Storage`."""
        return "/".join(parts) in self._group

    def words(self, name: str) -> list[str]:
        """See `Storage`."""
        if not self.has(name):
            raise InputError(f"{self.name(name)}: cannot be read: no such dataset")
        values = np.asarray(self.array(name)).reshape(-1).tolist()
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
        return [word for text in texts for word in text.split()]

    def sets(self) -> list[str]:
        """See `Storage`."""
        return sorted(name for name, value in self._group.items() if name.startswith("set.") and isinstance(value, h5py.Group))

    def array(self, *parts: str) -> np.ndarray:
        """See `Storage`."""
        dataset = self._group["/".join(parts)]
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(f"{self.name(*parts)}: is a group, expected a dataset")
        if dataset.nbytes > MOST_COMPRESSED * max(Path(self._group.file.filename).stat().st_size, 1):
            raise InputError(f"{self.name(*parts)}: claims {dataset.nbytes:.3g} bytes, more than its file can hold")
        try:
            return np.asarray(dataset[()])
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name(*parts)}: not a readable dataset: {error}") from error


@contextmanager
def opened(path: str) -> Iterator[Storage]:
    """Yield the storage of a system.

    Raises
    ------
    InputError
        There is no such folder, file or group.
    """
    file, hash_, inner = path.partition("#")
    if hash_ or Path(path).is_file():
        with _hdf5(file) as root:
            group = root.get(inner or "/")
            if not isinstance(group, h5py.Group):
                raise InputError(f"{path}: the file holds no group {inner!r}. It holds: {', '.join(list(root)[:10])}")
            yield Group(path, group)
    elif Path(path).is_dir():
        yield Folder(path)
    else:
        raise InputError(f"{path}: no such system folder")


@contextmanager
def _hdf5(file: str) -> Iterator[Any]:
    if not Path(file).is_file():
        raise InputError(f"{file}: no such HDF5 file")
    try:
        root = h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{file}: neither a folder nor a readable HDF5 file: {error}") from error
    with root:
        yield root


def systems_below(root: str, patterns: list[str] | None = None) -> list[str]:
    """Return the systems below a folder (a system itself counts) or in an HDF5 file, sorted; a pattern is one of `Path.rglob`.

    Raises
    ------
    InputError
        There is no such folder, file or group.
    """
    file, hash_, inner = root.partition("#")
    if hash_ or Path(root).is_file():
        with _hdf5(file) as content:
            start = content.get(inner or "/")
            if not isinstance(start, h5py.Group):
                raise InputError(f"{root}: the file holds no group {inner!r}. It holds: {', '.join(list(content)[:10])}")
            names: list[str] = []
            start.visit(lambda name: names.append(name) if name.rpartition("/")[2] == "type.raw" else None)
            prefix = start.name.rstrip("/")
            return sorted(f"{file}#{f'{prefix}/{name}'.removesuffix('/type.raw') or '/'}" for name in names)
    if not Path(root).is_dir():
        raise InputError(f"{root}: no such folder with systems")
    if patterns:
        return sorted(str(path) for pattern in patterns for path in Path(root).rglob(pattern) if (path / "type.raw").is_file())
    return sorted(str(path.parent) for path in Path(root).rglob("type.raw"))

"""Arrays of frames that stay in their files: numbers are read and checked when a frame is used.

A file may be larger than the memory. The pages of a mapped file belong to the operating system, which drops them.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Protocol

import h5py
import numpy as np

from deepmd.array_model.errors import InputError

MOST_OPEN = 128
"""Files that are kept open, each with a file descriptor; processes may have 1024 by default."""

BLOCK_BYTES = 2**20
"""Size of the blocks in which `FrameArray.blocks` passes through an array, bytes."""


class Stored(Hashable, Protocol):
    """An array in a file, whose path is absolute. Hashable: arrays with equal attributes are the same array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the file."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type in the file."""

    def open(self) -> Any:
        """Return an object whose `[first:last]` and `[()]` are arrays."""


Version = tuple[int, ...]
"""Inode and time of the last change of a file: a file that is written anew is opened anew."""


def version_of(file: str | os.PathLike[str]) -> Version:
    """Return what tells one version of a file from the next."""
    found = os.stat(file)  # noqa: PTH116
    return found.st_dev, found.st_ino, found.st_mtime_ns


@dataclass(frozen=True)
class Mapped:
    """Array whose bytes lie in a file as they are: a .npy file, or a contiguous dataset of an HDF5 file."""

    file: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    fortran: bool
    version: Version

    def open(self) -> np.ndarray:
        """See `Stored`."""
        if 0 in self.shape:  # nothing can be mapped
            return np.empty(self.shape, self.dtype)
        order = "F" if self.fortran else "C"
        return np.asarray(np.memmap(self.file, self.dtype, "r", self.offset, self.shape, order))  # type: ignore[call-overload]


def open_hdf5(file: str) -> h5py.File:
    """Open a file of data for reading, without a lock, because others may write to it while a dataset stays open.

    HDF5 refuses to open a file twice in a process, once with and once without a lock.
    """
    return h5py.File(file, "r", locking=False)


@dataclass(frozen=True)
class Dataset:
    """Dataset of an HDF5 file, in chunks or compressed."""

    file: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    version: Version

    def open(self) -> Any:
        """See `Stored`."""
        return open_hdf5(self.file)[self.name]


@lru_cache(maxsize=MOST_OPEN)
def _opened(stored: Stored, process: int) -> Any:
    """Open an array once in each process, because forked processes cannot share an HDF5 file."""
    return stored.open()


Convert = Callable[[np.ndarray, int], np.ndarray]
"""Function of float64 values (F, k) and the number of the first of these frames in their file."""


@dataclass(frozen=True)
class Part:
    """The frames of one file.

    Attributes
    ----------
    name : name of the file in errors
    stored : values of each frame; the axis of frames may be missing for a single frame
    frames : number of frames
    convert : from the values (F, k) in the file to those in use (F, ...); None: the same values
    """

    name: str
    stored: Stored
    frames: int
    convert: Convert | None = None

    @property
    def width(self) -> int:
        """Values of a frame in the file."""
        return math.prod(self.stored.shape) // self.frames

    def read(self, first: int, last: int) -> np.ndarray:
        """Return the values of some frames (F, ...); raise InputError for NaN and infinity."""
        try:
            rows = _opened(self.stored, os.getpid())[() if self.frames == 1 else slice(first, last)]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.name}: cannot be read: {error}") from error
        values = np.array(rows, dtype=np.float64).reshape(last - first, -1)
        if not np.isfinite(values).all():
            bad = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise InputError(f"{self.name}: frame {first + bad} holds NaN or infinity")
        return values if self.convert is None else self.convert(values, first)


class FrameArray:
    """Array (frames, ...) over the files of a system.

    `array[frame]`, slices and lists of frames are NumPy arrays; `np.asarray` reads all.

    Parameters
    ----------
    parts : files in the order of the frames
    frame_shape : shape of the values of a frame
    dtype : of the values
    """

    def __init__(self, parts: Sequence[Part], frame_shape: tuple[int, ...], dtype: Any = np.float64) -> None:
        self._parts = parts
        self._ends = list(accumulate(part.frames for part in parts))
        self.shape = (self._ends[-1], *frame_shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frames: Any) -> Any:
        if isinstance(frames, int | np.integer):
            frame = range(len(self))[frames]
            return self._read(frame, frame + 1)[0]
        if isinstance(frames, slice):
            chosen = range(len(self))[frames]
            if chosen.step == 1:
                return self._read(chosen.start, max(chosen.start, chosen.stop))
            frames = chosen
        rows = [self[frame] for frame in frames]
        return np.array(rows, dtype=self.dtype).reshape(len(rows), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("frames in files cannot become an array without a copy")
        return np.asarray(self[:], dtype=dtype)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of the first frame and the values of consecutive frames, of bounded size."""
        size = max(1, BLOCK_BYTES // (8 * max(1, math.prod(self.shape[1:]))))
        for first in range(0, len(self), size):
            yield first, self[first : first + size]

    def _read(self, first: int, last: int) -> np.ndarray:
        found, shape = [], (last - first, *self.shape[1:])
        while first < last:
            number = bisect_right(self._ends, first)
            start = self._ends[number] - self._parts[number].frames
            end = min(last, self._ends[number])
            found.append(self._parts[number].read(first - start, end - start))
            first = end
        rows = found[0] if len(found) == 1 else np.concatenate(found) if found else np.empty(shape, self.dtype)
        return rows.reshape(shape)

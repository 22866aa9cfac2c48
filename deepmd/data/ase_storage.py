"""One system of a file that ASE reads, with the names of files: `set.000/coord.npy` (docs/input.md#files-of-ase)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.ase_frames import Frame, open_ase_file
from deepmd.data.frame_arrays import Stored
from deepmd.data.label_keys import LABELS, LabelKeys, find_source

PART = "set.000"


@dataclass(frozen=True, eq=False)
class Rows:
    """Values of one name of frames in memory; `read` returns those of a frame, flat."""

    frames: tuple[Frame, ...]
    name: str
    read: Callable[[Frame], np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Stored`."""
        return len(self.frames), self.read(self.frames[0]).size

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `Stored`."""
        return np.dtype(np.float64)

    def open(self) -> Rows:
        """See `Stored`."""
        return self

    def __getitem__(self, rows: Any) -> np.ndarray:
        width = self.shape[1]
        out = []
        for frame in self.frames if rows == () else self.frames[rows]:
            values = self.read(frame)
            if values.size != width:
                raise ValueError(f"frame {frame.number} of the file has {values.size} values, expected {width}")
            if not np.isfinite(values).all():
                raise ValueError(f"frame {frame.number} of the file holds NaN or infinity")
            out.append(values)
        return np.stack(out)


class AseStorage:
    """See `Storage`. Systems are named by their Hill formula: `FILE#H2O`.

    Frames of one system have the same atoms, maybe in another order; then their types are those of a mixed_type system.
    """

    has_records = False

    def __init__(self, file: str, system: str, keys: LabelKeys) -> None:
        self.where = f"{file}#{system}" if system else file
        self._file, self._system, self._keys = file, system, keys
        self._data = open_ase_file(file)
        self._known = ", ".join(f"{file}#{name}" for name in list(self._data.systems)[:10])
        if system and system not in self._data.systems:
            hint = nearest(system, self._data.systems)
            raise InputError(f"{self.where}: names no system of the file; it has {self._known}.{hint}")

    @property
    def numbers(self) -> np.ndarray:
        """See `Storage`."""
        return np.array([frame.number for frame in self._frames])

    def name(self, *parts: str) -> str:
        """See `Storage`."""
        return "/".join([self.where, parts[-1].rpartition(".")[0]])

    def has(self, *parts: str) -> bool:
        """See `Storage`."""
        first, name = self._frames[0], parts[-1]
        if name in ("type.raw", "type_map.raw"):
            return True
        if name == "nopbc":
            return first.cell is None
        return parts[0] == PART and self._reader(name.removesuffix(".npy")) is not None

    def words(self, name: str) -> list[str]:
        """See `Storage`."""
        from ase.data import chemical_symbols

        if name == "type_map.raw":
            return [chemical_symbols[number] for number in self._elements]
        return [str(self._elements.index(number)) for number in self._frames[0].numbers]

    def sets(self) -> list[str]:
        """See `Storage`."""
        return [PART]

    def array(self, *parts: str) -> Stored:
        """See `Storage`."""
        name = parts[-1].removesuffix(".npy")
        read = self._reader(name)
        if read is None:
            raise InputError(f"{self.name(*parts)}: missing")
        rows = Rows(self._frames, name, read)
        try:
            rows.shape  # noqa: B018  reads the first frame
        except ValueError as error:
            raise InputError(f"{self.name(*parts)}: {error}") from error
        return rows

    def systems(self, patterns: Sequence[str] | None) -> list[str]:
        """See `Storage`."""
        if patterns is not None:
            raise InputError(f"rglob_patterns: are for folders; {self.where} is a file")
        return [self.where] if self._system else [f"{self._file}#{system}" for system in self._data.systems]

    @property
    def _frames(self) -> tuple[Frame, ...]:
        if self._system:
            return self._data.systems[self._system]
        if len(self._data.systems) > 1:
            raise InputError(f"{self.where}: holds several systems; name one: {self._known}")
        return next(iter(self._data.systems.values()))

    @property
    def _elements(self) -> list[int]:
        """Atomic numbers in the order in which they appear in the system."""
        return list(dict.fromkeys(self._frames[0].numbers.tolist()))

    def _reader(self, name: str) -> Callable[[Frame], np.ndarray] | None:
        """Return the function of a frame to its values of a name, None if the frames have none."""
        first = self._frames[0]
        if name == "coord":
            return lambda frame: frame.coord.reshape(-1)
        if name == "box":
            return None if first.cell is None else lambda frame: np.asarray(frame.cell).reshape(-1)
        if name == "real_atom_types":
            if all(np.array_equal(frame.numbers, first.numbers) for frame in self._frames):
                return None
            elements = self._elements
            kinds = np.zeros(max(elements) + 1)
            kinds[elements] = range(len(elements))
            return lambda frame: kinds[frame.numbers]
        if name == "virial" and first.cell is None:
            return None
        if name in LABELS:
            source = find_source(name, self._data, self._keys, self._file)
            return None if source is None or source.name not in first.values else source.read
        return (lambda frame: frame.values[name]) if name in first.values else None

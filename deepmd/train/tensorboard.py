"""Scalars for TensorBoard: an event file, which needs no package to be written.

A file is a sequence of TFRecords (length, its checksum, content, its checksum) whose contents are protocol buffers
`Event`.
"""

from __future__ import annotations

import os
import struct
import time
from functools import lru_cache
from pathlib import Path

from deepmd.array_model.errors import InputError

POLYNOMIAL = 0x82F63B78
"""Of CRC-32C (Castagnoli), bits reversed."""


@lru_cache(maxsize=1)
def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def _checksum(data: bytes) -> bytes:
    """Return the CRC-32C of some bytes, rotated and offset as TFRecords store it."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _number(value: int) -> bytes:
    """Return a variable-length integer."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes, text or another message."""
    return _number(number << 3 | 2) + _number(len(content)) + content


def _event(step: int, content: bytes) -> bytes:
    """Return an `Event`: wall time (field 1, double), step (field 2, integer), and `content`."""
    return b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _number(step) + content


class ScalarLog:
    """An event file in a folder; each run begins a new one, and TensorBoard joins them.

    Raises
    ------
    InputError
        The folder cannot be written to.
    """

    def __init__(self, folder: str) -> None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._path = Path(folder) / f"events.out.tfevents.{time.time_ns() // 1000}.{os.getpid()}"
            self._path.write_bytes(_record(_event(0, _field(3, b"brain.Event:2"))))
        except OSError as error:
            raise InputError(f"training/tensorboard_log_dir: {folder} cannot be written: {error.strerror}") from error

    def add(self, step: int, values: dict[str, float]) -> None:
        """Append the values of one step."""
        items = (
            _field(1, _field(1, name.encode()) + b"\x15" + struct.pack("<f", value)) for name, value in values.items()
        )
        with self._path.open("ab") as file:
            file.write(_record(_event(step, _field(5, b"".join(items)))))

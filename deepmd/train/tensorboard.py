"""Scalars for TensorBoard, in event files written by the package `tensorboard`, without TensorFlow."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from deepmd.array_model.errors import InputError


class ScalarLog:
    """An event file in a folder. Each run begins a new file, and TensorBoard joins the files of a folder."""

    def __init__(self, folder: str) -> None:
        self._protocol = import_tensorboard()
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._path = Path(folder) / f"events.out.tfevents.{time.time_ns() // 1000}.{os.getpid()}"
            self._write(0, file_version="brain.Event:2")
        except OSError as error:
            raise InputError(f"training/tensorboard_log_dir: {folder} cannot be written: {error.strerror}") from error

    def add(self, step: int, values: dict[str, float]) -> None:
        """Append the values of one step."""
        _, summary, _ = self._protocol
        self._write(step, summary=summary(value=[{"tag": name, "simple_value": each} for name, each in values.items()]))

    def _write(self, step: int, **content: Any) -> None:
        """Append an event. The file is closed after each event, because a killed run must lose none."""
        event, _, writer = self._protocol
        with self._path.open("ab") as file:
            writer(file).write(event(wall_time=time.time(), step=step, **content).SerializeToString())


def import_tensorboard() -> tuple[Any, Any, Any]:
    """Return the classes `Event`, `Summary` and `RecordWriter`, whose modules do not import TensorFlow."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ModuleNotFoundError as error:
        raise InputError(
            "training/tensorboard: needs the package 'tensorboard', which is not installed: "
            "pip install 'deepmd[tensorboard]'"
        ) from error
    return Event, Summary, RecordWriter

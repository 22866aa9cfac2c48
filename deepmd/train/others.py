"""Files of another training where a new one writes: moved aside before its first checkpoint, never deleted."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from deepmd.io.atomic import is_stream, open_stream, real, write_text

log = logging.getLogger(__name__)

ENDING = r"(?:\.pt|\.index|\.meta|\.data-\d+-of-\d+)"
"""Files of checkpoints of every backend, ours and DeePMD-kit's."""


class Others:
    """The files that a training would replace and does not continue.

    Parameters
    ----------
    prefix, link : of the checkpoints, and of the links to the newest one
    best : folder of the best checkpoints
    curves : files of rows that the training writes
    continued : the checkpoint of this prefix that is continued; only those of later steps are of another training then. None: all are
    """

    def __init__(self, prefix: Path, link: Path, best: Path, curves: Sequence[str], continued: int | None) -> None:
        after = -1 if continued is None else continued
        self._prefix = prefix
        self._waiting: list[Rows] = []
        self._files = [*_numbered(prefix, after), *_numbered(best / "best.ckpt", after)]
        links = [path for path in _named(link, "") if continued is None or not path.is_symlink()]
        state = link.parent / "checkpoint"
        self._files += [*links, *([state] if continued is None and state.is_file() else [])]
        if self._files:
            self._files += [Path(curve) for curve in curves if Path(curve).is_file() and not is_stream(curve)]
            log.warning(
                "%s: checkpoints of another training are here; before the first checkpoint of this one they are moved to %s.bak-N, and until "
                "then new rows of curves go to files with .new in their names",
                prefix.parent.resolve(),
                prefix.name,
            )

    def __bool__(self) -> bool:
        return bool(self._files)

    def wait(self, rows: Rows) -> None:
        """Put a file of rows in its place when the place is free."""
        self._waiting.append(rows)

    def move(self) -> None:
        """Move the files into a new folder beside the checkpoints, once. A kill at any moment loses nothing."""
        if not self._files:
            return
        for number in itertools.count():
            folder = self._prefix.with_name(f"{self._prefix.name}.bak-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                break
        for path in self._files:
            _move(path, folder)
        log.warning("moved the checkpoints, `checkpoint` and curves of another training to %s", folder)
        self._files = []
        for rows in self._waiting:
            rows.settle()


def _move(path: Path, folder: Path) -> None:
    """Move a file; what points to a checkpoint points to the one that lies beside it then."""
    new = folder / path.name
    while new.exists() or new.is_symlink():
        new = new.with_name(f"{new.name}_")
    if re.search(rf"{ENDING}$", path.name) and path.is_symlink():
        target = path.readlink().name
        new.symlink_to(target if (folder / target).exists() else real(path))
    elif path.name == "checkpoint":
        write_text(new, re.sub(r'[^\s"]*/', "", path.read_text(encoding="utf-8", errors="replace")))
    else:
        shutil.move(real(path), new)  # of a link the file behind it, since files are written through links
        return
    path.unlink()


def _named(prefix: Path, number: str) -> list[Path]:
    pattern = re.compile(rf"{re.escape(prefix.name)}{number}{ENDING}")
    return [path for path in prefix.parent.iterdir() if pattern.fullmatch(path.name)] if prefix.parent.is_dir() else []


def _numbered(prefix: Path, after: int) -> list[Path]:
    """Return the files of checkpoints of later steps than `after`, the oldest first."""
    found = {path: int(path.name.removeprefix(f"{prefix.name}-").split(".")[0]) for path in _named(prefix, r"-\d+(?:\.t-\d+)?")}
    return sorted((path for path in found if found[path] > after), key=lambda path: (found[path], path.name))


class Rows:
    """A text file that grows row by row; while files of another training are in its place, it waits beside it.

    Parameters
    ----------
    path : where it is written; a device or a FIFO is written through
    text : how it begins
    """

    def __init__(self, path: str, text: str, others: Others) -> None:
        self._place = self._path = Path(path)
        self._stream: TextIO | None = None
        if is_stream(path):
            self._stream = open_stream(path)
            self.add(text)
            return
        if others and self._place.exists():
            self._path = self._place.with_name(f"{self._place.name}.new")
            others.wait(self)
        write_text(self._path, text)

    def add(self, text: str) -> None:
        """Append a row."""
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)

    def settle(self) -> None:
        """Move to the place."""
        self._path = self._path.replace(real(self._place))

    def close(self) -> None:
        """Close the device."""
        if self._stream is not None:
            self._stream.close()

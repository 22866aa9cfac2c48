"""Backup of files of another training (docs/input.md#files-of-another-training).

Files that a new training would replace are moved aside before its first checkpoint, and never deleted.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import shutil
from pathlib import Path
from typing import TextIO

from deepmd.array_model.errors import InputError
from deepmd.io.atomic import is_stream, open_stream, real, write_text
from deepmd.io.train_input import TrainInput
from deepmd.train.checkpoints import newest
from deepmd.train.places import curves_of, prefix_of

log = logging.getLogger(__name__)

ENDING = r"(?:\.pt|\.index|\.meta|\.data-\d+-of-\d+)"
"""Endings of the files of checkpoints of every backend, ours and DeePMD-kit's."""


class OtherTraining:
    """The files that a training would replace and does not continue.

    Parameters
    ----------
    options : the input, which names the files of the training
    restart, step : the checkpoint that is continued, if there is one. If the checkpoint lies among the files of the
        training, only later checkpoints are files of another training
    """

    def __init__(self, options: TrainInput, restart: Path | None, step: int) -> None:
        self._prefix, self._restart = prefix_of(options), restart
        link, best = Path(options.training.save_ckpt), Path(options.validating.save_best_dir or ".")
        self._waiting: list[Rows] = []
        numbered = {**_numbered(self._prefix), **_numbered(best / "best.ckpt")}
        newest_files = _named(link, "")
        links = [path for path in newest_files if path.is_symlink()]
        plain = [path for path in newest_files if not path.is_symlink()]
        state = [path for path in (link.parent / "checkpoint",) if path.is_file()]
        # own: the continued checkpoint is among the files of this training
        self._own = restart is not None and real(restart) in map(real, [*numbered, *plain])
        here = [*_numbered(self._prefix), *newest_files, *map(_pointed, state)]
        # theirs: a checkpoint here is of another training than the continued checkpoint
        self._theirs = restart is None or not {_training(path) for path in here} <= {_training(restart)}
        if self._own:
            files = [*(path for path in numbered if numbered[path] > step), *plain]
        else:
            files = [*numbered, *plain, *links, *state]
        if files:
            curves = map(Path, curves_of(options).values())
            files += [curve for curve in curves if curve.is_file() and not is_stream(curve)]
        by_place = {real(path.parent) / path.name: path for path in files}  # each file once, by any path
        self._files = list(by_place.values())
        if files:
            log.warning(
                "%s: checkpoints of another training are here; before the first checkpoint of this one they are moved "
                "to %s.bak-N, and until then new rows of curves go to files with .new in their names",
                self._prefix.parent.resolve(),
                self._prefix.name,
            )

    def __bool__(self) -> bool:
        return bool(self._files)

    def continued(self, folder: Path) -> list[Path]:
        """Return the folders where the continued training has the files that this training has in `folder`.

        These are `folder` itself or, if the continued checkpoint lies elsewhere, the folders of that checkpoint.
        """
        if self._own or self._restart is None:
            return [folder] if self._own else []
        beside = [real(self._restart).parent, self._restart.parent]
        return [each for each in beside if not self._theirs or real(each) != real(folder)]

    def rows(self, curve: str, step: int) -> tuple[list[str], list[str]]:
        """Return the comments, and the rows up to `step`, of the curve of the continued training."""
        places = [folder / Path(curve).name for folder in self.continued(Path(curve).parent)]
        path = next((path for path in places if path.is_file() and not is_stream(path)), None)
        try:
            lines = [] if path is None else path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be continued as a curve: {error}") from error
        rows = [line for line in lines if re.match(r"\s*\d+\s", line) and line.endswith("\n")]
        return [line for line in lines if line.startswith("#")], [row for row in rows if int(row.split()[0]) <= step]

    def wait(self, rows: Rows) -> None:
        """Register rows whose file moves to its place as soon as `move` has freed the place."""
        self._waiting.append(rows)

    def move(self) -> None:
        """Move the files into a new folder beside the checkpoints, once. A kill at any moment loses no file."""
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
    """Move a file. A link and a `checkpoint` file are rewritten to name the checkpoint beside them."""
    new = folder / path.name
    while new.exists() or new.is_symlink():
        new = new.with_name(f"{new.name}_")
    if re.search(rf"{ENDING}$", path.name) and path.is_symlink():
        target = path.readlink().name
        new.symlink_to(target if (folder / target).exists() else real(path))
    elif path.name == "checkpoint":
        write_text(new, re.sub(r'[^\s"]*/', "", path.read_text(encoding="utf-8", errors="replace")))
    else:
        shutil.move(real(path), new)  # the target of a link, because files are written through links
        return
    path.unlink()


def _named(prefix: Path, number: str) -> list[Path]:
    pattern = re.compile(rf"{re.escape(prefix.name)}{number}{ENDING}")
    return [path for path in prefix.parent.iterdir() if pattern.fullmatch(path.name)] if prefix.parent.is_dir() else []


def _training(path: Path) -> Path:
    """Return the prefix of the training that wrote a checkpoint."""
    return real(path).with_name(re.sub(rf"(?:-\d+(?:\.t-\d+)?)?{ENDING}$", "", real(path).name))


def _pointed(state: Path) -> Path:
    """Return the checkpoint that a `checkpoint` file names, or the file itself if there is none."""
    try:
        return newest(state.parent)
    except (InputError, OSError, ValueError):
        return state


def _numbered(prefix: Path) -> dict[Path, int]:
    """Return the files of checkpoints and their steps, the oldest first."""
    found = {
        path: int(path.name.removeprefix(f"{prefix.name}-").split(".")[0])
        for path in _named(prefix, r"-\d+(?:\.t-\d+)?")
    }
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0].name)))


class Rows:
    """Text file that grows row by row, under another name (`.new`) while a file of another training is in its place.

    Parameters
    ----------
    path : place of the file; a device or a FIFO is written through
    text : beginning of the file
    others : files of another training
    """

    def __init__(self, path: str, text: str, others: OtherTraining) -> None:
        self._place = self._path = Path(path)
        self._stream: TextIO | None = None
        if is_stream(path):
            self._stream = open_stream(path)
            self.add(text)
            return
        if others and self._place.exists():
            file = real(path)  # beside the file itself, because nothing from another file system can replace it
            self._path = file.with_name(f"{file.name}.new")
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
        """Move the file to its place."""
        self._path = self._path.replace(real(self._place))

    def close(self) -> None:
        """Close the device."""
        if self._stream is not None:
            self._stream.close()

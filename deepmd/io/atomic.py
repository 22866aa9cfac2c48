"""Writing without losing: what is read, and what is no regular file, is never replaced.

Files get their name when they are whole.
"""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from deepmd.array_model.errors import InputError

PathLike = str | os.PathLike[str]


def check_output(
    path: PathLike, name: str = "", *, reads: Iterable[PathLike] = (), text: bool = False, folder: bool = False
) -> None:
    """Find out before the work starts that its result can be written, and replaces nothing but an older result.

    Parameters
    ----------
    path : where the result goes
    name : of the option that says so, for errors
    reads : files that the work reads, models among them by any name that loads them
    text : the result is text, which may also go to a device or a FIFO
    folder : the result is a folder, which may be there

    Raises
    ------
    InputError
        The place cannot be written to, is no regular file (or folder), or is one of the files that are read.
    """
    where = f"{name}: {path}" if name else str(path)
    target = real(path)
    if text and is_stream(path):
        return
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise InputError(f"{where} cannot be written: the folder {Path(path).parent} does not exist or is not writable")
    if not target.exists():
        return
    if target.is_dir() != folder or not (folder or target.is_file()):
        found = "a folder" if target.is_dir() else "a file" if target.is_file() else "a device or FIFO"
        raise InputError(
            f"{where} cannot be written: it is {found}; accepted: {'a folder' if folder else 'a file'} or a new name"
        )
    for each in reads:
        same = _among(target, each)
        if same is not None:
            raise InputError(
                f"{where} cannot be written: it is the same file as {same}, which is read; accepted: another name"
            )


def _parts(path: PathLike) -> Iterator[PathLike]:
    """Yield the files behind a path, which may be a saved model, or prefix or index of a TensorFlow checkpoint."""
    yield path
    prefix = Path(str(path).removesuffix(".index"))
    for ending in ("index", "meta", "data-*"):
        yield from prefix.parent.glob(f"{glob.escape(prefix.name)}.{ending}") if prefix.name else ()
    if (Path(path) / "saved_model.pb").is_file():
        yield from Path(path).rglob("*")


def _among(path: Path, other: PathLike) -> PathLike | None:
    """Return which of the files behind another path this one is."""
    try:
        return next((file for file in _parts(other) if Path(file).exists() and path.samefile(file)), None)
    except (OSError, ValueError):  # it is no name
        return None


def real(path: PathLike) -> Path:
    """Return the path behind all symbolic links."""
    return Path(os.path.realpath(path))


def is_stream(path: PathLike) -> bool:
    """Tell whether text is written through: to a character device, a FIFO, or an open file (`/dev/stdout`)."""
    return _descriptor(path) is not None or Path(path).is_char_device() or Path(path).is_fifo()


def open_stream(path: PathLike) -> TextIO:
    """Open what `is_stream` for writing."""
    descriptor = _descriptor(path)
    return (
        Path(path).open("w", encoding="utf-8")
        if descriptor is None
        else os.fdopen(os.dup(descriptor), "w", encoding="utf-8")
    )


def _descriptor(path: PathLike) -> int | None:
    """Return the descriptor behind a name like `/dev/stdout`, because opening the name would truncate its file."""
    path = Path(path)
    for _ in range(40):  # more links than any system follows
        folder = real(path.parent)
        if folder == Path(f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            break
        path = folder / path.readlink()
    return None


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block succeeds and disappears when it does not.

    Symbolic links are followed.

    Raises
    ------
    InputError
        The place is no regular file, or its folder does not exist or cannot be written to.
    """
    target = real(path)
    if target.exists() and not target.is_file():
        check_output(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=f".tmp{target.suffix}")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
    """Write a text file in one step; to a device or a FIFO, write through."""
    if is_stream(path):
        with open_stream(path) as file:
            file.write(text)
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

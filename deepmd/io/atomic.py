"""Atomic writes: a file gets its name when it is complete. Files that are read, devices and folders are never replaced.

Standard library only.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from deepmd.array_model.errors import InputError

PathLike = str | os.PathLike[str]


def check_output(
    path: PathLike, name: str = "", *, reads: Iterable[PathLike] = (), text: bool = False, folder: bool = False
) -> None:
    """Check before the work starts that its result can be written, and replaces older results only.

    Parameters
    ----------
    path : place of the result
    name : option that names the path, for errors
    reads : files that the work reads; models by any name that loads them
    text : the result is text, which may also go to a device or a FIFO
    folder : the result is a folder, which may exist
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
    """Yield the files behind a path: itself, files of a TensorFlow checkpoint (by prefix or index), of a SavedModel."""
    yield path
    prefix = Path(str(path).removesuffix(".index"))
    for ending in ("index", "meta", "data-*"):
        yield from prefix.parent.glob(f"{glob.escape(prefix.name)}.{ending}") if prefix.name else ()
    if (Path(path) / "saved_model.pb").is_file():
        yield from Path(path).rglob("*")


def _among(path: Path, other: PathLike) -> PathLike | None:
    """Return the file behind `other` that is the same file as `path`, or None."""
    try:
        return next((file for file in _parts(other) if Path(file).exists() and path.samefile(file)), None)
    except (OSError, ValueError):  # `other` is no valid file name
        return None


def real(path: PathLike) -> Path:
    """Return the path with all symbolic links resolved."""
    return Path(os.path.realpath(path))


def is_stream(path: PathLike) -> bool:
    """Return whether a path is written to directly: a character device, a FIFO, or an open file (`/dev/stdout`)."""
    return _descriptor(path) is not None or Path(path).is_char_device() or Path(path).is_fifo()


def open_stream(path: PathLike) -> TextIO:
    """Open for writing a path for which `is_stream` is true."""
    descriptor = _descriptor(path)
    return (
        Path(path).open("w", encoding="utf-8")
        if descriptor is None
        else os.fdopen(os.dup(descriptor), "w", encoding="utf-8")
    )


def _descriptor(path: PathLike) -> int | None:
    """Return the descriptor of a name like `/dev/stdout`, or None. Opening the name instead would truncate its file."""
    path = Path(path)
    for _ in range(40):  # Linux follows at most 40 symbolic links
        folder = real(path.parent)
        if folder == Path(f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            break
        path = folder / path.readlink()
    return None


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `path` if the block succeeds and deleted if it fails.

    Symbolic links are followed.
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
        # mkstemp makes files private; the umask can be read only by setting it
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that replaces `path` if the block succeeds and is removed if the block fails."""
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        (temporary / "new").mkdir()
        yield temporary / "new"
        if path.exists():
            path.rename(temporary / "old")
        (temporary / "new").rename(path)
    finally:
        shutil.rmtree(temporary)


def write_text(path: PathLike, text: str) -> None:
    """Write a text file atomically; write to a device or a FIFO directly."""
    if is_stream(path):
        with open_stream(path) as file:
            file.write(text)
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

"""Checkpoints on disk: names, the links to the newest, the `checkpoint` file, retention."""

from __future__ import annotations

import os
import re
from pathlib import Path

from deepmd.adapters.contracts import checkpoint_module
from deepmd.array_model.errors import InputError
from deepmd.backends import asked_backend, default_backend
from deepmd.io.atomic import write_text
from deepmd.io.formats import FORMATS, backend_of


def announce(backend: str, prefix: Path, name: str, step: int, keep: int, link: Path) -> None:
    """Point the links and the `checkpoint` file to a complete checkpoint, then remove old checkpoints.

    Parameters
    ----------
    prefix, link : prefix of the checkpoints, and of the links to the newest checkpoint
    name : name of the checkpoint in the `checkpoint` file
    step : step of the checkpoint
    keep : how many of the newest checkpoints stay; all if less than 1
    """
    module = checkpoint_module(backend)
    folder = Path(os.path.relpath(prefix.parent, link.parent))
    for ending in module.ENDINGS:
        _link(link.with_name(f"{link.name}{ending}"), str(folder / f"{prefix.name}-{step}{ending}"))
    write_text(link.parent / "checkpoint", module.state_text(str(folder / name)))
    pattern = re.compile(rf"{re.escape(prefix.name)}-(\d+)({'|'.join(map(re.escape, module.ENDINGS))})")
    matches = filter(None, (pattern.fullmatch(path.name) for path in prefix.parent.iterdir()))
    steps = sorted(number for number in {int(match[1]) for match in matches} if number <= step)
    for number in steps[:-keep] if keep > 0 else []:
        for ending in reversed(module.ENDINGS):
            prefix.with_name(f"{prefix.name}-{number}{ending}").unlink(missing_ok=True)


def _link(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def newest(folder: str | os.PathLike[str]) -> Path:
    """Return the checkpoint that the `checkpoint` file of a folder names."""
    state = Path(folder) / "checkpoint"
    if not state.is_file():
        raise InputError(
            f"{folder}: no checkpoint here (no file named 'checkpoint'); "
            "give the folder of a training or a checkpoint itself"
        )
    text = state.read_text(encoding="utf-8").strip()
    match = re.search(r'model_checkpoint_path:\s*"([^"]+)"', text)
    name = match[1] if match else text.splitlines()[0] if text else ""
    for path in (Path(folder) / name, Path(folder) / f"{name}.index"):
        if path.is_file():
            return path
    raise InputError(f"{state}: names {name!r}, which is not there")


def find_checkpoint(prefix: str | os.PathLike[str], backend: str | None = None) -> Path | None:
    """Return the checkpoint with a prefix, if any. Of several, that of the backend asked for, or of the default one."""
    there = [path for ending in (".pt", ".index") if (path := Path(f"{prefix}{ending}")).is_file()]
    if len(there) > 1:
        chosen = asked_backend(backend) or default_backend()
        there.sort(key=lambda path: backend_of(path) != chosen)
    return there[0] if there else None


def locate(path: str | os.PathLike[str], backend: str | None = None) -> Path:
    """Return the model file that a user names by a file, the prefix of a checkpoint, or the folder of a training.

    `backend` decides between checkpoints with the same prefix (`find_checkpoint`).
    """
    path = Path(path)
    if path.is_dir():
        return path if (path / "saved_model.pb").is_file() else newest(path)
    if path.is_file():
        return path
    if checkpoint := find_checkpoint(path, backend):
        return checkpoint
    raise InputError(
        f"{path}: no such checkpoint or model file (looked for {path.name}, {path.name}.pt, {path.name}.index; "
        f"formats: {', '.join(FORMATS)})"
    )

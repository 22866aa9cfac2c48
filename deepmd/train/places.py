"""Output files of a training: names, checks before the work starts, and the command that continues the training."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from deepmd.array_model.errors import InputError
from deepmd.backends import flag
from deepmd.data.stat_file import is_hdf5
from deepmd.io.atomic import check_output, is_stream, real
from deepmd.io.train_input import TrainInput
from deepmd.train.tensorboard import import_tensorboard

log = logging.getLogger(__name__)

OUTPUT = "out.json"
"""Default file of the complete input."""

COMPATIBLE = "input_v2_compat.json"
"""File of an input of an old layout, written in the present layout."""


def prefix_of(options: TrainInput) -> Path:
    """Return the prefix of the checkpoints."""
    link, folder = Path(options.training.save_ckpt), options.training.save_dir
    return link if folder is None else Path(folder) / link.name


def curves_of(options: TrainInput) -> dict[str, str]:
    """Return {option: file} of the files that grow row by row."""
    full = {"validating/full_val_file": options.validating.full_val_file} if options.validating.full_validation else {}
    return {"training/disp_file": options.training.disp_file, **full}


def check_places(
    options: TrainInput, endings: Sequence[str], output: str, old: bool, reads: Sequence[str | os.PathLike[str]]
) -> None:
    """Check before the work starts that results can be written, and replace neither files that are read nor each other.

    Parameters
    ----------
    endings : endings of the files of a checkpoint
    output : file of the complete input
    old : whether the input has an old layout
    reads : files that the training reads
    """
    training, link = options.training, Path(options.training.save_ckpt)
    folders = {
        "training/save_ckpt": str(link.parent),
        "training/save_dir": training.save_dir,
        "validating/save_best_dir": options.validating.save_best_dir,
    }
    if training.tensorboard:
        import_tensorboard()  # a missing package is an error before the data are read
        folders["training/tensorboard_log_dir"] = training.tensorboard_log_dir
    for name, folder in folders.items():
        try:
            if folder is not None:
                Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{name}: {folder} cannot be made: {error.strerror}") from error
    texts = {"training/save_ckpt": str(link.parent / "checkpoint"), **curves_of(options), "--output": output}
    if old:
        texts["input of an old layout"] = COMPATIBLE
    taken: dict[Path, str] = {}
    for name, place in texts.items():
        check_output(place, name, reads=reads, text=True)
        if not is_stream(place) and taken.setdefault(real(place), name) != name:
            other = taken[real(place)]
            raise InputError(
                f"{name}: {place} cannot be written: it is the same file as that of {other}; accepted: another name"
            )
    prefix, best = prefix_of(options), Path(options.validating.save_best_dir or ".")
    if options.validating.full_validation and real(prefix.parent) / prefix.name == real(best) / "best.ckpt":
        raise InputError(
            f"training/save_ckpt: {prefix} is how full validation names the checkpoints of the best models; "
            "accepted: another name"
        )
    for newest in (Path(f"{link}{ending}") for ending in endings):
        if not newest.is_symlink():  # links to the newest checkpoint are replaced themselves
            check_output(newest, "training/save_ckpt")
    stat = training.stat_file
    if stat is not None and (is_hdf5(stat) or Path(stat).exists()):  # a missing folder is made with its parents
        check_output(stat, "training/stat_file", reads=reads, folder=not is_hdf5(stat))


def lock_places(options: TrainInput, locks: ExitStack) -> None:
    """Lock the checkpoints and curves against a second training, until `locks` is closed or this process ends."""
    places = {"training/save_ckpt": str(prefix_of(options)), **curves_of(options)}
    if not options.training.disp_training:
        del places["training/disp_file"]
    # a curve may have the name of the checkpoints, whose files have longer ones
    files = {real(place): (name, place) for name, place in places.items() if not is_stream(place)}
    for file, (name, place) in files.items():
        lock = FileLock(file.with_name(f".{file.name}.lock"), timeout=0)
        try:
            locks.enter_context(lock)
            locks.callback(Path(lock.lock_file).unlink, missing_ok=True)
        except Timeout as error:
            raise InputError(
                f"{name}: {place} is written by another training, which still runs; "
                "accepted: another name, another folder, or to wait for its end"
            ) from error
        except (NotImplementedError, OSError) as error:
            log.warning("%s: %s cannot be locked against a second training: %s", name, place, error)


def go_on(
    options: TrainInput, backend: str, input_path: str | os.PathLike[str], output: str, use_pretrain_script: bool
) -> str:
    """Return the command that continues the training from its newest checkpoint."""
    more = [*(["-o", output] if output != OUTPUT else []), *(["--use-pretrain-script"] if use_pretrain_script else [])]
    return shlex.join(["dp", flag(backend), "train", str(input_path), "--restart", options.training.save_ckpt, *more])

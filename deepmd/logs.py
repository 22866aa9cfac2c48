"""The log of a command or a call: lines on stderr, and in a file."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Handler that looks up `sys.stderr` for each line, because a progress bar replaces it to keep lines above."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The current `sys.stderr`."""
        return sys.stderr


@contextlib.contextmanager
def show_log(level: int = logging.INFO, path: str | None = None) -> Iterator[None]:
    """Send the log and warnings to stderr, and to a file if a path is given, while the block runs."""
    logger = logging.getLogger("deepmd")
    console = _Stderr()
    console.setFormatter(logging.Formatter("[%(asctime)s] DEEPMD %(levelname)-7s %(message)s"))
    handlers: list[logging.Handler] = [console]
    if path is not None:
        _check_log(path)
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("[%(asctime)s] DEEPMD %(levelname)-7s %(name)-45s %(message)s"))
    before = logger.level, logger.propagate
    logger.setLevel(level)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_args, **_kwargs: log.warning("%s", message)
            yield
    finally:
        logger.setLevel(before[0])
        logger.propagate = before[1]
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _check_log(path: str) -> None:
    """Refuse to append the log to a file that is no log, such as the input."""
    from deepmd.array_model.errors import InputError
    from deepmd.io.atomic import is_stream

    if Path(path).is_file() and not is_stream(path):
        with Path(path).open("rb") as file:
            if not re.match(rb"\[\d{4}-[^]]*\] DEEPMD |$", file.readline(80)):
                raise InputError(
                    f"--log-path: {path} is there and no log; accepted: an older log, "
                    "to which the new one is appended, or a new name"
                )

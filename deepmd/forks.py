"""Processes forked from one that has used a framework: its threads are not there, and are waited for forever."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

left_behind: set[str] = set()
"""Packages whose threads may have stayed in the process that this one was forked from."""

_running: set[str] = set()


def _look() -> None:
    """Note, before a fork, which packages may have threads.

    Those of TensorFlow have names. Those of torch look like any others, so that it counts if it is loaded.
    """
    _running.clear()
    if "torch" in sys.modules:
        _running.add("torch")
    if "tensorflow" in sys.modules:
        for path in Path("/proc/self/task").glob("*/comm"):
            with suppress(OSError):  # the thread has just ended
                if path.read_text().startswith("tf_"):
                    _running.add("tensorflow")


def _adapt() -> None:
    """Let torch do with one thread in a process just forked, as torch itself does in those that load its data."""
    left_behind.update(_running)
    if "torch" in left_behind:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):  # systems without it do not fork
    os.register_at_fork(before=_look, after_in_child=_adapt)

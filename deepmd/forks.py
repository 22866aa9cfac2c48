"""Fork safety: a forked process inherits the frameworks but not their threads, and would wait for them forever.

Hooks of `os.register_at_fork` fill `left_behind`, which the evaluators of the adapters read. A variable of the
environment keeps MKL from waiting, too. Standard library only.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

# MKL, in torch and some builds of NumPy, keeps buffers by thread, and a product of matrices after a fork may search
# them forever: 8 of 28 runs of tests/unit/test_forks.py, torch 2.13; with this setting 1 of 80. MKL reads the variable
# once, when it is first used. Evaluation and training take as long.
os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")

left_behind: set[str] = set()
"""Packages that may have had threads in the parent process at the fork."""

_running: set[str] = set()
"""Packages that may have threads in this process, noted before each fork."""


def _look() -> None:
    """Note, before a fork, which packages may have threads.

    Threads of TensorFlow have names that begin with `tf_`. Threads of torch have no names of their own, so torch counts
    as soon as it is loaded.
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
    """Record the packages in the child, and limit torch to one thread, as torch does in its own data workers."""
    left_behind.update(_running)
    if "torch" in left_behind:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):  # platforms without this function do not fork
    os.register_at_fork(before=_look, after_in_child=_adapt)

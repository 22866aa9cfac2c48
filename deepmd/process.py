"""Settings of the running process: memory allocator, thread counts, optional imports."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from typing import Any

from deepmd.array_model.errors import InputError


def keep_memory() -> None:
    """Let the process keep the memory of freed arrays for the next ones.

    The allocator of glibc hands large blocks back to the system at once and faults them in again, page by page, at
    every step: up to half of the time. Settings of the user (`MALLOC_...` in the environment) come first; elsewhere
    than on glibc nothing happens.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, size in ((mmap_threshold, 2**30), (trim_threshold, 2**31 - 1), (top_pad, 2**26)):
        mallopt(parameter, size)


INTRA, INTER = "DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS"
"""Variables of the environment: threads inside of an operation, operations at once."""


def threads(name: str) -> int:
    """Return the number of threads that a variable of the environment asks for, 0 if it leaves that to the framework.

    Raises
    ------
    InputError
        It is no number of threads.
    """
    given = os.environ.get(name, "").strip()
    try:
        number = int(given.split(",")[0] or "0")  # OMP_NUM_THREADS may name a number for each nested level
    except ValueError:
        number = -1
    if number < 0:
        raise InputError(
            f"{name}: a number of threads is accepted (0: the default of the framework); "
            f"in the environment it is {given!r}"
        )
    return number


def import_without(name: str, other: str) -> Any:
    """Import a package as if another one, which it can use but need not, were not installed.

    Unless that one is there already.
    """
    if name in sys.modules or other in sys.modules:
        return importlib.import_module(name)
    sys.modules[other] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[other]

"""Settings of the running process: memory allocator, threads, device, optional imports. Imports no framework."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from typing import Any

from deepmd.array_model.errors import InputError


def keep_memory() -> None:
    """Set glibc's allocator (`mallopt`) to keep the memory of freed arrays for the next arrays.

    By default glibc returns large blocks to the system at once, and every step faults them in again, page by page.
    Columns "allocator settings" of docs/benchmarks.md show the effect on DeePMD-kit. Settings of the user (`MALLOC_...`
    or `GLIBC_TUNABLES` in the environment) take precedence. No effect without glibc.
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
"""Environment variables: threads within an operation; operations at once."""


def threads(name: str) -> int:
    """Return the number of threads that an environment variable asks for; 0: the framework decides."""
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


CPU = "cpu"
"""Name of the processor as a device; the others are `cuda:N`."""


def choose_device(asked: str | None, count: int) -> str:
    """Return the device to run on: "cpu", or "cuda:N" with the number N of a CUDA device.

    Parameters
    ----------
    asked : "cpu", "cuda" or "cuda:N"; None: as the environment variable DEVICE says, or else CUDA where there is one.
        The environment variable LOCAL_RANK is the N of "cuda", by default 0
    count : number of CUDA devices that the framework sees; CUDA_VISIBLE_DEVICES limits what it sees
    """
    name = "environment variable DEVICE" if asked is None else "device"
    given = os.environ.get("DEVICE", "") if asked is None else asked
    device = str(given).strip().lower() or ("cuda" if count else CPU)
    if device == "cuda" and count:
        rank = os.environ.get("LOCAL_RANK", "").strip() or "0"
        if rank not in map(str, range(count)):
            raise InputError(
                f"environment variable LOCAL_RANK: is {rank!r}, accepted: 0 to {count - 1}, the number of a CUDA device"
            )
        return f"cuda:{rank}"
    accepted = [CPU, *(f"cuda:{number}" for number in range(count))]
    if device not in accepted:
        known = ", ".join([*accepted, "cuda"]) if count else f"{CPU}, because no CUDA device is seen"
        raise InputError(f"{name}: is {given!r}, accepted: {known}")
    return device


def import_without(name: str, other: str) -> Any:
    """Import the package `name` as if its optional dependency `other` were not installed.

    An ordinary import if either package is loaded already.
    """
    if name in sys.modules or other in sys.modules:
        return importlib.import_module(name)
    sys.modules[other] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[other]


def load_triton() -> None:
    """Load triton, if it is installed, which has to come before TensorFlow.

    TensorFlow 2.20 and later, loaded first, kill the process (SIGSEGV) when triton is loaded. Builds of torch for GPUs
    bring triton, and torch.optim loads it (`make test-cuda-build`). Where TensorFlow is loaded already it is too late.
    """
    if "tensorflow" not in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("triton")

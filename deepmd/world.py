"""Processes of a training: how many there are, which one this is, what they tell each other (docs/scaling.md).

Imports no framework. `World` is one process alone; several processes are `deepmd/adapters/torch/world.py`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from deepmd.array_model.errors import InputError

T = TypeVar("T")

MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables with the number of tasks of `mpirun` and `srun`. Batch scripts set SLURM_NTASKS for one process too."""


class PeerError(InputError):
    """Another process of a training has ended or cannot be reached."""


class World:
    """One process alone. Methods are collective: every process of a training calls them, in the same order.

    Attributes
    ----------
    rank, size : number of this process, from 0, and number of processes
    """

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the run of items that this process works on; runs differ by one item at most. Not collective."""
        first, last = (rank * len(items) // self.size for rank in (self.rank, self.rank + 1))
        return items[first:last]

    def gather(self, value: T) -> list[T]:
        """Return the value of each process, by rank."""
        return [value]

    def from_leader(self, value: T) -> T:
        """Return the value of process 0."""
        return value

    def smallest(self, value: float) -> float:
        """Return the smallest value of all processes."""
        return value

    def largest_before(self, value: int) -> int:
        """Return the largest value of the previous call, 0 at first; this call's values travel beside the next step.

        One process alone gets its value at once.
        """
        return value

    def sums(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """Return the sum over processes of each array."""
        return arrays

    def reports(self) -> bool:
        """Return whether this process reports a failure: the first that asks. Not collective."""
        return True

    def leave(self) -> None:
        """End the communication."""


ALONE = World()


def processes() -> int:
    """Return the number of processes that `torchrun` has started (its WORLD_SIZE, where RANK is set too).

    Raises
    ------
    InputError
        WORLD_SIZE is no number, or several tasks were started without `torchrun`: each would train the same model into
        the same files.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        size = os.environ["WORLD_SIZE"]
        if not size.isdecimal() or size == "0":
            raise InputError(f"WORLD_SIZE: is {size!r}, accepted: the number of processes, which torchrun sets")
        return int(size)
    for name in MPI:
        if (number := os.environ.get(name, "")).isdecimal() and int(number) > 1:
            raise InputError(
                f"{name} is {number}: {number} processes were started, and each would train the same model into the "
                "same files. Processes that train one model together are started by torchrun, once on each node: "
                "torchrun --nproc_per_node=4 --no-python dp --pt train input.json"
            )
    return 1


def restarts() -> int:
    """Return how many times `torchrun` has started the processes again, because one of them died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def restartable() -> bool:
    """Return whether `torchrun` would start the processes again (`--max-restarts`)."""
    return os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"

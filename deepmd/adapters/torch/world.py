"""Several processes of a training, by torch.distributed: NCCL between GPUs, gloo between processors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from deepmd.adapters.torch.device import choose_device
from deepmd.array_model.errors import InputError
from deepmd.world import PeerError, World, restarts

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=2)
"""Longest wait for another process that lives, for instance while it fits biases. A dead one is noticed at once."""


_trainings = itertools.count()
"""Trainings of this process, which each process counts alike."""


class TorchWorld(World):
    """The processes that `torchrun` has started (see `World`); arrays are tensors, of this process's device."""

    def __init__(self) -> None:
        device = torch.device(choose_device())
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with _peers():
            try:
                store, self.rank, self.size = next(iter(dist.rendezvous("env://")))
            except ValueError as error:  # a variable is missing or malformed
                raise InputError(f"{error}. Start the processes with torchrun, which sets them all") from error
            # torchrun keeps one store for all: addresses of processes that died and of trainings before stay in it
            self._store = dist.PrefixStore(f"restart {restarts()}, training {next(_trainings)}", store)
            dist.init_process_group(
                backend, store=self._store, rank=self.rank, world_size=self.size, timeout=LONGEST_WAIT
            )
        self._value, self._under_way = torch.tensor(0), None

    def gather(self, value: T) -> list[T]:
        """See `World`."""
        out: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(out, value)
        return out

    def from_leader(self, value: T) -> T:
        """See `World`."""
        out = [value]
        with _peers():
            dist.broadcast_object_list(out, src=0)
        return out[0]

    def smallest(self, value: float) -> float:
        """See `World`."""
        number = torch.tensor(value, dtype=torch.float64)
        with _peers():
            dist.all_reduce(number, dist.ReduceOp.MIN)
        return float(number)

    def largest_before(self, value: int) -> int:
        """See `World`."""
        with _peers():
            if self._under_way:
                self._under_way.wait()
            before, self._value = int(self._value), torch.tensor(value)
            self._under_way = dist.all_reduce(self._value, dist.ReduceOp.MAX, async_op=True)
        return before

    def sums(self, arrays: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See `World`. Arrays of one precision travel together."""
        out = list(arrays)
        for dtype in dict.fromkeys(array.dtype for array in arrays):  # no set: its order differs between processes
            chosen = [k for k, array in enumerate(arrays) if array.dtype == dtype]
            buffer = torch.cat([arrays[k].reshape(-1) for k in chosen])
            with _peers():
                dist.all_reduce(buffer)
            parts = buffer.split([arrays[k].numel() for k in chosen])
            for k, part in zip(chosen, parts, strict=True):
                out[k] = part.view(arrays[k].shape)
        return out

    def reports(self) -> bool:
        """See `World`."""
        try:
            return bool(self._store.add("failed", 1) == 1)
        except RuntimeError:  # the store died with the process that held it
            return True

    def leave(self) -> None:
        """See `World`."""
        if self._under_way:
            self._under_way.wait()
        dist.destroy_process_group()


@contextmanager
def _peers() -> Iterator[None]:
    """Say what a broken connection means."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError(
            "another process of this training has ended or cannot be reached. --restart auto goes on from the newest "
            f"checkpoint, and torchrun --max-restarts 1 does so by itself ({str(error).splitlines()[0]})"
        ) from error


def join() -> World:
    """Return the processes of this training, of which this is one."""
    return TorchWorld()

"""The device that torch runs on, and the way of an array to a device. Arrays cross once each way (`arrays.py`)."""

from __future__ import annotations

import torch

from deepmd import process

CPU = torch.device(process.CPU)


def choose_device(asked: str | None = None) -> str:
    """Return the device to run on (see `deepmd.process.choose_device`)."""
    return process.choose_device(asked, torch.cuda.device_count() if torch.cuda.is_available() else 0)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the processor on a device.

    Pinned memory is copied while the processor goes on.
    """
    if device == CPU:
        return tensor
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

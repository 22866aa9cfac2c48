"""A second torch device without hardware: the processor computes its numbers under another device's name.

On it an operation that mixes devices raises. Copies to it are counted, and so are waits: operations whose result, or
the shape of it, the processor has to know before it goes on, and copies from it. `.numpy()` raises. Autograd,
optimizers and TorchScript run. Time and memory are not shown.

The name is "meta", because torch starts no threads for that device, and accepts no new devices after its first
derivative.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

import deepmd

DEVICE = "meta"
WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "bincount", "_unique2"),
    *("unique_dim", "unique_consecutive", "repeat_interleave"),
}
"""Operations of which the processor needs a number or a shape; so does indexing with masks."""

PACKAGE = Path(deepmd.__file__).parent.as_posix()


class _OnDevice(torch.Tensor):
    """Tensor of the second device; `own` holds its numbers."""

    @staticmethod
    def __new__(cls, own):
        return torch.Tensor._make_wrapper_subclass(
            cls, own.size(), strides=own.stride(), storage_offset=own.storage_offset(), dtype=own.dtype, device=DEVICE
        )

    def __init__(self, own):
        self.own = own

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} runs outside of `second_device`")


class SecondDevice(TorchDispatchMode):
    """The device, while it is there.

    Attributes
    ----------
    waits : {function of the package: number of its waits}; "" in compiled code
    sent : number of tensors copied to the device
    """

    name = DEVICE

    def __init__(self):
        super().__init__()
        self.waits, self.sent = Counter(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.name().removeprefix("aten::").split(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        own = [isinstance(tensor, _OnDevice) for tensor in tensors]
        here = any(own)
        if kwargs.get("device") is not None:
            here = torch.device(kwargs["device"]).type == DEVICE
            kwargs = {**kwargs, "device": torch.device("cpu")}
        if name in ("_to_copy", "copy_"):
            here = own[0] if name == "copy_" else here
            self.sent += here and not own[-1]
        elif any(own) and any(
            # CUDA too accepts numbers on the processor, but not in fused kernels. What torch itself calls "meta"
            # (torch.tensor(1.0, device="meta")) has no numbers
            not each and (tensor.dim() or name.startswith("_fused") or tensor.device.type == DEVICE)
            for each, tensor in zip(own, tensors, strict=True)
        ):
            raise RuntimeError(f"{function.name()} mixes tensors of the processor and of the device")
        masks = name.startswith("index") and any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors[1:])
        if any(own) and (name in WAITING or masks or (own[-1] and not here)):
            self.waits[_caller()] += 1
        plain = tree_map_only(_OnDevice, lambda tensor: tensor.own, (args, kwargs))
        out = function(*plain[0], **plain[1])
        if not here:
            return out
        out = tree_map_only(torch.Tensor, _OnDevice, out)
        return return_and_correct_aliasing(function, args, kwargs, out)


def _caller():
    """Return the innermost function of the package on the stack."""
    frame = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_qualname if frame else ""


@contextmanager
def second_device():
    """The second device, which `torch.device(DEVICE)` names."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) makes its numbers on the processor first
    fused = optimizer._get_fused_kernels_supported_devices
    optimizer._get_fused_kernels_supported_devices = lambda: [*fused(), DEVICE]
    try:
        with SecondDevice() as device:
            yield device
    finally:
        optimizer._get_fused_kernels_supported_devices = fused
        torch._C._set_only_lift_cpu_tensors(False)

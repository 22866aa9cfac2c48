"""Losses, one module each: pure functions over the array API, by the rules of `array_model`. No framework.

Formulas: docs/input.md#loss. Base classes: `base.py`. The loop of the training is in `deepmd/train/`.
"""

from deepmd.losses.base import Label, Loss, Target, TermErrors, mean, total
from deepmd.losses.dos import DosLoss
from deepmd.losses.ener import TERMS, EnerLoss, huber
from deepmd.losses.property import PropertyLoss
from deepmd.losses.tensor import TensorLoss

LOSSES: dict[str, type[Loss]] = {cls.kind: cls for cls in (EnerLoss, TensorLoss, DosLoss, PropertyLoss)}
"""Losses by the `type` of the input."""

__all__ = [
    "LOSSES",
    "TERMS",
    "DosLoss",
    "EnerLoss",
    "Label",
    "Loss",
    "PropertyLoss",
    "Target",
    "TensorLoss",
    "TermErrors",
    "huber",
    "mean",
    "total",
]

"""Deep Potential models: train, freeze, convert and run them on NumPy, torch and TensorFlow.

Python: `DeepPot` (infer/deep_pot.py), `train` (api.py). Command line: `dp` (cli.py).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from deepmd import forks
from deepmd.version import __version__

if TYPE_CHECKING:
    from deepmd.api import train
    from deepmd.infer import DeepPot

assert forks  # imported first, because its fork hooks see later forks only

__all__ = ["DeepPot", "__version__", "train"]


def __getattr__(name: str) -> Any:
    """Import `DeepPot` and `train` on first access, because `import deepmd` must stay cheap: no NumPy, no framework."""
    if name == "DeepPot":
        from deepmd.infer import DeepPot

        return DeepPot
    if name == "train":
        return importlib.import_module("deepmd.train")  # a module that can be called
    raise AttributeError(f"module 'deepmd' has no attribute {name!r}")

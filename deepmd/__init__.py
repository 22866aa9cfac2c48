"""Deep Potential models: train, freeze, convert and run them on NumPy, torch and TensorFlow.

Python: `DeepPot` (infer/deep_pot.py), `train` (api.py). Command line: `dp` (cli.py).
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from deepmd import forks
from deepmd.mixed import WHAT_TO_DO, find_kit_folders
from deepmd.version import __version__

if TYPE_CHECKING:
    from deepmd.api import train
    from deepmd.infer import DeepPot

assert forks  # imported first, because its fork hooks see later forks only

if _foreign := find_kit_folders(__path__[0]):
    warnings.warn(
        f"{__path__[0]} holds files of DeePMD-kit ({', '.join(_foreign)}), whose package has the same name: both are "
        f"broken. {WHAT_TO_DO}",
        stacklevel=2,
    )

__all__ = ["DeepPot", "__version__", "train"]


def __getattr__(name: str) -> Any:
    """Import `DeepPot` and `train` on first access, because `import deepmd` must stay cheap: no NumPy, no framework."""
    if name == "DeepPot":
        from deepmd.infer import DeepPot

        return DeepPot
    if name == "train":
        return importlib.import_module("deepmd.train")  # a module that can be called
    raise AttributeError(f"module 'deepmd' has no attribute {name!r}")

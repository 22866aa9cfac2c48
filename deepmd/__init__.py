"""Deep Potential models: train, freeze, convert and run them on NumPy, torch and TensorFlow.

Python: `DeepPot` (infer/deep_pot.py). Command line: `dp` (cli.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepmd import forks
from deepmd.version import __version__

if TYPE_CHECKING:
    from deepmd.infer import DeepPot

assert forks  # imported first, because its fork hooks see later forks only

__all__ = ["DeepPot", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `DeepPot` on first access, because `import deepmd` must stay cheap: no NumPy, no framework."""
    if name == "DeepPot":
        from deepmd.infer import DeepPot

        return DeepPot
    raise AttributeError(f"module 'deepmd' has no attribute {name!r}")

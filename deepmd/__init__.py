"""Deep Potential models: train, freeze, convert and run them on NumPy, torch and TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepmd import forks
from deepmd.version import __version__

if TYPE_CHECKING:
    from deepmd.infer import DeepPot

assert forks  # imported for its registrations: it has to see every process that is forked from now on

__all__ = ["DeepPot", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `DeepPot` when it is asked for: `import deepmd` itself loads nothing heavy."""
    if name == "DeepPot":
        from deepmd.infer import DeepPot

        return DeepPot
    raise AttributeError(f"module 'deepmd' has no attribute {name!r}")

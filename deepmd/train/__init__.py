"""Training. Called, this module trains: `deepmd.train(data=..., steps=...)` is the function of `deepmd/api.py`.

The folder holds the training loop, once for every backend, and `dp init`. The name belongs to users first: the module
can be called, so that `deepmd.train` is a function for them and `deepmd.train.main` stays a module.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class _Train(ModuleType):
    """A module that is called as `deepmd.api.train`, which is imported then."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train a model from an input, or from data alone: help(deepmd.api.train)."""
        from deepmd.api import train

        return train(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """Arguments, for help and completion."""
        from deepmd.api import train

        return inspect.signature(train)


sys.modules[__name__].__class__ = _Train

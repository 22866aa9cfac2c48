"""Lazy imports from `deepmd.kit`, by name: the only place outside of `deepmd.kit` that imports from it."""

from __future__ import annotations

import importlib
from typing import Any

KIT = {
    "model_to_dict": "deepmd.kit.layouts",
    "model_from_dict": "deepmd.kit.layouts",
    "upgrade_old_input": "deepmd.kit.old_input",
    "read_pth": "deepmd.kit.torch_modules",
    "read_pt": "deepmd.kit.torch_modules",
    "is_foreign": "deepmd.kit.tf_graph",
    "is_parameter": "deepmd.kit.tf_graph",
    "read_graph": "deepmd.kit.tf_graph",
}


def from_kit(name: str) -> Any:
    """Return a function of `deepmd.kit`, by a name in `KIT`."""
    return getattr(importlib.import_module(KIT[name]), name)

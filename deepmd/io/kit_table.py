"""Functions of `deepmd.kit` by name, imported when used: no module outside of `deepmd.kit` imports it otherwise."""

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
    """Return a function of `deepmd.kit`."""
    return getattr(importlib.import_module(KIT[name]), name)

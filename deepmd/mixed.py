"""DeePMD-kit in the same folder: its package is called `deepmd` too, and each overwrites files of the other.

Cheap, because the first import asks. Standard library only.
"""

from __future__ import annotations

import os

KIT_FOLDERS = ("dpmodel", "entrypoints", "pt", "tf")
"""Folders of DeePMD-kit that this package does not have."""

WHAT_TO_DO = (
    "pip uninstall deepmd-kit, then pip install --force-reinstall --no-deps deepmd; "
    "DeePMD-kit and what requires it go to an environment of their own (docs/interop.md)"
)


def find_kit_folders(folder: str) -> list[str]:
    """Return the folders of DeePMD-kit below the folder of this package."""
    return [name for name in KIT_FOLDERS if os.path.isdir(os.path.join(folder, name))]  # noqa: PTH112, PTH118

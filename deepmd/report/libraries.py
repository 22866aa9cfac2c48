"""Optional libraries of the pictures, and what all pictures share: colours, figures without a window."""

from __future__ import annotations

import importlib
import os
from typing import Any

from deepmd.array_model.errors import InputError
from deepmd.io.atomic import check_output, replacing

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#666666")
"""Okabe and Ito's palette, told apart by colour-blind readers, in an order for white paper."""

FORMATS = (".png", ".pdf", ".svg")


def optional(name: str, extra: str) -> Any:
    """Import a package of the extra, or raise InputError with the line that installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise
        raise InputError(f"{package} is not installed, and pictures need it: pip install 'deepmd[{extra}]'") from error


def check_picture(path: str | os.PathLike[str], *reads: str | os.PathLike[str]) -> None:
    """Check before the work starts that a picture can be drawn and written."""
    if not str(path).lower().endswith(FORMATS):
        raise InputError(f"{path}: is no name of a picture; accepted: names that end with {', '.join(FORMATS)}")
    check_output(path, reads=reads)
    optional("matplotlib", "plot")


def new_figure(width: float, height: float) -> Any:
    """Return a figure of this size in inches that opens no window and leaves matplotlib's global state alone."""
    optional("matplotlib", "plot")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the suffix, 130 dots an inch."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def tidy(axis: Any) -> None:
    """Draw a light grid and no frame above and on the right."""
    axis.grid(alpha=0.25, lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)

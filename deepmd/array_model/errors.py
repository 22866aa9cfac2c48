"""The one exception for what a user gave us and we cannot use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used. The message says what is wrong, where, what was given and what is accepted."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean ...?' for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""

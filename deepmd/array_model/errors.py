"""InputError, the exception of the package for unusable input, and the suggestion of a close name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Unusable input. The message says what is wrong, where, what was given and what is accepted."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean ...?' for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""

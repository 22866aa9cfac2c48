"""Named kinds of descriptors, fitting nets and models; plug-ins register through the entry point `deepmd.plugins`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any

from deepmd.array_model.errors import InputError, nearest
from deepmd.unsupported import KINDS

_KINDS: dict[str, dict[str, type]] = {"descriptor": {}, "fitting_net": {}, "model": {}}
_ALIASES: dict[tuple[str, str], str] = {}


def register(kind: str, name: str, aliases: tuple[str, ...] = ()) -> Callable[[type], type]:
    """Return a class decorator that makes a config class known under `name` and its aliases."""

    def keep(cls: type) -> type:
        _KINDS[kind][name] = cls
        cls.kind = name  # type: ignore[attr-defined]
        _ALIASES.update({(kind, alias): name for alias in aliases})
        return cls

    return keep


def canonical(kind: str, name: Any, where: str) -> str:
    """Return the registered name behind `name`; `where` is the path in the input that an error names.

    Raises
    ------
    InputError
        The name is unknown.
    """
    _load_plugins()
    key = _ALIASES.get((kind, name), name) if isinstance(name, str) else str(name)
    if key not in _KINDS[kind]:
        if key in KINDS.get(kind, ()):
            raise InputError(
                f"{where}: type {name!r} is known, but not supported yet. Supported: {', '.join(sorted(_KINDS[kind]))}"
            )
        known = sorted([*_KINDS[kind], *(alias for k, alias in _ALIASES if k == kind)])
        raise InputError(f"{where}: unknown type {name!r}. Known: {', '.join(known)}.{nearest(str(name), known)}")
    return key


def lookup(kind: str, name: Any, where: str) -> Any:
    """Return the config class registered under `name` (see `canonical`)."""
    return _KINDS[kind][canonical(kind, name, where)]


def registered(kind: str) -> dict[str, type]:
    """Return the config classes of a kind by their names."""
    _load_plugins()
    return dict(sorted(_KINDS[kind].items()))


@cache
def _load_plugins() -> None:
    for entry in metadata.entry_points(group="deepmd.plugins"):
        entry.load()

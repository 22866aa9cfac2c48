"""Table of the backends: names, framework, extra. Imports no framework and no NumPy, because `dp -h` reads it."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from deepmd.array_model.errors import InputError


class Backend(NamedTuple):
    """A backend.

    Attributes
    ----------
    names : accepted names; the first one names its folder in `deepmd/adapters`
    package, extra : its framework, and the extra that installs the framework; "" if it has none
    trains : whether it has a trainer
    """

    names: tuple[str, ...]
    package: str = ""
    extra: str = ""
    trains: bool = False


BACKENDS = {
    backend.names[0]: backend
    for backend in (
        Backend(("numpy", "np", "dp", "dpmodel")),
        Backend(("torch", "pt", "pytorch"), "torch", "torch", trains=True),
        Backend(("tf", "tensorflow"), "tensorflow", "tf", trains=True),
    )
}


def backend_name(name: str) -> str:
    """Return the canonical name of a backend."""
    for canonical, backend in BACKENDS.items():
        if name.lower() in backend.names:
            return canonical
    known = ", ".join(each for backend in BACKENDS.values() for each in backend.names)
    raise InputError(f"unknown backend {name!r}. Known: {known}")


def framework(module: str, backend: str) -> Any:
    """Import a module of an adapter; raise InputError with installation advice if the framework is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        _, package, extra, _ = BACKENDS[backend]
        if error.name is None or error.name.split(".")[0] != package:
            raise
        raise InputError(
            f"the {backend} backend needs the package {package!r}, which is not installed: "
            f"pip install 'deepmd[{extra}]'"
        ) from error

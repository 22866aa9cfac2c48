"""Table of the backends: names, framework, extra; and which of them `dp` means. Imports no framework and no NumPy.

`dp -h` reads the table. Frameworks are looked for in the file system, because importing one takes seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from deepmd.array_model.errors import InputError


class Backend(NamedTuple):
    """A backend.

    Attributes
    ----------
    names : accepted names; the first one names its folder in `deepmd/adapters`
    package, extra : its framework, and the extra that installs the framework; "" if it has none
    trains : whether it has a trainer
    frozen : suffix of its model files, for those that are named without one
    """

    names: tuple[str, ...]
    package: str = ""
    extra: str = ""
    trains: bool = False
    frozen: str = ".dp"


BACKENDS = {
    backend.names[0]: backend
    for backend in (
        Backend(("numpy", "np", "dp", "dpmodel")),
        Backend(("torch", "pt", "pytorch"), "torch", "torch", trains=True, frozen=".pth"),
        Backend(("tf", "tensorflow"), "tensorflow", "tf", trains=True, frozen=".pb"),
    )
}

PREFERRED = ("tf", "torch")
"""Backends of `dp` without a backend: the first that is installed. DeePMD-kit's is TensorFlow."""


def backend_name(name: str) -> str:
    """Return the canonical name of a backend."""
    for canonical, backend in BACKENDS.items():
        if name.lower() in backend.names:
            return canonical
    known = ", ".join(each for backend in BACKENDS.values() for each in backend.names)
    raise InputError(f"unknown backend {name!r}. Known: {known}")


def asked_backend(name: str | None) -> str | None:
    """Return the backend that an argument or, if it is None, DP_BACKEND names; None if neither does."""
    name = name or os.environ.get("DP_BACKEND")
    return backend_name(name) if name else None


def default_backend(of_file: str | None = None) -> str:
    """Return the backend to use if none is asked for (`asked_backend`).

    Parameters
    ----------
    of_file : backend of the file that is read, which is followed if it trains
    """
    if of_file is not None and BACKENDS[of_file].trains:
        return of_file
    for name in PREFERRED:
        if package_folder(BACKENDS[name].package):
            return name
    raise InputError(
        "no backend that trains is installed: pip install 'deepmd[tf]' (TensorFlow) or pip install 'deepmd[torch]'"
    )


def package_folder(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def sees_gpu(name: str) -> bool:
    """Tell from files alone whether a backend would run on an NVIDIA GPU.

    Seen: the device files of the driver, whether the package is built for CUDA, and for TensorFlow the CUDA runtime,
    which not every installation brings. Not seen: GPUs without a device file (WSL), drivers that are too old for the
    package, incomplete CUDA libraries, CUDA devices of other makers.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    folder = package_folder(BACKENDS[name].package)
    if hidden or folder is None or not list(DEVICES.glob("nvidia[0-9]*")):
        return False
    if name == "torch":
        return bool(re.search(r"^cuda\b.*=\s*['\"]", _text(folder / "version.py"), re.MULTILINE))
    version = re.search(r"'cuda_version', '(\d+)", _text(folder / "python/platform/build_info.py"))
    return version is not None and _has_library(folder.parent, f"libcudart.so.{version[1]}")


DEVICES = Path("/dev")
"""Folder of the device files."""


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _has_library(packages: Path, name: str) -> bool:
    """Return whether a CUDA library is installed as a package, or found by the dynamic loader."""
    if list(packages.glob(f"nvidia/*/lib/{name}")):
        return True
    with contextlib.suppress(OSError):
        ctypes.CDLL(name)
        return True
    return False


def flag(name: str) -> str:
    """Return the option of `dp` that chooses a backend."""
    return f"--{min(BACKENDS[name].names, key=len)}"


def tell_choice(name: str, by_default: bool) -> str:
    """Return a line of the log: the backend and how to choose another.

    If nobody has chosen (`by_default`), also whether only another backend sees a GPU.
    """
    text = f"{name} backend; --pt, --tf, -b NAME or DP_BACKEND choose"
    others = [other for other in PREFERRED if other != name and by_default and sees_gpu(other)]
    if others and not sees_gpu(name):
        text += f". Of the installed backends only {others[0]} sees the GPU of this machine: dp {flag(others[0])}"
    return text


def framework(module: str, backend: str) -> Any:
    """Import a module of an adapter; raise InputError with advice if its framework is missing or cannot be loaded."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, extra = BACKENDS[backend].package, BACKENDS[backend].extra
        if not package or sys.modules.get(package):  # the framework itself is right
            raise
        if package_folder(package) is None:
            advice = f"is not installed: pip install 'deepmd[{extra}]'"
        else:
            others = " or ".join(flag(name) for name in PREFERRED if name != backend)
            advice = f"is installed and cannot be loaded: {error}. Another backend: dp {others}"
        raise InputError(f"the {backend} backend needs the package {package!r}, which {advice}") from error

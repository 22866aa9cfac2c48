"""Safe reader of torch's `.pt` and `.pth` archives: a restricted unpickler that runs nothing of a file. Needs no torch.

A pickle may call any function, and TorchScript has code that runs when it is loaded. Neither is needed: parameters and
options are plain values under the names of the attributes of modules. Names in DeePMD-kit's files:
kit/torch_modules.py.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.io.bounded import check_tree

CLASS = "__class__"
"""Key under which `attributes` returns the class of a module."""


class Module(dict):  # type: ignore[type-arg]
    """Stand-in for a stored object of TorchScript: its attributes."""

    name = ""
    """Class of the object, without the package."""


def read_archive(path: Path) -> Any:
    """Return the contents of an archive: plain values, arrays, and a `Module` for each object of TorchScript.

    Raises
    ------
    InputError
        The file is no archive, is damaged, or asks for anything but values. Memory is bounded by the size of the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path.stat().st_size)
            top = next(name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
            tree = _Unpickler(archive, top).load()
    except (zipfile.BadZipFile, StopIteration) as error:
        raise InputError(f"{path}: not an archive of torch, or cut short") from error
    except Exception as error:  # damaged bytes raise nearly anything in an unpickler
        raise InputError(
            f"{path}: not readable, damaged or no model: {str(error)[:200] or type(error).__name__}"
        ) from error
    check_tree(tree, path)
    return tree


def attributes(module: Module) -> dict[str, Any]:
    """Return all attributes that are no modules, and the class of each module, by names as `model.layers.0.matrix`."""
    out, left = {}, [("", module)]
    while left:
        prefix, inner = left.pop()
        out[f"{prefix}{CLASS}"] = inner.name
        for name, value in inner.items():
            if isinstance(value, Module):
                left.append((f"{prefix}{name}.", value))
            else:
                out[f"{prefix}{name}"] = value
    return out


def _check(archive: zipfile.ZipFile, size: int) -> None:
    """Raise if members of the archive overlap (zip bomb): their sizes then sum to more than the file."""
    if sum(member.file_size for member in archive.infolist() if member.compress_type == zipfile.ZIP_STORED) > size:
        raise pickle.UnpicklingError("its members overlap")


def _bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:  # torch compresses code only
        raise pickle.UnpicklingError(f"{name} is compressed")
    return archive.read(name)


class _Function:
    """Callable stand-in for a function that a pickle may call."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def _array(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """Return a view of a storage with sizes and strides in elements: torch's `_rebuild_tensor_v2`."""
    if math.prod(size) > storage.size:
        raise pickle.UnpicklingError(f"an array of sizes {size} claims more than is stored")
    width = storage.itemsize  # NumPy refuses strides that lead out of the storage
    return np.ndarray(size, storage.dtype, storage, offset * width, [step * width for step in stride])


FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _array,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch", "Size"): tuple,
    ("torch.jit._pickle", "restore_type_tag"): lambda value, *_: value,
    **{
        ("torch.jit._pickle", f"build_{kind}list"): lambda values, *_: values
        for kind in ("int", "double", "bool", "tensor")
    },
}
"""All functions that a pickle may call."""

BFLOAT16 = "BFloat16Storage"
STORAGES = {
    **{"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", BFLOAT16: "uint16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool"},
}
"""NumPy dtype of each torch storage; bfloat16, which NumPy lacks, is read as uint16 and becomes float32."""


class _Unpickler(pickle._Unpickler):
    """Unpickler that calls `FUNCTIONS` only and gives a state to modules only.

    Python's own implementation, because its memory follows the data and its opcodes can be replaced.
    """

    def __init__(self, archive: zipfile.ZipFile, top: str) -> None:
        super().__init__(io.BytesIO(_bytes(archive, f"{top}/data.pkl")))
        self._archive, self._top = archive, top
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a global name; raise for a name that no model needs."""
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Stored", (Module,), {"name": name})
        if module == "torch" and name in STORAGES:
            return name
        if (module, name) not in FUNCTIONS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no model needs")
        return _Function(FUNCTIONS[module, name])

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Return a storage as a flat array."""
        _, kind, key, _, numel = pid
        if key not in self._storages:
            data, dtype = bytearray(_bytes(self._archive, f"{self._top}/data/{key}")), np.dtype(STORAGES[kind])
            if not 0 <= numel * dtype.itemsize <= len(data):
                raise pickle.UnpicklingError(f"array {key} is cut short")
            array = np.ndarray((numel,), dtype, data)
            if kind == BFLOAT16:  # bfloat16 is the upper half of a float32
                array = (array.astype(np.uint32) << 16).view(np.float32)
            self._storages[key] = array
        return self._storages[key]

    def _state(self) -> None:
        """Opcode BUILD: set the attributes of a module."""
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(target, Module):
            target.update(state)
        elif not isinstance(target, OrderedDict):  # an OrderedDict's state is versions of modules, unused
            raise pickle.UnpicklingError("it gives a state to something else than a module")

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _state}  # type: ignore[dict-item]

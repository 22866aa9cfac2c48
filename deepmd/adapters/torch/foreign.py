"""`.pth` and `.pt` files of DeePMD-kit: arrays and options by the names of its modules.

Its `.pth` calls operators of a library of its own, without which torch cannot load it; `archive.py` reads it all the same. Another kind of
descriptor or fitting net is another row of `DESCRIPTORS` or `FITTINGS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from deepmd.adapters.torch.archive import CLASS
from deepmd.adapters.torch.arrays import to_numpy
from deepmd.array_model.errors import InputError
from deepmd.array_model.registry import canonical, lookup
from deepmd.io.bounded import check_arrays
from deepmd.io.foreign import COMPRESSED, Found, Section, assemble, kind_of, parse_definition
from deepmd.io.model_file import ModelFile


def nets(attribute: str, path: str) -> dict[str, str]:
    """Return the rows of a collection of nets for `Names.arrays`."""
    leaves = {"matrix": "w", "bias": "b", "idt": "idt"}
    return {rf"{attribute}\._?networks\.(\d+)\.layers\.(\d+)\.{theirs}": rf"{path}/\1/layers/\2/{ours}" for theirs, ours in leaves.items()}


@dataclass(frozen=True)
class Names:
    """What the modules of a kind of descriptor or fitting net are called.

    Attributes
    ----------
    kind : what an input calls it
    block : attribute that has the options and the arrays, with a dot behind it, or "" for the module itself
    arrays : regular expression of a name below it: our path below the part, with the groups of the expression
    """

    kind: str
    block: str
    arrays: Mapping[str, str]


DESCRIPTORS = {
    # class: its names
    "DescrptSeA": Names("se_e2_a", "sea.", {**nets("filter_layers", "embeddings"), "mean": "davg", "stddev": "dstd"}),
}

STATISTICS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
FITTING_ARRAYS = {**nets("filter_layers", "nets"), **{name: name for name in ("bias_atom_e", *STATISTICS)}}
FITTINGS = {
    "EnergyFittingNet": Names("ener", "", FITTING_ARRAYS),
    "DipoleFittingNet": Names("dipole", "", FITTING_ARRAYS),
    "PolarFittingNet": Names("polar", "", {**FITTING_ARRAYS, **{name: name for name in ("scale", "constant_matrix")}}),
    "DOSFittingNet": Names("dos", "", FITTING_ARRAYS),
    "PropertyFittingNet": Names("property", "", FITTING_ARRAYS),
}

PARTS = {
    # section of `model`: (module, its kinds, where we keep its parameters)
    "descriptor": ("atomic_model.descriptor.", DESCRIPTORS, "descriptor"),
    "fitting_net": ("atomic_model.fitting_net.", FITTINGS, "fitting"),
}

TRAINING = {"seed", "trainable", "rcond"}
"""Options that are of no account after training; modules keep something else under these names."""


def read_pth(values: Mapping[str, Any], path: Path) -> ModelFile:
    """Read a frozen model of DeePMD-kit.

    Parameters
    ----------
    values : attributes of its modules, by name (see `archive.attributes`)

    Raises
    ------
    InputError
        It is no model of DeePMD-kit, holds another kind of model, or is compressed and lacks its networks.
    """
    if f"atomic_model.{CLASS}" not in values:
        raise InputError(f"{path}: TorchScript, but not a model of this program or of DeePMD-kit: it has neither 'definition' nor 'atomic_model'")
    return _read(values, parse_definition(values.get("model_def_script"), str(path)), path)


def read_pt(tree: Any, path: Path) -> ModelFile:
    """Read a training checkpoint of DeePMD-kit.

    Raises
    ------
    InputError
        It is no checkpoint of DeePMD-kit, one of several models, or of another kind of model.
    """
    state = tree.get("model", tree) if isinstance(tree, dict) else None
    extra = state.get("_extra_state") if isinstance(state, dict) else None
    definition = extra.get("model_params") if isinstance(extra, dict) else None
    if not isinstance(state, dict) or not isinstance(definition, dict):
        raise InputError(f"{path}: not a checkpoint of this program or of DeePMD-kit: it does not describe its model")
    if "model_dict" in definition:
        heads = ", ".join(map(str, definition["model_dict"]))
        raise InputError(f"{path}: a checkpoint of several models ({heads}), which is not supported. Freeze one with DeePMD-kit's --head first")
    return _read({str(name).removeprefix("model.Default."): value for name, value in state.items()}, definition, path)


def _read(values: Mapping[str, Any], definition: Section, path: Path) -> ModelFile:
    section: Section = {
        name: values[f"atomic_model.{name}"]
        for name in ("type_map", "pair_exclude_types", "atom_exclude_types")
        if values.get(f"atomic_model.{name}") is not None
    }
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    found = {"out_bias": tensors["atomic_model.out_bias"]} if "atomic_model.out_bias" in tensors else {}
    for part, (module, _, place) in PARTS.items():
        cls = values.get(f"{module}{CLASS}")
        names = _names(part, cls, definition, path)
        if names is None:  # assembling refuses it by the name that the definition gives it
            section[part] = {} if definition.get(part) else {"type": str(cls)}
            continue
        prefix = f"{module}{names.block}"
        known = {field.name for field in fields(lookup(part, names.kind, part))} - TRAINING
        section[part] = {name: values[prefix + name] for name in known if values.get(prefix + name) is not None} | {"type": names.kind}
        if part == "fitting_net" and names.kind != "ener" and "atomic_model.out_std" in tensors:  # energies are never scaled
            found["out_std"] = tensors["atomic_model.out_std"]
        for name, tensor in tensors.items():
            if name.startswith(prefix) and (ours := _path_of(name.removeprefix(prefix), names)):
                found[f"{place}/{ours}"] = tensor
    if any(".compress_data." in name and tensor.numel() for name, tensor in tensors.items()) and not any("/embeddings/" in name for name in found):
        raise InputError(f"{path}: {COMPRESSED}")
    check_arrays((tensor.numel() * tensor.element_size() for tensor in found.values()), path)
    distance = tensors.get("min_nbor_dist")
    known_distance = distance is not None and distance.numel() == 1 and 0.0 < float(distance) < math.inf
    arrays = {name: to_numpy(tensor) for name, tensor in found.items()}
    return assemble(definition, Found(section, arrays, float(distance) if known_distance else None), str(path))  # type: ignore[arg-type]


def _names(part: str, cls: Any, definition: Section, path: Path) -> Names | None:
    """Return the names of a part: by its class, which checkpoints do not store, or by what the definition says."""
    kinds = PARTS[part][1]
    if cls is not None:
        return kinds.get(str(cls))
    kind = canonical(part, kind_of(part, definition), f"{path}: model/{part}/type")
    return {names.kind: names for names in kinds.values()}.get(kind)


def _path_of(name: str, names: Names) -> str | None:
    for pattern, path in names.arrays.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(path)
    return None

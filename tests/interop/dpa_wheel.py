"""Run by DeePMD-kit's Python: build models from sections, change every parameter, store each in DeePMD-kit's files,
with what it gives for two structures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CHARGE_SPIN = {"pbc": np.array([-2.0, 3.0]), "nopbc": np.array([1.9, 0.0])}
"""Digits behind the point are dropped."""


def changed(tree, rng):
    """The tree with random weights and statistics; statistics are the same in all slots of a type."""
    if isinstance(tree, dict):
        out = {}
        for key, value in tree.items():
            if key == "davg" and isinstance(value, np.ndarray):
                out[key] = np.zeros_like(value) + rng.normal(0.0, 0.1, (len(value), 1, 4))
            elif key == "dstd" and isinstance(value, np.ndarray):
                out[key] = np.zeros_like(value) + rng.uniform(0.2, 0.5, (len(value), 1, 4))
            elif key == "out_std":
                out[key] = value
            else:
                out[key] = changed(value, rng)
        return out
    if isinstance(tree, list) and not all(isinstance(item, (int, float, str)) for item in tree):
        return [changed(item, rng) for item in tree]
    if isinstance(tree, np.ndarray) and tree.dtype.kind == "f":
        return (tree + rng.normal(0.0, 0.3, tree.shape)).astype(tree.dtype)
    return tree


def evaluate(model, coord, types, cell, charge_spin=None):
    """What the model gives for one structure, with charge and spin (2,) if it wants them."""
    import torch

    natoms, kept = len(types), []
    hook = model.atomic_model.descriptor.register_forward_hook(lambda module, inputs, outputs: kept.append(outputs[0]))
    given = (
        torch.tensor(coord[None]),
        torch.tensor(types[None]),
        None if cell is None else torch.tensor(cell.reshape(1, 9)),
    )
    found = model(
        *given, do_atomic_virial=True, charge_spin=None if charge_spin is None else torch.tensor(charge_spin[None])
    )
    hook.remove()
    shapes = {
        "energy": (1,),
        "atom_energy": (natoms,),
        "force": (natoms, 3),
        "virial": (1, 9),
        "atom_virial": (natoms, 9),
    }
    out = {name: found[name].detach().numpy().reshape(shape) for name, shape in shapes.items()}
    return {**out, "descriptor": kept[0].detach().numpy().reshape(natoms, -1)}


def save_torch(model, section, folder):
    """Write a checkpoint and a frozen model with and without the section, if torch can compile the model."""
    import torch
    from deepmd.pt.train.wrapper import ModelWrapper

    torch.save({"model": ModelWrapper(model, model_params=section).state_dict(), "optimizer": {}}, folder / "model.pt")
    model.model_def_script = json.dumps(section)
    try:
        compiled = torch.jit.script(model)
    except RuntimeError as error:
        (folder / "not_frozen.txt").write_text(str(error))
        return
    torch.jit.save(compiled, folder / "frozen.pth")
    compiled.model_def_script = "{}"
    torch.jit.save(compiled, folder / "undefined.pth")


def main():
    from deepmd.dpmodel.model.model import get_model
    from deepmd.dpmodel.utils.serialization import save_dp_model
    from deepmd.pt.model.model import BaseModel

    structures = dict(np.load("structures.npz"))
    for number, (name, section) in enumerate(json.loads(Path("sections.json").read_text()).items()):
        tree = changed(get_model(section).serialize(), np.random.default_rng(number))
        model = BaseModel.deserialize(tree).eval()
        out = {}
        for boundary in ("pbc", "nopbc"):
            coord, types = structures[f"{boundary}/coord"], structures[f"{boundary}/type"] % len(section["type_map"])
            cell = structures.get(f"{boundary}/cell")
            given = {"coord": coord, "type": types, **({} if cell is None else {"cell": cell})}
            more = {"charge_spin": CHARGE_SPIN[boundary]} if model.get_dim_chg_spin() else {}
            results = evaluate(model, coord, types, cell, **more)
            out.update({f"{boundary}/{key}": value for key, value in {**given, **more, **results}.items()})
        folder = Path(name)
        folder.mkdir(exist_ok=True)
        np.savez_compressed(folder / "expected.npz", **out)
        save_dp_model(str(folder / "model.dp"), {"model": tree, "model_def_script": section, "backend": "dpmodel"})
        save_torch(model, section, folder)


main()

"""Export to metatomic (https://docs.metatensor.org/metatomic), whose engines are ASE, i-PI, LAMMPS and others.

Needs the package `metatomic-torch`.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from deepmd.adapters.torch.export import scripted
from deepmd.array_model.errors import InputError
from deepmd.engines.elements import UNKNOWN, missing, types_by_number
from deepmd.infer.deep_pot import DeepPot
from deepmd.io.atomic import check_output, replacing
from deepmd.io.formats import load_model

try:
    from deepmd.engines.metatomic_shell import (
        AtomisticModel,
        MetatomicShell,
        ModelCapabilities,
        ModelMetadata,
        ModelOutput,
    )
except ModuleNotFoundError as error:
    raise missing("the package 'metatomic-torch'", error) from error


def export_metatomic(model: str | os.PathLike[str], output: str | os.PathLike[str]) -> Path:
    """Write a model of energies as a metatomic model; return the path.

    Parameters
    ----------
    model : model file of any format, without frame or atomic parameters
    output : file to write, `.pt`

    Raises
    ------
    InputError
        The model predicts something else, depends on parameters, or names no elements.
    """
    check_output(output, reads=(model,))
    potential = DeepPot(model)
    asked = [name for name, (size, _) in potential.model.conditions.items() if size]
    if asked:
        raise InputError(f"{model}: depends on {', '.join(asked)}, which metatomic does not pass")
    types = types_by_number(potential.get_type_map(), str(model))
    shell = MetatomicShell(scripted(load_model(model)), torch.as_tensor(types)).eval()
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="system")},
        atomic_types=[number for number in range(len(types)) if types[number] != UNKNOWN],
        interaction_range=potential.get_rcut() * _reach(potential),
        length_unit="Angstrom",
        supported_devices=["cpu", "cuda"],
        dtype="float64",
    )
    metadata = ModelMetadata(name=Path(model).stem, description="Deep Potential")
    with replacing(output) as temporary:
        AtomisticModel(shell, metadata, capabilities).save(str(temporary))
    return Path(output)


def _reach(potential: DeepPot) -> int:
    """Return how many cutoffs far an atom is felt."""
    from deepmd.array_model.components import descriptors_with

    layers = [
        getattr(part, "nlayers", 1) for _, part, _ in descriptors_with(potential.model, potential._content.params)
    ]
    return max([1, *layers]) if potential.model.layout().needs_neighbour_features else 1

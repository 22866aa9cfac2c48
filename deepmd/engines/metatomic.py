"""Export to metatomic (https://docs.metatensor.org/metatomic), whose engines are ASE, i-PI, LAMMPS and others.

Needs the package `metatomic-torch`.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from deepmd.adapters.torch.export import scripted
from deepmd.array_model.components import descriptors_of
from deepmd.array_model.contracts import Descriptor
from deepmd.array_model.descriptors.dpa2 import Dpa2
from deepmd.array_model.descriptors.dpa3 import Dpa3
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
        interaction_range=max([potential.get_rcut(), *map(reach, descriptors_of(potential.model))]),
        length_unit="Angstrom",
        supported_devices=["cpu", "cuda"],
        dtype="float64",
    )
    metadata = ModelMetadata(name=Path(model).stem, description="Deep Potential")
    with replacing(output) as temporary:
        AtomisticModel(shell, metadata, capabilities).save(str(temporary))
    return Path(output)


def reach(descriptor: Descriptor) -> float:
    """Return the distance (Angstrom) beyond which atoms do not change the features of a descriptor.

    Engines that share out atoms among processes fetch ghost atoms up to there.
    """
    if isinstance(descriptor, Dpa2):  # the pair descriptor sees one cutoff, each layer one of the messages more
        return descriptor.rcut + descriptor.repformer.nlayers * descriptor.repformer.rcut
    if isinstance(descriptor, Dpa3):  # nodes begin with their own type
        return descriptor.repflow.nlayers * descriptor.rcut
    if descriptor.needs_neighbour_features:
        raise InputError(f"how far {descriptor.kind} passes messages is not known; accepted: dpa2, dpa3, local models")
    return descriptor.rcut

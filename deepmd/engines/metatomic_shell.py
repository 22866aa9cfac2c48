"""TorchScript shell of metatomic around an exported model; only the Python that TorchScript knows.

Engines of metatomic differentiate the energy by positions and cells. The exported model differentiates itself, so the
energy that is returned is a plane through the value with the slopes that the model gives.
"""

# ruff: noqa: UP006, UP035, UP045, PERF401 -- TorchScript reads these types and loops

from typing import Dict, List, Optional

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput, System

__all__ = ["AtomisticModel", "MetatomicShell", "ModelCapabilities", "ModelMetadata", "ModelOutput"]


class MetatomicShell(torch.nn.Module):  # type: ignore[misc]
    """Model that metatomic runs.

    Parameters
    ----------
    core : TorchScript module with the `forward` of a `.pth`
    type_of_number : (119,) type of each atomic number, negative without one
    """

    def __init__(self, core: torch.nn.Module, type_of_number: torch.Tensor) -> None:
        super().__init__()
        self.core = core
        self.register_buffer("type_of_number", type_of_number)

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels],
    ) -> Dict[str, TensorMap]:
        """Return the energy of each system."""
        out: Dict[str, TensorMap] = {}
        if "energy" not in outputs:
            return out
        energies: List[torch.Tensor] = []
        for system in systems:
            energies.append(self._energy(system))
        if selected_atoms is not None:
            total = 0
            for system in systems:
                total += system.positions.size(0)
            if len(selected_atoms) != total:
                raise ValueError(
                    "the energy of some atoms is asked for, as by an engine that shares atoms out among processes; "
                    "this model gives the energy of all atoms: run one process"
                )
        values = torch.stack(energies).reshape(-1, 1)
        device = values.device
        block = TensorBlock(
            values=values,
            samples=Labels("system", torch.arange(len(systems), device=device).reshape(-1, 1)),
            components=[],
            properties=Labels("energy", torch.zeros(1, 1, dtype=torch.int64, device=device)),
        )
        out["energy"] = TensorMap(Labels("_", torch.zeros(1, 1, dtype=torch.int64, device=device)), [block])
        return out

    def _energy(self, system: System) -> torch.Tensor:
        position, cell = system.positions, system.cell
        atype = self.type_of_number[system.types.to(torch.int64)].unsqueeze(0)
        box: Optional[torch.Tensor] = None
        if bool(system.pbc.any()):
            box = cell.detach().reshape(1, 9)
        found = self.core(position.detach().unsqueeze(0), atype, box)
        force = found["force"][0]
        energy = found["energy"][0, 0] - (force * (position - position.detach())).sum()
        if box is not None:
            # a strain moves positions and cell: virial = positions' share + cell's share
            share = position.detach().t() @ force - found["virial"][0].reshape(3, 3).t()
            slope = torch.linalg.solve(cell.detach().t().contiguous(), share)
            energy = energy + (slope * (cell - cell.detach())).sum()
        return energy

"""Model interface of torch-sim (https://torchsim.github.io/torch-sim): many systems in one simulation.

Needs the package `torch-sim-atomistic`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from deepmd.array_model.errors import InputError
from deepmd.engines.elements import UNKNOWN, missing, types_by_number
from deepmd.infer.deep_pot import DeepPot

try:
    import torch_sim
    from torch_sim.models.interface import ModelInterface
except ModuleNotFoundError as error:
    raise missing("the package 'torch-sim-atomistic'", error) from error


class DPModel(ModelInterface):  # type: ignore[misc]
    """A Deep Potential for `torch_sim.integrate`, `torch_sim.optimize` and `torch_sim.static`.

    Systems of all sizes are evaluated together. A state that is periodic in any direction is treated as periodic in all
    three. Elements are matched by the model's type_map. Results have torch-sim's units (eV, Angstrom) and sign of the
    stress (-virial/volume), and the precision of `dtype`; the model computes in its own.

    Parameters
    ----------
    model : model file of any format
    dtype : of states and results
    options : arguments of `DeepPot`, e.g. `device="cuda"`

    Raises
    ------
    InputError
        The model cannot be read; on evaluation: the model has no type for an element.

    Examples
    --------
    >>> model = DPModel("water.pth")  # doctest: +SKIP
    >>> torch_sim.integrate(atoms, model, integrator=torch_sim.Integrator.nve, n_steps=100, ...)  # doctest: +SKIP
    """

    def __init__(self, model: str | os.PathLike[str], *, dtype: torch.dtype = torch.float64, **options: Any) -> None:
        super().__init__()
        self.dp = DeepPot(model, **options)
        self._device, self._dtype = torch.device(self.dp.device), dtype
        self._compute_forces = self._compute_stress = True
        self._types = types_by_number(self.dp.get_type_map(), self.dp.model_path)

    def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Return energy (S,), forces (A, 3) and stress (S, 3, 3) of S systems with A atoms together.

        `state`: `SimState`, or its fields in a dict.
        """
        if isinstance(state, dict):
            state = torch_sim.SimState(**{"masses": torch.ones_like(state["atomic_numbers"]), **state})
        system, number = state.system_idx.cpu().numpy(), state.atomic_numbers.cpu().numpy()
        count, most = state.n_systems, int(np.bincount(system).max())
        position = np.arange(len(system)) - np.searchsorted(system, system)  # atoms of a system follow each other
        types, coord = np.full((count, most), -1), np.zeros((count, most, 3))
        types[system, position] = self._typed(number)
        coord[system, position] = state.positions.detach().cpu().numpy()
        cells = state.row_vector_cell.detach().cpu().numpy().astype(np.float64)
        periodic = bool(torch.as_tensor(state.pbc).any())
        energy, force, virial = self.dp.eval(coord, cells if periodic else None, types, mixed_type=True)
        virials = virial.reshape(-1, 3, 3)
        stress = np.zeros_like(virials)  # without a cell there is no stress; torch-sim wants the entry
        if periodic:
            stress = -0.5 * (virials + virials.transpose(0, 2, 1)) / np.abs(np.linalg.det(cells))[:, None, None]
        results = {"energy": energy[:, 0], "forces": force[system, position], "stress": stress}
        return {
            name: torch.as_tensor(value, dtype=self.dtype, device=state.positions.device)
            for name, value in results.items()
        }

    def _typed(self, number: np.ndarray) -> np.ndarray:
        types: np.ndarray = self._types[number]
        if (types == UNKNOWN).any():
            foreign = sorted({int(each) for each in number[types == UNKNOWN]})
            raise InputError(f"atomic numbers {foreign} of the state have no type. Known: {self.dp.get_type_map()}")
        return types

"""An ASE calculator that runs a Deep Potential model (https://wiki.fysik.dtu.dk/ase)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.infer.deep_pot import DeepPot

try:
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("deepmd.calculator needs the package 'ase', which is not installed: pip install 'deepmd[ase]'") from error

if TYPE_CHECKING:
    from ase import Atoms

VOIGT = [0, 4, 8, 5, 2, 1]
"""Where xx, yy, zz, yz, xz, xy stand in a flattened 3x3."""


class DP(Calculator):  # type: ignore[misc]
    """Energy (eV), forces (eV/Angstrom), virial (eV) and stress (eV/Angstrom^3, ASE's sign: -virial/volume) of a model.

    A structure that is periodic in any direction is treated as periodic in all three; its cell needs three independent vectors.
    `atoms.info["fparam"]`, `atoms.info["aparam"]` and `atoms.info["charge_spin"]` are read by models that take such parameters.

    Parameters
    ----------
    model : model file of any format
    label : name of the calculator
    type_dict : type of each element, e.g. {"O": 0, "H": 1}; default: the model's type_map
    neighbor_list, head, nlist_backend, backend : see `deepmd.DeepPot`

    Raises
    ------
    InputError
        The model cannot be read; on calculation: an element has no type, or the structure cannot be used.
    PropertyNotImplementedError
        The stress of a structure without a cell is asked for.

    Examples
    --------
    >>> atoms.calc = DP("model.pth")  # doctest: +SKIP
    >>> atoms.get_potential_energy()  # doctest: +SKIP
    """

    name = "DP"
    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "virial", "stress"]

    def __init__(
        self,
        model: str | os.PathLike[str],
        label: str = "DP",
        type_dict: Mapping[str, int] | None = None,
        neighbor_list: None = None,
        head: str | None = None,
        nlist_backend: str = "auto",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(label=label, **kwargs)
        self.dp = DeepPot(Path(model), neighbor_list=neighbor_list, head=head, nlist_backend=nlist_backend, backend=backend)
        elements = self.dp.get_type_map()
        self.type_dict = dict(type_dict) if type_dict is not None else {element: number for number, element in enumerate(elements)}

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy", "forces"), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Fill `self.results`; ASE calls this."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        periodic = bool(np.any(atoms.pbc))
        if "stress" in properties and not periodic:
            raise PropertyNotImplementedError("stress: the structure has no periodic cell, so it has no volume")
        cells = atoms.cell.array[None] if periodic else None
        energy, force, virial = self.dp.eval(atoms.positions[None], cells, self._types(atoms), **self.dp.conditions_in(atoms.info))
        self.results = {"energy": float(energy[0, 0]), "free_energy": float(energy[0, 0]), "forces": force[0], "virial": virial[0].reshape(3, 3)}
        if periodic:
            symmetric = 0.5 * (self.results["virial"] + self.results["virial"].T)
            self.results["stress"] = -symmetric.reshape(9)[VOIGT] / atoms.get_volume()

    def _types(self, atoms: Atoms) -> list[int]:
        symbols = atoms.get_chemical_symbols()
        for symbol in symbols:
            if symbol not in self.type_dict:
                raise InputError(f"element {symbol!r} of the structure has no type. Known: {self.type_dict}.{nearest(symbol, self.type_dict)}")
        return [self.type_dict[symbol] for symbol in symbols]

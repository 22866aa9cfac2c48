"""Structures of ASE from systems, and extxyz files with every digit (ASE writes 8 decimals of atomic values)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.systems import WIDTHS, System

if TYPE_CHECKING:
    from ase import Atoms

LETTERS = {"f": "R", "i": "I", "u": "I", "U": "S", "b": "L"}
"""Types of columns by kinds of arrays."""


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            "extxyz files need the package 'ase', which is not installed: pip install 'deepmd[ase]'"
        ) from error


def to_structure(system: System, frame: int, elements: Sequence[str]) -> Atoms:
    """Return a frame as a structure of ASE, without virtual atoms.

    Energy, forces and stress are the results of a calculator. `info` has the virial, from which the stress follows, and
    other values of the frame, `arrays` those of atoms, by their names in npy files.
    """
    ase = _import("ase")
    single = _import("ase.calculators.singlepoint")
    known = _import("ase.data").atomic_numbers
    if wrong := [name for name in elements if name not in known]:
        hint = nearest(wrong[0], known)
        raise InputError(f"{system.path}: {wrong[0]!r} is no chemical element, of which extxyz files are made.{hint}")
    types = system.types_of(frame)
    real = types >= 0
    cell = None if system.cell is None else system.cell[frame]
    symbols = [elements[kind] for kind in types[real]]
    atoms = ase.Atoms(symbols, system.coord[frame][real], cell=cell, pbc=cell is not None)
    results: dict[str, Any] = {}
    for name, values in system.data.items():
        value = np.asarray(values[frame])
        if name == "energy":
            results["energy"] = float(value)
        elif name == "force":
            results["forces"] = value[real]
        elif name == "virial" and cell is not None:
            atoms.info["virial"] = value.reshape(3, 3)
            results["stress"] = stress_of(value, cell)
        elif WIDTHS[name][1] == 0:
            atoms.info[name] = value
        else:
            atoms.arrays[name] = value[real]
    if results:
        atoms.calc = single.SinglePointCalculator(atoms, **results)
    return atoms


def stress_of(virial: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the stress in ASE's sign and Voigt order (6,), eV/Angstrom^3, from a virial (9,) and a cell (3, 3)."""
    full = np.reshape(virial, (3, 3))  # made symmetric here, because ASE reads one triangle only
    voigt: np.ndarray = _import("ase.stress").full_3x3_to_voigt_6_stress(0.5 * (full + full.T))
    return np.asarray(-voigt / abs(np.linalg.det(cell)))


def write_structure(file: TextIO, atoms: Atoms) -> None:
    """Append a structure to an extxyz file, with the results of its calculator; numbers are read back exactly."""
    extxyz = _import("ase.io.extxyz")
    info, arrays = dict(atoms.info), dict(atoms.arrays)
    for name, value in (atoms.calc.results if atoms.calc is not None else {}).items():
        if name == "stress":
            info[name] = _import("ase.stress").voigt_6_to_full_3x3_stress(np.asarray(value))
        elif name in extxyz.per_config_properties:
            info[name] = value
        elif name in extxyz.per_atom_properties:
            arrays[name] = value
    del arrays["numbers"], arrays["positions"]
    if len(atoms.constraints):
        arrays["move_mask"] = extxyz._make_move_mask(atoms)
    columns = {"species": np.array(atoms.get_chemical_symbols()), "pos": atoms.positions}
    columns |= {extxyz.PROPERTY_NAME_MAP.get(name, name): np.asarray(values) for name, values in arrays.items()}
    columns = {name: values.reshape(len(atoms), -1) for name, values in columns.items() if values.dtype.kind in LETTERS}
    properties = ":".join(f"{name}:{LETTERS[each.dtype.kind]}:{each.shape[1]}" for name, each in columns.items())
    lattice = f'Lattice="{" ".join(map(repr, atoms.cell.array.reshape(-1).tolist()))}" ' if atoms.cell.any() else ""
    text = extxyz.key_val_dict_to_str({**info, "pbc": atoms.pbc})
    file.write(f"{len(atoms)}\n{lattice}Properties={properties} {text}\n")
    for row in zip(*(values.tolist() for values in columns.values()), strict=True):
        file.write(" ".join(_word(value) for cells in row for value in cells) + "\n")


def _word(value: Any) -> str:
    return "FT"[value] if isinstance(value, bool) else value if isinstance(value, str) else repr(value)

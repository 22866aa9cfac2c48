"""ASE calculator of a Deep Potential model, or of several (https://wiki.fysik.dtu.dk/ase).

Needs the package `ase`. Evaluation: infer/deep_pot.py. Spread of several models: infer/model_devi.py.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.extxyz import stress_of
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.inputs import check_numbers
from deepmd.infer.model_devi import spread

try:
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes, equal
    from ase.outputs import Properties, all_outputs
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "deepmd.calculator needs the package 'ase', which is not installed: pip install 'deepmd[ase]'"
    ) from error

if TYPE_CHECKING:
    from ase import Atoms

OPTIONS = tuple(inspect.getfullargspec(DeepPot.__init__).kwonlyargs)
"""Keyword arguments of `DeepPot`."""

SPREADS = ("energy_std", "forces_std", "stress_std")
"""Results of an ensemble beside the means."""

WORDS = ("model", "type_dict", "uncertainty", *OPTIONS)
"""Arguments that `set` accepts and ASE keeps as `parameters`."""


class DP(Calculator):  # type: ignore[misc]
    """Energy (eV), forces (eV/Angstrom), virial (eV) and stress (eV/Angstrom^3, ASE's sign: -virial/volume) of a model.

    A structure that is periodic in any direction is treated as periodic in all three; its cell needs three independent
    vectors. Models with frame parameters, atomic parameters, or charge and spin read `atoms.info["fparam"]` (K,),
    `atoms.info["aparam"]` (n, K) or (K,) for all n atoms, and `atoms.info["charge_spin"]` (2,); a plain number stands
    for a list of one. These values belong to the structure, so results are computed anew when they change.

    Several models are an ensemble: results are means, and `results` holds the standard deviations of the models from
    the mean: "energy_std" (eV, of the whole structure), "forces_std" (n, 3) (eV/Angstrom) and "stress_std" (6,)
    (eV/Angstrom^3). The divisor is the number of models, as in `dp model-devi`: the largest norm of a row of
    "forces_std" is `max_devi_f`, the mean norm `avg_devi_f`, and "energy_std" / n is `devi_e`.

    Parameters
    ----------
    model : model file of any format, or a list of them. Elements are matched by name where type_maps differ
    label : name of the calculator
    type_dict : type of each element in the (first) model, e.g. {"O": 0, "H": 1}; default: the type_map
    uncertainty : of one model, from the file that `dp uncertainty fit` writes (True: the one beside the model; or its
        path): `results` holds "energy_std" (eV) and, of the share of each atom, "energies_std" (n,) (eV)
    neighbor_list, head, nlist_backend, options : arguments of `deepmd.DeepPot`, e.g. `evaluation="direct"`
    atoms : structure that gets this calculator
    directory : ASE's, unused

    Attributes
    ----------
    dp : the `DeepPot` of the (first) model
    models : all of them
    parameters : arguments of the constructor. ASE writes them to files, and `DP(**calc.todict())` is an equal
        calculator
    results : ASE's results, and "virial" (3, 3), which `export_properties` leaves out

    Raises
    ------
    InputError
        A model cannot be read, models of an ensemble share no element, or an argument is unknown; on calculation: an
        element has no type, or the structure cannot be used.
    PropertyNotImplementedError
        On calculation: the stress of a structure without a cell is asked for.

    Examples
    --------
    >>> atoms.calc = DP("model.pth")  # doctest: +SKIP
    >>> atoms.get_potential_energy()  # doctest: +SKIP
    >>> atoms.calc = DP(["a.pth", "b.pth"])  # doctest: +SKIP
    >>> atoms.get_forces(), atoms.calc.results["forces_std"]  # doctest: +SKIP
    """

    name = "DP"
    implemented_properties: list[str] = ["energy", "free_energy", "forces", "virial", "stress"]
    default_parameters: ClassVar[dict[str, Any]] = {
        "type_dict": None,
        "neighbor_list": None,
        "head": None,
        "nlist_backend": "auto",
        "uncertainty": False,
    }

    def __init__(
        self,
        model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        label: str = "DP",
        type_dict: Mapping[str, int] | None = None,
        neighbor_list: None = None,
        head: str | None = None,
        nlist_backend: str = "auto",
        *,
        uncertainty: bool | str | os.PathLike[str] = False,
        atoms: Atoms | None = None,
        directory: str | os.PathLike[str] = ".",
        **options: Any,
    ) -> None:
        _check(options, (*WORDS, "label", "atoms", "directory"))
        super().__init__(label=label, atoms=atoms, directory=directory)
        options |= {"neighbor_list": neighbor_list, "head": head, "nlist_backend": nlist_backend}
        self.set(model=model, type_dict=type_dict, uncertainty=uncertainty, **options)

    def set(self, **words: Any) -> dict[str, Any]:
        """Change arguments of the constructor, read the model again, and return the arguments that changed."""
        if not words:
            return {}
        _check(words, WORDS)
        given = {**self.parameters, **words}
        given["model"] = _absolute(given["model"])
        files = [given["model"]] if isinstance(given["model"], str) else given["model"]
        if not isinstance(given["uncertainty"], bool):
            given["uncertainty"] = str(Path(given["uncertainty"]).absolute())
        if given["uncertainty"] is not False and len(files) > 1:
            raise InputError("uncertainty: is for one model; several have their spread (energy_std, forces_std)")
        options = {word: value for word, value in given.items() if word in OPTIONS}
        self.models = [DeepPot(file, **options) for file in files]
        self.dp = self.models[0]
        type_map = self.dp.get_type_map()
        self.type_dict = {element: kind for kind, element in enumerate(type_map)}
        if given["type_dict"] is not None:
            self.type_dict = given["type_dict"] = _type_dict(given["type_dict"], type_map)
        self._type_dicts = [_matched(self.type_dict, type_map, model) for model in self.models]
        self.implemented_properties = [
            *type(self).implemented_properties,
            *(
                SPREADS
                if len(files) > 1
                else ("energy_std", "energies_std")
                if given["uncertainty"] is not False
                else ()
            ),
        ]
        self.reset()
        return super().set(**given)  # type: ignore[no-any-return]

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the changes since the last calculation: ASE's, and conditions of the model in `atoms.info`."""
        known = {} if self.atoms is None else self.atoms.info
        given = self._conditions(atoms)
        changes: list[str] = super().check_state(atoms, tol=tol)
        return changes + [name for name, value in given.items() if not _equal(value, known.get(name))]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `self.results`. Called by ASE."""
        if system_changes:
            self.results = {}  # if this calculation fails, results of the previous structure must not remain
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        found = self._conditions(atoms)
        given: dict[str, Any] = {
            name: np.array(check_numbers(name, found[name])) for name in found if found[name] is not None
        }
        atoms.info.update(given)  # copies, so that `check_state` sees changes made in place
        periodic = bool(np.any(atoms.pbc))
        if {"stress", "stress_std"} & set(properties) and not periodic:
            raise PropertyNotImplementedError("stress: the structure has no periodic cell, so it has no volume")
        cells = atoms.cell.array[None] if periodic else None
        results = []
        for model, kinds in zip(self.models, self._type_dicts, strict=True):
            arguments = atoms.positions[None], cells, self._types(atoms, kinds)
            out = model.eval(*arguments, **model.conditions_in(given))
            results.append(_results(atoms, *out))
        together = {name: np.array([each[name] for each in results]) for name in results[0]}
        self.results = {name: values.mean(axis=0) for name, values in together.items()}
        if len(results) > 1:
            for name in SPREADS:
                if (of := name.removesuffix("_std")) in together:
                    self.results[name] = spread(together[of])
        if self.parameters["uncertainty"] is not False:
            energy_std, energies_std = self.dp.eval_uncertainty(
                *arguments, **self.dp.conditions_in(given), uncertainty=self.parameters["uncertainty"]
            )
            self.results |= {"energy_std": energy_std[0, 0], "energies_std": energies_std[0, :, 0]}
        self.results = {name: value if value.ndim else float(value) for name, value in self.results.items()}

    def export_properties(self) -> Properties:
        """Return the results that ASE knows: all but the virial."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def _conditions(self, atoms: Atoms) -> dict[str, Any]:
        """Return what the structure holds of the conditions that any model asks for."""
        return {name: value for model in self.models for name, value in model.conditions_in(atoms.info).items()}

    def _types(self, atoms: Atoms, known: Mapping[str, int]) -> list[int]:
        symbols = atoms.get_chemical_symbols()
        for symbol in symbols:
            if symbol not in known:
                hint = nearest(symbol, known)
                raise InputError(f"element {symbol!r} of the structure has no type. Known: {known}.{hint}")
        return [known[symbol] for symbol in symbols]


def _results(atoms: Atoms, energy: np.ndarray, force: np.ndarray, virial: np.ndarray) -> dict[str, Any]:
    """Return the results of one model as ASE has them."""
    out = {"energy": energy[0, 0], "free_energy": energy[0, 0], "forces": force[0], "virial": virial[0].reshape(3, 3)}
    if np.any(atoms.pbc):
        out["stress"] = stress_of(out["virial"], atoms.cell.array)
    return out


def _absolute(model: Any) -> str | list[str]:
    """Return the absolute path of a model file, or the list of paths of an ensemble."""
    if isinstance(model, str | os.PathLike):
        return str(Path(model).absolute())
    if not isinstance(model, Sequence) or not model or not all(isinstance(file, str | os.PathLike) for file in model):
        raise InputError(f"model: is {model!r}; accepted: a model file, or a list of model files")
    files = [str(Path(file).absolute()) for file in model]
    return files if len(files) > 1 else files[0]


def _matched(type_dict: Mapping[str, int], type_map: Sequence[str], model: DeepPot) -> dict[str, int]:
    """Return `type_dict`, whose types are those of `type_map`, in the types of a model; elements it lacks are left out.

    Raise InputError if nothing is left.
    """
    own = model.get_type_map()
    if own == type_map:
        return dict(type_dict)
    found = {element: own.index(type_map[kind]) for element, kind in type_dict.items() if type_map[kind] in own}
    if not found:
        raise InputError(f"{model.model_path}: its type_map {own} shares no element with that of the first, {type_map}")
    return found


def _check(words: Iterable[str], accepted: Sequence[str]) -> None:
    for word in words:
        if word not in accepted:
            known = ", ".join(accepted)
            raise InputError(f"DP: unknown argument {word!r}. Accepted: {known}.{nearest(word, accepted)}")


def _type_dict(given: Any, type_map: Sequence[str]) -> dict[str, int]:
    """Return {element: type}; raise InputError unless all types are types of the model."""
    accepted = f"accepted: the type of each element, of the model's types 0 to {len(type_map) - 1}, {list(type_map)}"
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"type_dict: is {given!r}; {accepted}")
    for element, kind in given.items():
        if not isinstance(kind, int | np.integer) or not 0 <= kind < len(type_map):
            raise InputError(f"type_dict: {element!r} has the type {kind!r}; {accepted}")
    return {str(element): int(kind) for element, kind in given.items()}


def _equal(one: Any, other: Any) -> bool:
    """Return whether two conditions are equal. Ragged lists, which `calculate` refuses, equal nothing."""
    try:
        return bool(equal(one, other))
    except ValueError:
        return False

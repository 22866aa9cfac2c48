"""`dp eval`: predictions beside the labels of structures, in a file (docs/commands.md#predictions-in-a-file)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.errors import InputError
from deepmd.data.ase_frames import read_structures
from deepmd.data.convert import EXTXYZ, load_whole
from deepmd.data.extxyz import stress_of, to_structure, write_structure
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.selection import Selection, files_of, select_systems
from deepmd.data.storage import is_ase_file
from deepmd.infer.deep_pot import GLOBAL, DeepEval, DeepPot
from deepmd.io.atomic import check_output, replacing
from deepmd.io.formats import find_frozen

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger(__name__)

PREFIX = "dp_"
"""Prefix of the names of predictions, which no reader takes for labels (`deepmd.data.label_keys.OTHERS`)."""

Predictions = dict[str, Any]
"""Predictions by name, without the prefix."""

COMPONENTS_ONLY = ("dipole", "polar")
"""Outputs that are evaluated atom by atom; the total is their sum."""


def evaluate_file(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    system: str | Sequence[str] | None = None,
    datafile: str | None = None,
    atomic: bool = False,
    backend: str | None = None,
    keys: LabelKeys = DETECTED,
) -> int:
    """Write structures with the predictions of a model to an extxyz file, and return their number.

    Frames and atoms of files that ASE reads keep their order and everything else that ASE reads of them. Predictions of
    energy models: `info["dp_energy"]` (eV), `arrays["dp_forces"]` (eV/Angstrom), with a cell `info["dp_stress"]`
    (eV/Angstrom^3, six numbers as of `Atoms.get_stress()`). Other models: `info["dp_NAME"]`, `arrays["dp_atom_NAME"]`.

    Parameters
    ----------
    model : model file, with or without suffix
    output : `.extxyz` or `.xyz`
    system, datafile : structures, see `deepmd.data.selection.select_systems`
    atomic : write atomic energies too: `arrays["dp_energies"]` (eV)
    backend : see `DeepPot`
    keys : names of the labels in files that ASE reads, which tell nothing here but what is written of other files
    """
    if Path(output).suffix.lower() not in EXTXYZ:
        raise InputError(f"{output}: accepted: a name that ends with {' or '.join(EXTXYZ)}")
    selection, model = select_systems(system=system, datafile=datafile, keys=keys), find_frozen(model, backend)
    check_output(output, reads=(model, *files_of(selection.paths)))
    count = 0
    with (
        DeepEval(model, backend=backend) as potential,
        replacing(output) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for atoms, info, arrays in _predicted(potential, selection, atomic):
            atoms.info.update({PREFIX + name: value for name, value in info.items()})
            atoms.arrays.update({PREFIX + name: value for name, value in arrays.items()})
            write_structure(file, atoms)
            count += 1
    log.info("%d structures with predictions are in %s", count, output)
    return count


def _predicted(
    potential: DeepEval, selection: Selection, atomic: bool
) -> Iterator[tuple[Atoms, Predictions, Predictions]]:
    """Yield structures with their predictions, of frames and of atoms: file by file in the order of the frames."""
    files = list(dict.fromkeys(path.rpartition("#")[0] or path for path in selection.paths))
    for file in files:
        paths = [path for path in selection.paths if path == file or path.rpartition("#")[0] == file]
        if not is_ase_file(file):
            for path in paths:
                system, elements = load_whole(selection, path)
                predicted = _evaluate(potential, selection, path, atomic)
                for frame, values in enumerate(predicted):
                    yield to_structure(system, frame, elements), *values
            continue
        found: dict[int, tuple[Predictions, Predictions]] = {}
        for path in paths:
            numbers = selection.load(path, potential.get_type_map(), ()).numbers
            assert numbers is not None
            found |= zip(numbers.tolist(), _evaluate(potential, selection, path, atomic), strict=True)
        for number, atoms in enumerate(read_structures(file)):
            if number in found:
                yield atoms, *found[number]


def _evaluate(
    potential: DeepEval, selection: Selection, path: str, atomic: bool
) -> Iterator[tuple[Predictions, Predictions]]:
    """Yield the predictions for the frames of a system: of the frame, and of its real atoms."""
    system, output = selection.load(path, potential.get_type_map(), tuple(CONDITIONS)), potential.output
    energies = isinstance(potential, DeepPot)
    wanted = (GLOBAL if energies else {output.name, output.atomic}) | ({output.atomic} if atomic else set())
    if output.name in COMPONENTS_ONLY:
        wanted -= {output.name}
    values = potential.evaluate_system(system, slice(None), frozenset(wanted))
    for frame in range(system.num_frames):
        real = system.types_of(frame) >= 0
        each = {name: value[frame] for name, value in values.items()}
        if not energies:
            atoms = each[output.atomic][real]
            total = each[output.name] if output.name in each else atoms.sum(axis=0)
            yield {output.name: total}, {output.atomic: atoms}
            continue
        info: Predictions = {"energy": float(each["energy"][0])}
        if system.cell is not None:
            info["stress"] = stress_of(each["virial"], system.cell[frame])
        arrays: Predictions = {"forces": each["force"][real]}
        yield info, {**arrays, "energies": each[output.atomic][real, 0]} if atomic else arrays

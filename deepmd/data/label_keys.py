"""Label keys: under which names a file that ASE reads keeps energies, forces and virials (docs/input.md#label-keys).

Units and signs are ASE's: eV, eV/Angstrom, stress in eV/Angstrom^3. virial = -stress * volume.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.ase_frames import AseFile, Frame

log = logging.getLogger(__name__)

LABELS = ("energy", "force", "virial")

PATTERNS = {
    "energy": re.compile(r"(?:(?P<prefix>\w+?)[_-])??(?:(?:tot|total|potential|pot|free)[_-]?)?energy", re.IGNORECASE),
    "force": re.compile(r"(?:(?P<prefix>\w+)[_-])?forces?", re.IGNORECASE),
    "virial": re.compile(r"(?:(?P<prefix>\w+)[_-])?(?:virials?|(?P<stress>stress))", re.IGNORECASE),
}
"""Names that are taken for labels: REF_energy, dft_forces, TotEnergy, ..."""

USUAL = ("energy", "forces", "force", "stress", "virial")
"""Names of which the log says nothing."""

OTHERS = ("dp", "kinetic", "kin", "config")
"""Prefixes of other quantities: predictions of `dp eval`, of molecular dynamics, weights of other programs."""

SAME = 1e-6
"""Relative difference up to which two candidates hold the same label; text files round."""


@dataclass(frozen=True)
class LabelKeys:
    """Names that the user gives; None: detected. `stress` is another source of the virial."""

    energy: str | None = None
    force: str | None = None
    virial: str | None = None
    stress: str | None = None

    def __post_init__(self) -> None:
        if self.virial and self.stress:
            raise InputError(f"virial_key is {self.virial!r} and stress_key {self.stress!r}; accepted: one of them")


DETECTED = LabelKeys()


def keys_of(source: object) -> LabelKeys:
    """Return the keys of an object with attributes `energy_key`, ...: a data section, options of a command."""
    return LabelKeys(**{field.name: getattr(source, f"{field.name}_key") for field in fields(LabelKeys)})


@dataclass(frozen=True)
class Source:
    """Name of the values of a label in frames."""

    label: str
    name: str
    stress: bool = False

    def read(self, frame: Frame) -> np.ndarray:
        """Return the label of a frame, flat, in eV and Angstrom; raise ValueError for a wrong number of values."""
        values = frame.values[self.name]
        if self.label != "virial":
            return values
        if values.size not in (6, 9):
            raise ValueError(f"{self.name} of frame {frame.number} has {values.size} values, expected 6 or 9")
        volume = 0.0 if frame.cell is None else abs(float(np.linalg.det(frame.cell)))
        return -volume * _full(values) if self.stress else _full(values)


def _full(values: np.ndarray) -> np.ndarray:
    """Return nine components of a symmetric tensor that has six in ASE's Voigt order, or nine."""
    from ase.stress import voigt_6_to_full_3x3_stress

    return np.reshape(voigt_6_to_full_3x3_stress(values), -1) if values.size == 6 else values


def find_source(label: str, file: AseFile, keys: LabelKeys, where: str) -> Source | None:
    """Return where the frames of a file keep a label, None if they have none.

    Parameters
    ----------
    label : one of `LABELS`
    keys : names that the user gives
    where : name of the file in errors

    Raises
    ------
    InputError
        A named key is in no frame, or several names differ and no key is named.
    """
    if (label, keys) not in file.sources:
        found = _find(label, file.frames, keys, where)
        file.sources[label, keys] = found
        if found is not None:
            if found.name not in USUAL:
                log.info("%s: %s is %s", where, label, found.name)
            number = sum(found.name not in frame.values for frame in file.frames)
            if number:
                log.warning("%s: %d of %d frames have no %s", where, number, len(file.frames), found.name)
    out: Source | None = file.sources[label, keys]
    return out


def _find(label: str, frames: Sequence[Frame], keys: LabelKeys, where: str) -> Source | None:
    names = dict.fromkeys(name for frame in frames for name in frame.values)
    stress = keys.stress if label == "virial" else None
    if (named := stress or getattr(keys, label)) is not None:
        if named not in names:
            option = f"{'stress' if stress else label}_key"
            known = ", ".join(names) or "none"
            raise InputError(f"{where}: {option} is {named!r}; the frames have: {known}.{nearest(named, names)}")
        return Source(label, named, stress=stress is not None)
    found = [each for name in names if (each := _candidate(label, name)) and _fits(each, frames)]
    if len(found) > 1 and keys.energy is not None:  # REF_energy is named: REF_forces goes with it
        wanted = _prefix("energy", keys.energy)
        found = [each for each in found if _prefix(label, each.name) == wanted] or found
    if label == "energy" and {each.name for each in found} == {"energy", "free_energy"}:
        return _force_consistent(frames, where)
    if len(found) > 1 and not all(_same(found[0], other, frames) for other in found[1:]):
        options = f"{label}_key" + (" (or stress_key, for a stress)" if label == "virial" else "")
        text = f"which is the {label}? {', '.join(each.name for each in found)} differ"
        raise InputError(f"{where}: {text}; name one as {options}")
    return found[0] if found else None


def _candidate(label: str, name: str) -> Source | None:
    match = PATTERNS[label].fullmatch(name)
    if match is None or (match["prefix"] or "").lower() in OTHERS:
        return None
    return Source(label, name, stress=label == "virial" and match["stress"] is not None)


def _prefix(label: str, name: str) -> str:
    match = PATTERNS[label].fullmatch(name)
    return "" if match is None else (match["prefix"] or "").lower()


def _fits(source: Source, frames: Sequence[Frame]) -> bool:
    """Return whether the first frame with these values has as many as the label."""
    frame = next(frame for frame in frames if source.name in frame.values)
    sizes: Mapping[str, tuple[int, ...]] = {"energy": (1,), "force": (3 * len(frame.numbers),), "virial": (6, 9)}
    return frame.values[source.name].size in sizes[source.label]


def _same(one: Source, other: Source, frames: Sequence[Frame]) -> bool:
    """Return whether two candidates hold the same values in frames that have both, and whether there are such."""
    both = [frame for frame in frames if one.name in frame.values and other.name in frame.values]
    pairs = [
        (one.read(frame), other.read(frame))
        for frame in both
        if not (one.stress or other.stress) or frame.cell is not None
    ]
    return bool(pairs) and all(np.allclose(*pair, rtol=SAME, atol=SAME, equal_nan=True) for pair in pairs)


def _force_consistent(frames: Sequence[Frame], where: str) -> Source:
    """Return the energy whose derivative the forces are: by ASE's convention `free_energy` where both are there."""
    energy, free = Source("energy", "energy"), Source("energy", "free_energy")
    if _same(energy, free, frames):
        return energy
    both = [frame for frame in frames if {"energy", "free_energy"} <= frame.values.keys()]
    if not both:
        raise InputError(f"{where}: some frames have energy, others free_energy; name one as energy_key")
    most = max(abs(float(energy.read(frame)[0] - free.read(frame)[0])) / len(frame.numbers) for frame in both)
    log.info(
        "%s: energies are free_energy, whose derivative the forces are; energy differs by up to %.2g meV/atom",
        where,
        1e3 * most,
    )
    return free

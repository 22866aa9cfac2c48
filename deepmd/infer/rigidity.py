"""Prediction rigidity: the uncertainty of one model from the features of its last layer (docs/theory/uncertainty.md).

Fitting to data: fit_uncertainty.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.tree import flatten
from deepmd.data.systems import System
from deepmd.infer.hidden_layers import FEATURE, hidden_model
from deepmd.infer.inputs import EvalInput
from deepmd.io.atomic import replacing
from deepmd.io.model_file import ModelFile

VERSION = 1
"""Version of the file."""


@dataclass(frozen=True)
class Rigidity:
    """What turns features of the last hidden layer into standard deviations of energies.

    Attributes
    ----------
    root : (D, D): the standard deviation (eV) of an energy with the feature row g (D,) is the norm of g @ root
    block_of_type : (T,) which block of D/B features is that of a type; ABSENT: the data of the fit had no such atom;
        CONSTANT: atoms without energy
    fingerprint : of the model, see `fingerprint`
    scale : factor of the standard deviations that the held-out energies gave
    facts : numbers of the fit for people: {"structures": 80, ...}
    """

    ABSENT, CONSTANT = -1, -2

    root: np.ndarray
    block_of_type: np.ndarray
    fingerprint: str
    scale: float
    facts: dict[str, float]

    def std(self, features: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return standard deviations of energies of frames (F, 1) and of atoms (F, n, 1), eV.

        Infinite where the data of the fit had no atom of a type. Zero for virtual atoms.

        Parameters
        ----------
        features : last hidden layer (F, n, H)
        types : (F, n), negative for virtual atoms
        """
        blocks = self._blocks(types)
        width = features.shape[2] + 1
        frames = np.linalg.norm(sum_features(features, blocks, len(self.root) // width) @ self.root, axis=1)
        atoms = np.zeros(types.shape)
        for block in range(len(self.root) // width):
            own = blocks == block
            rows = np.concatenate([features[own], np.ones((own.sum(), 1))], axis=1)
            atoms[own] = np.linalg.norm(rows @ self.root[block * width : (block + 1) * width], axis=1)
        unknown = blocks == self.ABSENT
        atoms[unknown] = np.inf
        frames[unknown.any(axis=1)] = np.inf
        return frames[:, None], atoms[:, :, None]

    def _blocks(self, types: np.ndarray) -> np.ndarray:
        return np.where(types < 0, self.CONSTANT, self.block_of_type[types])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, NumPy's `.npz`."""
        facts: dict[str, Any] = {f"fact_{name}": value for name, value in self.facts.items()}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                version=VERSION,
                root=self.root,
                block_of_type=self.block_of_type,
                fingerprint=self.fingerprint,
                scale=self.scale,
                **facts,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], content: ModelFile, model: str) -> Self:
        """Read the file; raise InputError unless it was fitted to the model `content`, which `model` names."""
        hint = f"`dp uncertainty fit -m {model} ...` writes one"
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file with the uncertainty of {model}; {hint}")
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                stored: dict[str, Any] = {name: file[name] for name in file}
            version = int(stored["version"])
            found = cls(
                root=stored["root"],
                block_of_type=stored["block_of_type"],
                fingerprint=str(stored["fingerprint"]),
                scale=float(stored["scale"]),
                facts={
                    name.removeprefix("fact_"): float(value)
                    for name, value in stored.items()
                    if name.startswith("fact_")
                },
            )
        except (OSError, ValueError, TypeError, AttributeError, KeyError, BadZipFile) as error:
            raise InputError(f"{path}: is no file of `dp uncertainty fit`: {error}; {hint}") from error
        if version != VERSION:
            raise InputError(f"{path}: has the version {version}; accepted: {VERSION}; {hint}")
        if found.fingerprint != fingerprint(content, model):
            raise InputError(f"{path}: was fitted to another model than {model}, whose parameters differ; {hint}")
        return found


def sum_features(features: np.ndarray, blocks: np.ndarray, count: int) -> np.ndarray:
    """Return feature rows of frames (F, count·(H + 1)): in each block the sum over its atoms of their features and 1.

    Parameters
    ----------
    features : (F, n, H)
    blocks : (F, n) block of each atom; atoms with a negative one do not count
    """
    member = (blocks[:, :, None] == np.arange(count)).astype(np.float64)
    sums = np.swapaxes(member, 1, 2) @ features
    return np.concatenate([sums, member.sum(axis=1)[:, :, None]], axis=2).reshape(len(features), -1)


def place_of(model: str | os.PathLike[str]) -> Path:
    """Return the file beside a model that holds its uncertainty. All formats of a model share it."""
    return Path(model).with_suffix(".uncertainty.npz")


def fingerprint(content: ModelFile, name: str) -> str:
    """Return a hash of all parameters that features of the last hidden layer depend on; equal in every format."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten(hidden_model(content, name).params).items()):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaf, dtype=np.float64).tobytes())
    return digest.hexdigest()


def feature_width(content: ModelFile) -> int:
    """Return the width of the last hidden layer of a model that `hidden_model` accepts."""
    fitting = getattr(content.model, "fitting")  # noqa: B009
    return int(fitting.neuron[-1])


def weight_variance(content: ModelFile, block_of_type: np.ndarray) -> float:
    """Return the mean square of the weights of the last layers that `block_of_type` (T,) names, eV²."""
    nets = content.params["fitting"]["nets"]
    used = nets if len(nets) == 1 else [nets[kind] for kind in np.flatnonzero(block_of_type >= 0)]
    return max(float(np.mean([np.mean(net["layers"][-1]["w"] ** 2) for net in used])), 1e-20)


def blocks_of(content: ModelFile, present: np.ndarray) -> np.ndarray:
    """Return `block_of_type` (T,): a block for each fitting net of the types that are `present` (T,).

    Raises InputError for models without a hidden layer.
    """
    model = content.model
    assert isinstance(model, StandardModel)  # `hidden_model` has seen to it
    assert isinstance(model.fitting, Fitting)
    shared = len(content.params["fitting"]["nets"]) == 1
    excluded = {*model.atom_exclude_types, *model.fitting.exclude_types}
    blocks, count = np.full(model.ntypes, Rigidity.ABSENT), 0
    for kind in range(model.ntypes):
        if kind in excluded:
            blocks[kind] = Rigidity.CONSTANT
        elif shared:
            blocks[kind] = 0
        elif present[kind]:
            blocks[kind], count = count, count + 1
    return blocks


class EnergyUncertainty:
    """Mixin with the uncertainty of energies, for `DeepPot`."""

    model_path: str
    _content: ModelFile
    _frames: Callable[..., EvalInput]
    hidden: Callable[[], Any]
    _rigidity: tuple[tuple[Path, int], Rigidity, Any] | None = None
    """File of the uncertainty and its time, what it holds, and the model that evaluates features."""

    def eval_uncertainty(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        charge_spin: Any = None,
        uncertainty: bool | str | os.PathLike[str] = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return standard deviations of energies (F, 1) and atomic energies (F, n, 1), eV; arguments as for `eval`."""
        frames = self._frames(
            coords, cells, atom_types, mixed_type, fparam=fparam, aparam=aparam, charge_spin=charge_spin
        )
        return self._energy_std(frames, uncertainty)

    def system_std(
        self, system: System, uncertainty: bool | str | os.PathLike[str] = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return standard deviations of energies (F, 1) and atomic energies (F, n, 1), eV, of a system."""
        rigidity, hidden = self._rigid(uncertainty)
        features = hidden.evaluate_system(system, slice(None), frozenset({FEATURE.atomic}))[FEATURE.atomic]
        return rigidity.std(features, np.broadcast_to(np.asarray(system.types), features.shape[:2]))

    def _energy_std(
        self, frames: EvalInput, uncertainty: bool | str | os.PathLike[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        rigidity, hidden = self._rigid(uncertainty)
        return rigidity.std(hidden._run(frames, frozenset({FEATURE.atomic}))[FEATURE.atomic], frames.types)

    def _rigid(self, uncertainty: bool | str | os.PathLike[str]) -> tuple[Rigidity, Any]:
        """Read the file of the uncertainty, unless it is the one that was read last."""
        file = place_of(self.model_path) if isinstance(uncertainty, bool) else Path(uncertainty)
        version = file, file.stat().st_mtime_ns if file.exists() else 0
        if self._rigidity is None or self._rigidity[0] != version:
            self._rigidity = version, Rigidity.load(file, self._content, self.model_path), self.hidden()
        return self._rigidity[1:]

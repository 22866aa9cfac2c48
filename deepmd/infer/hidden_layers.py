"""Vectors inside of a model: of the types, and of the atoms in the last hidden layer of the fitting net."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from deepmd.array_model.components import descriptors_with
from deepmd.array_model.contracts import Widths
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.outputs import Output
from deepmd.host import plain
from deepmd.infer.inputs import EvalInput
from deepmd.infer.model_facts import ModelFacts
from deepmd.io.model_file import ModelFile

FEATURE = Output("feature", 1)
"""Output of `hidden_model`: the last hidden layer by atom (`atom_feature`), and its sum over the atoms (`feature`)."""


@dataclass(frozen=True)
class _HiddenLayers(Fitting):
    """A fitting net whose last layer is as wide as the layer before."""

    kind = "hidden_layers"

    @property
    def output(self) -> Output:
        return replace(FEATURE, width=self.neuron[-1])

    def net_width(self, widths: Widths) -> int:
        return self.neuron[-1]


def hidden_model(content: ModelFile, name: str) -> ModelFile:
    """Return the model with `FEATURE` as its output: the last layer of its nets becomes the identity.

    Atoms of excluded types have their layer too, as in DeePMD-kit. `name` names the model in errors.
    """
    model = content.model
    if not isinstance(model, StandardModel) or not isinstance(model.fitting, Fitting) or not model.fitting.neuron:
        raise InputError(f"{name}: this model of type {model.kind} has no fitting net with a hidden layer")
    options = {option.name: getattr(model.fitting, option.name) for option in fields(Fitting)}
    fitting = _HiddenLayers(**options | {"exclude_types": ()})
    params, zeros = content.params["fitting"], np.zeros((model.ntypes, fitting.neuron[-1]))
    nets = [{**net, "layers": [*net["layers"][:-1], _identity(net["layers"][-1]["w"])]} for net in params["nets"]]
    scales = {key: value for key, value in params.items() if key.startswith(("fparam_", "aparam_"))}
    changed = {
        **content.params,
        "fitting": {"nets": nets, "bias_atom_e": zeros, **scales},
        "out_bias": zeros[None],
        "out_std": zeros[None] + 1.0,
    }
    return replace(content, model=replace(model, fitting=fitting, atom_exclude_types=()), params=changed)


def _identity(last: np.ndarray) -> dict[str, np.ndarray]:
    return {"w": np.eye(len(last), dtype=last.dtype), "b": np.zeros(len(last), dtype=last.dtype)}


def type_vectors(content: ModelFile, name: str) -> np.ndarray:
    """Return the vector of each type (T + 1, E); the last row, of zeros, stands for no atom.

    Of a hybrid, those of its first member that has some. `name` names the model in errors.
    """
    for _, part, params in descriptors_with(content.model, content.params):
        if "type_embedding" in params:
            embedding = getattr(part, "types", None) or part.type_embedding()
            return np.asarray(embedding.table(params["type_embedding"], xp=plain))
    raise InputError(f"{name}: the model has no type embedding")


class InnerVectors(ModelFacts):
    """Mixin with the vectors inside of a model, for classes that evaluate (`DeepEval`)."""

    model_path: str
    _evaluate: Any
    _frames: Callable[..., EvalInput]
    _run: Callable[[EvalInput, frozenset[str]], dict[str, np.ndarray]]

    def eval_descriptor(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        charge_spin: Any = None,
    ) -> np.ndarray:
        """Return the features of each atom (F, n, D), zero for virtual atoms; arguments as for `DeepPot.eval`."""
        frames = self._frames(
            coords, cells, atom_types, mixed_type, fparam=fparam, aparam=aparam, charge_spin=charge_spin
        )
        return self._run(frames, frozenset({"descriptor"}))["descriptor"]

    def eval_fitting_last_layer(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        charge_spin: Any = None,
    ) -> np.ndarray:
        """Return the last hidden layer of the fitting net for each atom (F, n, H), zero for virtual atoms.

        Arguments as for `DeepPot.eval`.
        """
        frames = self._frames(
            coords, cells, atom_types, mixed_type, fparam=fparam, aparam=aparam, charge_spin=charge_spin
        )
        return self.hidden()._run(frames, frozenset({FEATURE.atomic}))[FEATURE.atomic]

    def eval_typeebd(self) -> np.ndarray:
        """Return the vector of each type (T + 1, E) of a model with a type embedding; the last row is zero."""
        return type_vectors(self._content, self.model_path)

    def hidden(self) -> Self:
        """Return a copy whose output is `FEATURE`."""
        other = copy.deepcopy(self)
        other._content, other._evaluate = hidden_model(self._content, self.model_path), None
        return other

"""Vectors inside of a model: of the types, and of the atoms in the last hidden layer of the fitting net."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from deepmd.array_model.components import descriptors_with
from deepmd.array_model.contracts import Widths
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.outputs import Output
from deepmd.host import plain
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

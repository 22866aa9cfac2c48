"""Inference: `DeepPot` and its relatives, `dp test`, model deviation, `dp show`. Frameworks are imported on use."""

from deepmd.infer.deep_pot import DeepEval, DeepPot
from deepmd.infer.deep_tensor import DeepDipole, DeepDOS, DeepGlobalPolar, DeepPolar, DeepProperty
from deepmd.infer.error_report import measure_errors
from deepmd.infer.model_devi import calc_model_devi
from deepmd.infer.show import show_model

DeepPotential = DeepEval

__all__ = [
    "DeepDOS",
    "DeepDipole",
    "DeepEval",
    "DeepGlobalPolar",
    "DeepPolar",
    "DeepPot",
    "DeepPotential",
    "DeepProperty",
    "calc_model_devi",
    "measure_errors",
    "show_model",
]

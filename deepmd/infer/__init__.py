"""Running models: DeepPot, the errors that `dp test` reports, model deviations, and what `dp show` tells."""

from deepmd.infer.accuracy import measure_errors
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.describe import show_model
from deepmd.infer.model_devi import calc_model_devi

DeepEval = DeepPot
"""The general name; every model is an energy model so far."""
DeepPotential = DeepPot

__all__ = ["DeepEval", "DeepPot", "DeepPotential", "calc_model_devi", "measure_errors", "show_model"]

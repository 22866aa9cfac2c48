"""Name of DeePMD-kit for the module of DeepEval."""

from deepmd.infer.deep_pot import DeepEval

__all__ = ["DeepEval"]

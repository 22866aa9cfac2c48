"""Name of DeePMD-kit for the module of DeepGlobalPolar and DeepPolar."""

from deepmd.infer.deep_tensor import DeepGlobalPolar, DeepPolar

__all__ = ["DeepGlobalPolar", "DeepPolar"]

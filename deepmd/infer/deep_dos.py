"""Name of DeePMD-kit for the module of DeepDOS."""

from deepmd.infer.deep_tensor import DeepDOS

__all__ = ["DeepDOS"]

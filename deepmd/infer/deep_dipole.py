"""Name of DeePMD-kit for the module of DeepDipole."""

from deepmd.infer.deep_tensor import DeepDipole

__all__ = ["DeepDipole"]

"""Name of DeePMD-kit for the module of DeepProperty."""

from deepmd.infer.deep_tensor import DeepProperty

__all__ = ["DeepProperty"]

"""Files to (model, parameters) and back, conversion between all formats, and input.json."""

from deepmd.io.formats import convert, load_model, save_model
from deepmd.io.model_file import ModelFile

__all__ = ["ModelFile", "convert", "load_model", "save_model"]

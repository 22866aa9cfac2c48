"""Model files and input.json: reading, writing, conversion. Formats: formats.py. Contents of a file: model_file.py."""

from deepmd.io.formats import convert, load_model, save_model
from deepmd.io.model_file import ModelFile

__all__ = ["ModelFile", "convert", "load_model", "save_model"]

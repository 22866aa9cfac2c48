"""Models as the nested dicts of `.dp` files, and back: DeePMD-kit's layouts (docs/layouts.md).

Kinds of descriptors and fitting nets without a layout here, such as plug-ins, are stored as they are.
"""

from deepmd.kit.layouts.models import model_from_dict, model_to_dict

__all__ = ["model_from_dict", "model_to_dict"]

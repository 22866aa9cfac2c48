"""Models as the nested dicts of `.dp` files, and back: DeePMD-kit's layouts (docs/layouts.md).

Options and parameters of a descriptor or fitting net without a layout here, such as that of a plug-in, are stored as
they are.
"""

from deepmd.kit.layouts.models import model_from_dict, model_to_dict

__all__ = ["model_from_dict", "model_to_dict"]

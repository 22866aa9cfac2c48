"""Models as the nested dicts of `.dp` files, and back: DeePMD-kit's layouts (docs/layouts.md).

A descriptor or fitting net that is not named here, such as that of a plug-in, has its options and parameters stored as
they are.
"""

from deepmd.kit.layouts.models import model_from_dict, model_to_dict

__all__ = ["model_from_dict", "model_to_dict"]

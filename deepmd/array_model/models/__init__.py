"""Model kinds, one module each. Importing this package registers them."""

from deepmd.array_model.models import standard as standard

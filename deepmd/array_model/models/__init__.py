"""Model kinds, one module each. Importing this package registers them."""

from deepmd.array_model.models import linear as linear
from deepmd.array_model.models import pairtab as pairtab
from deepmd.array_model.models import standard as standard
from deepmd.array_model.models import zbl as zbl

"""`dp show`: contents of a model file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from deepmd.array_model.errors import InputError, nearest
from deepmd.io.formats import load_model
from deepmd.io.model_file import ModelFile
from deepmd.io.model_summary import model_size, observed_types

log = logging.getLogger(__name__)


def show_model(path: str | os.PathLike[str], attributes: Sequence[str]) -> None:
    """Log properties of a model file, in the order of `ATTRIBUTES`."""
    for name in attributes:
        if name not in ATTRIBUTES:
            raise InputError(
                f"show: unknown attribute {name!r}. Known: {', '.join(ATTRIBUTES)}.{nearest(name, ATTRIBUTES)}"
            )
    content = load_model(path)
    if "model-branch" in attributes:
        raise InputError(f"{path}: has no model-branch: it is a model with one task")
    log.info("This is a singletask model")
    for name, tell in ATTRIBUTES.items():
        if name in attributes:
            tell(content)


def _type_map(content: ModelFile) -> None:
    log.info("The type_map is %s", list(content.model.type_map))


def _descriptor(content: ModelFile) -> None:
    own = getattr(content.model, "descriptor", None)
    log.info("The descriptor parameter is %s", content.definition.get("descriptor", own))


def _fitting(content: ModelFile) -> None:
    own = getattr(content.model, "fitting", None)
    log.info("The fitting_net parameter is %s", content.definition.get("fitting_net", own))


def _size(content: ModelFile) -> None:
    log.info("Parameter counts:")
    for part, number in model_size(content).items():
        log.info("Parameters in %s: %s", part, f"{number:,}")


def _observed(content: ModelFile) -> None:
    observed = observed_types(content)
    log.info("The observed types for this model: ")
    log.info("Number of observed types: %d ", observed["type_num"])
    log.info("Observed types: %s ", observed["observed_type"])


ATTRIBUTES = {
    "model-branch": lambda content: None,
    "type-map": _type_map,
    "descriptor": _descriptor,
    "fitting-net": _fitting,
    "size": _size,
    "observed-type": _observed,
}

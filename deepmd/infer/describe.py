"""`dp show` and `dp neighbor-stat`: what a model file holds, and what data hold."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deepmd.array_model.errors import InputError, nearest
from deepmd.data.systems import count_types, elements_of, find_systems, load_system
from deepmd.io.facts import model_size, observed_types
from deepmd.io.formats import load_model
from deepmd.io.model_file import ModelFile

log = logging.getLogger(__name__)


def show_model(path: str | os.PathLike[str], attributes: Sequence[str]) -> None:
    """Log what a model file holds, in the order of `ATTRIBUTES`.

    Raises
    ------
    InputError
        The file cannot be read, an attribute is unknown, or the model does not have it.
    """
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
    log.info(
        "The descriptor parameter is %s",
        content.definition.get("descriptor", getattr(content.model, "descriptor", None)),
    )


def _fitting(content: ModelFile) -> None:
    log.info(
        "The fitting_net parameter is %s",
        content.definition.get("fitting_net", getattr(content.model, "fitting", None)),
    )


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


def show_neighbours(system: str, rcut: float, type_map: Sequence[str] | None = None, mixed_type: bool = False) -> None:
    """Log the shortest distance in all systems below a folder and the largest number of neighbours of each type within `rcut` (Angstrom).

    Without `type_map` the elements are those of the data, in the order in which they appear. `mixed_type` counts all
    elements together.

    Raises
    ------
    InputError
        The systems cannot be read, or `rcut` is not positive.
    """
    from deepmd.data.statistics import neighbour_statistics

    if not (math.isfinite(rcut) and rcut > 0.0):
        raise InputError(f"rcut is {rcut}; accepted: a positive number, Angstrom")
    folders = find_systems(system)
    elements = list(type_map) if type_map else elements_of(folders)
    elements = elements or [str(number) for number in range(count_types(folders))]
    systems = [load_system(folder, elements, names=()) for folder in folders]
    if mixed_type:
        systems = [replace(each, types=np.minimum(each.types, 0)) for each in systems]
    shortest, most = neighbour_statistics(systems, rcut, 1 if mixed_type else len(elements))
    log.info("min_nbor_dist: %f", shortest)
    log.info("max_nbor_size: [%s]", " ".join(str(number) for number in most))

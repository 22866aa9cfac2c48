"""`dp neighbor-stat`: shortest distance and largest numbers of neighbours in data."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.selection import select_systems
from deepmd.data.statistics import neighbour_statistics
from deepmd.data.systems import count_types, elements_of, load_system

log = logging.getLogger(__name__)


def show_neighbours(
    system: str | Sequence[str] | None, rcut: float, type_map: Sequence[str] | None = None, mixed_type: bool = False
) -> None:
    """Log the shortest distance in systems, and the largest number of neighbours of each type.

    Parameters
    ----------
    system : folder that is searched, a file, or a list of them; None: the current folder
    rcut : cutoff of the neighbours, Angstrom
    type_map : elements; default: all elements of the data, in the order in which they appear
    mixed_type : count all elements together
    """
    if not (math.isfinite(rcut) and rcut > 0.0):
        raise InputError(f"rcut is {rcut}; accepted: a positive number, Angstrom")
    folders = select_systems(system=system).paths
    elements = list(type_map) if type_map else elements_of(folders)
    elements = elements or [str(number) for number in range(count_types(folders))]
    systems = [load_system(folder, elements, names=()) for folder in folders]
    if mixed_type:
        systems = [replace(each, types=np.minimum(np.asarray(each.types), 0)) for each in systems]
    shortest, counts = neighbour_statistics(systems, [rcut], 1 if mixed_type else len(elements))
    log.info("min_nbor_dist: %f", shortest)
    log.info("max_nbor_size: [%s]", " ".join(str(number) for number in counts[rcut]))

"""Cell list in NumPy for any positions and cells: bounded memory, time linear in the atoms.

`neighbours.py` uses `vesin`, which is faster, for ordinary structures. Atoms far apart, thin cells and crowds would
cost `vesin` hours, memory or the process, and come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from deepmd.data.lattice import spacing
from deepmd.data.limits import SLACK

MOST_BINS = 2.0**40
"""Most bins along one direction: wider bins find the same neighbours, and float64 numbers bins exactly."""

MOST_CANDIDATES = 2**21
"""Most candidate pairs of a run of centres, and eight times the most bins around these centres."""


class PairArrays(NamedTuple):
    """Centres i (P,), ascending, neighbours j (P,), r_j - r_i (P, 3) and its length (P,), Angstrom."""

    i: np.ndarray
    j: np.ndarray
    disp: np.ndarray
    dist: np.ndarray


def pairs_by_bins(points: np.ndarray, cell: np.ndarray, cutoff: float) -> Iterator[PairArrays]:
    """Yield all pairs nearer than the cutoff (Angstrom), periodic images included, one run of centres after another.

    Parameters
    ----------
    points : positions (n, 3), Angstrom; fractional coordinates between -1 and 1
    cell : a reduced cell (3, 3), Angstrom
    """
    inverse = np.linalg.inv(cell)
    distance = spacing(inverse)
    bins_3 = np.clip(np.floor(distance / (cutoff * (1.0 + SLACK))), 1.0, MOST_BINS)
    reach = np.ceil(cutoff * (1.0 + 0.5 * SLACK) * bins_3 / distance)
    steps_B3 = np.stack(np.meshgrid(*(np.arange(-n, n + 1.0) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    bin_A3 = np.floor(points @ inverse * bins_3)
    wrap_A3 = np.floor(bin_A3 / bins_3)
    # composite key of an occupied bin: its rank among the occupied coordinates of each direction. At most n^3 keys,
    # wherever the atoms are
    ranks = [np.unique(column, return_inverse=True) for column in (bin_A3 - wrap_A3 * bins_3).T]
    values, sizes = [each for each, _ in ranks], [len(each) for each, _ in ranks]
    number_A = np.ravel_multi_index(tuple(rank for _, rank in ranks), sizes)
    order = np.argsort(number_A, kind="stable")
    number_sorted = number_A[order]

    def find_pairs(first: int, last: int) -> Iterator[PairArrays]:
        """Yield the pairs of the centres first <= i < last, in halves where there are too many candidates."""
        # a bin beyond the border of the cell is bin `target` of image floor(target / bins)
        target_3NB = np.moveaxis(bin_A3[first:last, None] + steps_B3, -1, 0)
        image_3NB = np.floor(target_3NB / bins_3[:, None, None])
        target_3NB = target_3NB - image_3NB * bins_3[:, None, None]
        rank_3NB = [
            np.minimum(np.searchsorted(value, each), len(value) - 1)
            for value, each in zip(values, target_3NB, strict=True)
        ]
        there_NB = np.all(
            [value[rank] == each for value, rank, each in zip(values, rank_3NB, target_3NB, strict=True)], axis=0
        )
        centre, step = np.nonzero(there_NB)
        number = np.ravel_multi_index(tuple(rank[centre, step] for rank in rank_3NB), sizes)
        start = np.searchsorted(number_sorted, number)
        count = np.searchsorted(number_sorted, number, side="right") - start
        if count.sum() > MOST_CANDIDATES and last - first > 1:
            yield from find_pairs(first, (first + last) // 2)
            yield from find_pairs((first + last) // 2, last)
            return
        # the atoms of a bin are a run of `order`: candidates are start + 0, ..., start + count - 1
        source = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
        i, j = first + centre[source], order[start[source] + within]
        shift = image_3NB[:, centre, step].T[source] - wrap_A3[j]
        # difference before shift, because the difference of two large, similar coordinates is exact
        disp = points[j] - points[i] + shift @ cell
        square = np.einsum("pk,pk->p", disp, disp)
        kept = np.flatnonzero((square < cutoff * cutoff) & ((i != j) | shift.any(axis=1)))
        yield PairArrays(i[kept], j[kept], disp[kept], np.sqrt(square[kept]))

    run = max(1, MOST_CANDIDATES // (8 * len(steps_B3)))
    for first in range(0, len(points), run):
        yield from find_pairs(first, min(first + run, len(points)))

"""Environment rows of mixed layouts: statistics by slot, and excluded pairs of types."""

from __future__ import annotations

from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Pairs


def excluded(pairs_of_types: tuple[tuple[int, int], ...], pairs: Pairs, *, xp: Namespace) -> Array:
    """Return True (N, M) for real neighbours whose pair of types is listed, in either order."""
    hit_NM = xp.logical_and(pairs.mask_NM, xp.logical_not(pairs.mask_NM))
    centre_N1 = xp.expand_dims(pairs.type_N, axis=1)
    for a, b in {*pairs_of_types, *((b, a) for a, b in pairs_of_types)}:
        both = xp.logical_and(xp.equal(centre_N1, a), xp.equal(pairs.type_NM, b))
        hit_NM = xp.where(xp.logical_and(both, pairs.mask_NM), xp.equal(pairs.type_NM, pairs.type_NM), hit_NM)
    return hit_NM


def normalised(rows_NM4: Array, davg_TS4: Array, dstd_TS4: Array, pairs: Pairs, *, xp: Namespace) -> Array:
    """Return (row - davg) / dstd of the centre's type and the slot; the last slot of a mixed row has the statistics of the last of all."""
    parts = []
    for table in (davg_TS4, dstd_TS4):
        sizes: tuple[Any, ...] = (pairs.widths[0] - 1, xp.shape(table)[1] - pairs.widths[0] + 1)
        used = xp.concat([xp.split(table, sizes, axis=1)[0], table[:, -1:, :]], axis=1)
        parts.append(xp.take(used, pairs.type_N, axis=0))
    return (rows_NM4 - parts[0]) / parts[1]

"""What descriptors share whose neighbours come in one section and are told apart by their types (spec core, sections 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.environment import environment_columns, environment_rows, switch
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.pairs import Pairs


@dataclass(frozen=True)
class Rows:
    """Environment of each centre, slot by slot; the last slot of a row stands for all that remain of `sel`.

    Attributes
    ----------
    rows_NM4 : normalised environment rows, those of excluded neighbours zero
    s_NM : radial column before normalisation and exclusion
    switch_NM : weight by distance, zero in slots that are empty or excluded
    type_NM : type of the neighbour, in slots that are empty or excluded that of the first atom of the frame
    count_NM : how many slots each stands for
    seen_NM : True for a neighbour, not for an empty or excluded slot
    """

    rows_NM4: Array
    s_NM: Array
    switch_NM: Array
    type_NM: Array
    count_NM: Array
    seen_NM: Array


def excluded(pairs: Pairs, exclude_types: tuple[tuple[int, int], ...], *, xp: Namespace) -> Array:
    """Return which slots (N, M) hold a neighbour whose pair of types is in `exclude_types`."""
    out_NM = xp.logical_and(pairs.mask_NM, xp.logical_not(pairs.mask_NM))
    for a, b in sorted({pair for both in exclude_types for pair in (both, both[::-1])}):
        types = xp.logical_and(xp.expand_dims(xp.equal(pairs.type_N, a), axis=1), xp.equal(pairs.type_NM, b))
        out_NM = xp.where(types, pairs.mask_NM, out_NM)
    return out_NM


def raw_rows(options: Any, pairs: Pairs, *, xp: Namespace) -> Array:
    """Environment rows (N, M, 4) before normalisation, zero where empty or excluded; `options` are those of a descriptor."""
    rows_NM4 = environment_rows(pairs.disp_NM3, options.rcut_smth, options.rcut, options.env_protection, xp=xp)
    hidden_NM = excluded(pairs, options.exclude_types, xp=xp)
    return xp.where(xp.expand_dims(hidden_NM, axis=-1), xp.zeros_like(rows_NM4), rows_NM4)


def rows_of(options: Any, slots: int, params: Params, pairs: Pairs, *, xp: Namespace) -> Rows:
    """Return the environment of each centre in the precision of a descriptor.

    Parameters
    ----------
    options : has `rcut`, `rcut_smth`, `env_protection`, `exclude_types` and `precision`
    slots : their number
    params : has `davg` and `dstd` (T, slots, 4), the same in all slots of a type
    """
    disp_NM3 = xp.astype(pairs.disp_NM3, dtype_of(options.precision, xp=xp))
    columns = environment_columns(disp_NM3, options.rcut_smth, options.rcut, options.env_protection, xp=xp)
    mean_N4, std_N4 = (xp.take(params[name][:, 0, :], pairs.type_N, axis=0) for name in ("davg", "dstd"))
    rows_NM4 = (xp.stack(columns, axis=-1) - xp.expand_dims(mean_N4, axis=1)) / xp.expand_dims(std_N4, axis=1)
    switch_NM = switch(xp.sqrt(xp.sum(disp_NM3 * disp_NM3, axis=-1)), options.rcut_smth, options.rcut, xp=xp)
    type_NM, seen_NM = pairs.type_NM, pairs.mask_NM
    if options.exclude_types:
        hidden_NM = excluded(pairs, options.exclude_types, xp=xp)
        rows_NM4 = xp.where(xp.expand_dims(hidden_NM, axis=-1), xp.zeros_like(rows_NM4), rows_NM4)
        switch_NM = xp.where(hidden_NM, xp.zeros_like(switch_NM), switch_NM)
        seen_NM = xp.logical_and(seen_NM, xp.logical_not(hidden_NM))
        type_NM = xp.where(hidden_NM, xp.zeros_like(type_NM) + type_NM[:, -1:], type_NM)
    one_NM = xp.ones_like(switch_NM[:, :-1])
    rest_N1 = xp.ones_like(switch_NM[:, -1:]) * float(slots) - xp.sum(one_NM, axis=1, keepdims=True)
    return Rows(rows_NM4, columns[0], switch_NM, type_NM, xp.concat([one_NM, rest_N1], axis=1), seen_NM)


def check_uniform(tree: dict[str, Any], what: str) -> None:
    """Raise InputError when stored statistics differ between slots: one slot stands for all those that no atom fills."""
    for name in ("davg", "dstd"):
        values = tree["@variables"][name]
        if not isinstance(values, str) and float(abs(values - values[:, :1, :]).max()) > 0.0:
            raise InputError(f"{what}: stored with {name} that differs between slots, which is not supported")


def normalised(rows_NM4: Array, davg_TS4: Array, dstd_TS4: Array, pairs: Pairs, *, xp: Namespace) -> Array:
    """Return (row - davg) / dstd of the centre's type and the slot; the last slot of a mixed row has the statistics of the last of all."""
    parts = []
    for table in (davg_TS4, dstd_TS4):
        sizes: tuple[Any, ...] = (pairs.widths[0] - 1, xp.shape(table)[1] - pairs.widths[0] + 1)
        used = xp.concat([xp.split(table, sizes, axis=1)[0], table[:, -1:, :]], axis=1)
        parts.append(xp.take(used, pairs.type_N, axis=0))
    return (rows_NM4 - parts[0]) / parts[1]

"""loc_frame: neighbours in a local frame, whose axes two neighbours define (Zhang et al., PRL 120, 143001 (2018))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model.contracts import STRICT, Draw, Features, Statistics, Widths
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours, spans
from deepmd.array_model.networks import init_zeros

OPPOSITE = 1e-4
"""Threshold of 1 + cos(angle between the axes). Below, the axes are opposite and the second axis is replaced."""

SMALLEST = 1e-20
"""Threshold of sin^2(angle between the axes): up to here the axes are collinear, and the y and z directions are 0."""


@dataclass(frozen=True)
class LocFrame(Descriptor):
    """Options of the descriptor.

    The descriptor has no nets and no switch: features jump when neighbours change their order or cross the cutoff.

    Attributes
    ----------
    sel_a : nearest neighbours of each type, with distance and direction in the features
    sel_r : next neighbours of each type, with their distance only
    rcut : cutoff, Angstrom
    axis_rule : six integers for each centre type, three for each axis: list (0: `sel_a`, 1: `sel_r`), type and number
        of the neighbour on the axis. (): the first two slots of `sel_a`
    """

    kind = "loc_frame"

    sel_a: tuple[int, ...]
    sel_r: tuple[int, ...]
    rcut: float = 6.0
    axis_rule: tuple[int, ...] = ()

    precision = "default"
    exclude_types: ClassVar[tuple[tuple[int, int], ...]] = ()
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        ntypes, rule = len(self.sel_a), self.axis_rule
        if len(self.sel_r) != ntypes:
            raise ValueError(f"sel_r has {len(self.sel_r)} entries, sel_a has {ntypes}: both need one for each type")
        if min((*self.sel_a, *self.sel_r), default=-1) < 0 or not sum(self.sel):
            raise ValueError(
                f"sel_a is {list(self.sel_a)}, sel_r {list(self.sel_r)}: need numbers of slots >= 0, not all zero"
            )
        if self.rcut <= 0.0:
            raise ValueError(f"rcut is {self.rcut}; it must be positive")
        if not rule and sum(self.sel_a) < 2:
            raise ValueError(
                f"sel_a is {list(self.sel_a)}: without axis_rule it needs two slots, for the neighbours on the axes"
            )
        if rule and len(rule) != 6 * ntypes:
            raise ValueError(f"axis_rule has {len(rule)} numbers; accepted: none, or 6 for each type, {6 * ntypes}")
        for start in range(0, len(rule), 3):
            kind, neighbour, number = rule[start : start + 3]
            if (
                kind not in (0, 1)
                or not 0 <= neighbour < ntypes
                or not 0 <= number < (self.sel_a, self.sel_r)[kind][neighbour]
            ):
                raise ValueError(
                    f"axis_rule: axis {start // 3 % 2 + 1} of type {start // 6} is {list(rule[start : start + 3])}; "
                    "accepted: 0 (sel_a) or 1 (sel_r), a type, and a number below its entry there; "
                    f"sel_a is {list(self.sel_a)}, sel_r {list(self.sel_r)}"
                )

    @property
    def sel(self) -> tuple[int, ...]:
        """Slots of each type."""
        return tuple(a + r for a, r in zip(self.sel_a, self.sel_r, strict=True))

    slots = sel

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Equal to `rcut`, because there is no switch."""
        return self.rcut

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(4 * sum(self.sel_a) + sum(self.sel_r), 0)

    @property
    def part_slots(self) -> tuple[int, ...]:
        """Number of all slots."""
        return (sum(self.sel),)

    def slot_options(self) -> dict[str, tuple[float, Any]]:
        """Return no options, because slots are never automatic."""
        return {}

    def layout(self) -> Layout:
        """Packing of the neighbours: the nearest of each type, whatever the number of other types."""
        return Layout(self.rcut, self.sel, by_section=True)

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Identity statistics (T, D): mean 0, deviation 1."""
        zeros_TD = init_zeros((len(type_map), self.widths.invariant), draw, xp=xp)
        return {"davg": zeros_TD, "dstd": zeros_TD + 1.0}

    def flags(self) -> dict[str, Any]:
        """No parameter is trainable."""
        return {}

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: features (N, D) before normalisation; each feature has its own."""
        return [self._raw(neighbours, xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store mean and deviation (T, D) of each feature."""
        ((mean_TD, std_TD),) = statistics
        return {**params, "davg": mean_TD, "dstd": std_TD}

    def apply(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Features:
        """Features of each centre; empty slots have (0 - mean) / deviation."""
        mean_ND, std_ND = (xp.take(params[name], neighbours.type_N, axis=0) for name in ("davg", "dstd"))
        return Features((self._raw(neighbours, xp=xp) - mean_ND) / std_ND, None)

    def _raw(self, neighbours: Neighbours, *, xp: Namespace) -> Array:
        """Raw features (N, D): (1/r, z/r^2, x/r^2, y/r^2) of the slots of `sel_a`, then 1/r of the slots of `sel_r`.

        Empty slots have 0.
        """
        x, y, z = xp.unstack(neighbours.disp_NM3, axis=-1)
        r_NM = xp.sqrt(x * x + y * y + z * z)
        # the list of a hybrid may reach beyond the cutoff of this member
        seen_NM = xp.logical_and(neighbours.mask_NM, r_NM <= self.rcut)
        inverse_NM1 = xp.expand_dims(xp.where(seen_NM, 1.0 / r_NM, xp.zeros_like(r_NM)), axis=-1)
        whole_NA4, radial_NR4 = self._lists(
            xp.concat([inverse_NM1, inverse_NM1 * neighbours.disp_NM3], axis=-1), neighbours.widths, xp=xp
        )
        frame_N33 = self._frames((whole_NA4, radial_NR4), neighbours.counts, xp=xp)
        inverse_NA1 = whole_NA4[:, :, :1]
        rows_NA4 = xp.concat([inverse_NA1, inverse_NA1 * xp.matmul(whole_NA4[:, :, 1:], frame_N33)], axis=-1)
        return xp.concat([xp.reshape(rows_NA4, (-1, 4 * sum(self.sel_a))), radial_NR4[:, :, 0]], axis=1)

    def _lists(self, rows_NM4: Array, widths: tuple[Any, ...], *, xp: Namespace) -> tuple[Array, Array]:
        """Return the slots of `sel_a` (N, A, 4) and of `sel_r` (N, R, 4), type by type, padded with 0."""
        # padding with `max(sel)` empty slots, so that no slice ends before its slots
        none_N14 = xp.zeros_like(xp.sum(rows_NM4, axis=1, keepdims=True))
        none_NS4 = xp.concat([none_N14] * max(self.sel), axis=1)
        whole, radial = [], []
        for section, near, far in zip(xp.split(rows_NM4, widths, axis=1), self.sel_a, self.sel_r, strict=True):
            padded = xp.concat([section, none_NS4], axis=1)
            whole.append(padded[:, :near, :])
            radial.append(padded[:, near : near + far, :])
        return xp.concat(whole, axis=1), xp.concat(radial, axis=1)

    def _axes(self, centre: int) -> list[tuple[int, int]]:
        """Return (list, slot) of the neighbours on the two axes of a centre type, and of the spare for the second."""
        if not self.axis_rule:
            axes = [(0, 0), (0, 1)]
        else:
            rule, starts = self.axis_rule[6 * centre : 6 * centre + 6], [spans(self.sel_a), spans(self.sel_r)]
            axes = [(kind, starts[kind][neighbour][0] + number) for kind, neighbour, number in (rule[:3], rule[3:])]
        kind, slot = axes[1]
        return [*axes, (kind, min(slot + 1, sum((self.sel_a, self.sel_r)[kind]) - 1))]

    def _frames(self, lists: tuple[Array, Array], counts: tuple[Any, ...], *, xp: Namespace) -> Array:
        """Return the local frame of each centre (N, 3, 3): unit vectors z, x and y as columns, by Gram-Schmidt.

        x points to the neighbour on the first axis, the neighbour on the second one has y > 0, and z = x × y.
        A direction is 0 if a neighbour is missing or the axes are collinear.
        """
        each, parts = (
            [self._axes(centre) for centre in range(len(self.sel))],
            [xp.split(rows, counts, axis=0) for rows in lists],
        )
        x_N3, second_N3, next_N3 = (
            xp.concat([parts[kind][centre][:, slot, 1:] for centre, (kind, slot) in enumerate(chosen)], axis=0)
            for chosen in zip(*each, strict=True)
        )
        opposite_N1 = xp.sum(x_N3 * second_N3, axis=-1, keepdims=True) < OPPOSITE - 1.0
        second_N3 = xp.where(opposite_N1, next_N3, second_N3)
        y_N3 = second_N3 - x_N3 * xp.sum(x_N3 * second_N3, axis=-1, keepdims=True)
        square_N1 = xp.sum(y_N3 * y_N3, axis=-1, keepdims=True)
        defined_N1 = square_N1 > SMALLEST
        y_N3 = xp.where(
            defined_N1, y_N3 / xp.sqrt(xp.where(defined_N1, square_N1, xp.ones_like(square_N1))), xp.zeros_like(y_N3)
        )
        (x1, x2, x3), (y1, y2, y3) = xp.unstack(x_N3, axis=-1), xp.unstack(y_N3, axis=-1)
        z_N3 = xp.stack([x2 * y3 - x3 * y2, x3 * y1 - x1 * y3, x1 * y2 - x2 * y1], axis=-1)
        return xp.stack([z_N3, x_N3, y_N3], axis=-1)

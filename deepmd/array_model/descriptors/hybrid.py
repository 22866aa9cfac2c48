"""hybrid: concatenated descriptors, each with its own cutoff (docs/theory/hybrid.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import STRICT, DescriptorField, Draw, Features, Statistics, Widths
from deepmd.array_model.cut_neighbours import cut_slots, unite_layouts
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.spectral import Plan


@dataclass(frozen=True)
class Hybrid(Descriptor):
    """Its features are those of its members, one after the other.

    One neighbour list serves all members. A member reads the nearest slots of every section, up to its own `sel`. Atoms
    beyond the cutoff of a member occupy slots, with switch 0. If some members are mixed and others sectioned, every
    neighbour is listed twice.
    """

    kind = "hybrid"
    children: ClassVar[tuple[str, ...]] = ("members",)
    sections = {"members": "/list/{}"}

    members: tuple[DescriptorField, ...]

    aliases = {"list": "members"}
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.members or any(isinstance(member, Hybrid) for member in self.members):
            raise ValueError("list: needs at least one descriptor, none of them a hybrid")
        if any(member.needs_neighbour_features for member in self.members):
            raise ValueError("list: descriptors that pass messages (dpa2, dpa3) are not supported as members yet")

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Largest cutoff of the members, Angstrom."""
        return max(member.rcut for member in self.members)  # type: ignore[no-any-return]

    @property
    def mixed(self) -> bool:  # type: ignore[override]
        """True if any member is mixed."""
        return any(member.mixed for member in self.members)

    @property
    def mixed_types(self) -> bool:
        """One fitting net serves all types if any member needs a single one."""
        return any(member.mixed_types for member in self.members)

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots of each section."""
        return self.layout().sel

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        each = [member.widths for member in self.members]
        return Widths(sum(widths.invariant for widths in each), sum(widths.equivariant for widths in each))

    @property
    def part_slots(self) -> tuple[int, ...]:
        """Slots of each part of each member."""
        return tuple(total for member in self.members for total in member.part_slots)

    def layout(self) -> Layout:
        """Packing of the neighbours: one list for all members."""
        return unite_layouts([member.layout() for member in self.members])

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters of each member from its own seed."""
        return {"members": [member.init(type_map, draw, xp=xp) for member in self.members]}

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: environment rows of each part of each member."""
        lists = [cut_slots(neighbours, self.layout(), member.layout(), xp=xp) for member in self.members]
        return [rows for member, own in zip(self.members, lists, strict=True) for rows in member.raw_rows(own, xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store in each member the statistics of its parts."""
        remaining, out = iter(statistics), []
        for member, own in zip(self.members, params["members"], strict=True):
            out.append(member.with_statistics(own, [next(remaining) for _ in member.part_slots], xp=xp))
        return {"members": out}

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> Features:
        """Concatenated features of the members for each centre."""
        lists = [cut_slots(neighbours, self.layout(), member.layout(), xp=xp) for member in self.members]
        each = [
            member.apply_under(own, near, conditions, (expansion,), xp=xp)
            for member, own, near, expansion in zip(self.members, params["members"], lists, plan, strict=True)
        ]
        equivariant = [features.equivariant_NG3 for features in each if features.equivariant_NG3 is not None]
        return Features(
            invariant_ND=xp.concat([features.invariant_ND for features in each], axis=1),
            equivariant_NG3=xp.concat(equivariant, axis=1) if equivariant else None,
        )

"""hybrid: several descriptors side by side, each with its own cutoff (spec core, section 10)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from deepmd.array_model.descriptors.base import Descriptor, Statistics
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params
from deepmd.array_model.pairs import Layout, Pairs
from deepmd.array_model.registry import register

COARSEST_FIRST = ("bfloat16", "float16", "float32", "float64")


@register("descriptor", "hybrid")
@dataclass(frozen=True)
class Hybrid(Descriptor):
    """Its features are those of its members, one after the other.

    One neighbour list serves all. Of every section a member takes the nearest slots up to its own `sel`; atoms beyond its own cutoff
    are there, with a switch of zero. Where a member wants mixed neighbours and another one sections, each neighbour comes twice.
    """

    members: tuple[Any, ...]

    names = {"list": "members"}
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.members or any(isinstance(member, Hybrid) for member in self.members):
            raise ValueError("list: needs at least one descriptor, none of them a hybrid")
        if any(member.kind in ("dpa2", "dpa3") for member in self.members):
            raise ValueError("list: descriptors that pass messages (dpa2, dpa3) are not supported as members yet")

    # -- what the rest of the package asks of a descriptor ---------------------------------------------------------

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Cutoff of the farthest-sighted member, Angstrom."""
        return max(member.rcut for member in self.members)  # type: ignore[no-any-return]

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Where the switch of that member begins."""
        return max((member.rcut, member.rcut_smth) for member in self.members)[1]  # type: ignore[no-any-return]

    @property
    def precision(self) -> str:  # type: ignore[override]
        """The coarsest precision of the members."""
        used = {PRECISIONS[member.precision] for member in self.members}
        return next(name for name in COARSEST_FIRST if name in used)

    @property
    def mixed(self) -> bool:  # type: ignore[override]
        """Mixed if any member is."""
        return any(member.mixed for member in self.members)

    @property
    def mixed_types(self) -> bool:
        """One fitting net serves all types if that is so with any member."""
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
    def slot_totals(self) -> tuple[int, ...]:
        """Slots of each part of each member."""
        return tuple(total for member in self.members for total in member.slot_totals)

    def parts(self) -> tuple[Descriptor, ...]:
        """Return the members."""
        return self.members

    def with_parts(self, parts: tuple[Descriptor, ...]) -> Hybrid:
        """Return the hybrid of other members."""
        return replace(self, members=parts)

    def each_part(self, params: Params) -> list[tuple[str, Any, Params]]:
        """Return the members: the path in the section, the member, its parameters."""
        each = zip(self.members, params["members"], strict=True)
        return [(f"/list/{number}", member, own) for number, (member, own) in enumerate(each)]

    def layout(self) -> Layout:
        """How neighbours are to be packed: each section as wide as the member with most slots needs it."""
        each = [(member, member.layout()) for member in self.members]
        for member, layout in each:
            if layout.inner or layout.messages:
                raise InputError(f"model/descriptor/list: {member.kind} in a hybrid is not supported")
        sectioned = [layout.sel for member, layout in each if not member.mixed]
        typed = tuple(max(sel) for sel in zip(*sectioned, strict=True))
        if not self.mixed:
            return Layout(self.rcut, typed)
        return Layout(self.rcut, (max(sum(layout.sel) for _, layout in each),), mixed=True, typed=typed)

    def fresh(self, type_map: tuple[str, ...], draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters of each member from its own seed."""
        return {"members": [member.fresh(type_map, draw, xp=xp) for member in self.members]}

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change."""
        return {"members": [member.trainables() for member in self.members]}

    def in_precision(self, params: Params, cast: Any) -> Params:
        """Return the parameters in the precision of each member."""
        return {"members": [member.in_precision(own, cast) for member, own in zip(self.members, params["members"], strict=True)]}

    def raw_rows(self, pairs: Pairs, *, xp: Namespace) -> list[Array]:
        """Environment rows of each part of each member."""
        return [rows for member in self.members for rows in member.raw_rows(self._cut(member, pairs, xp=xp), xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Give each member the statistics of its parts."""
        remaining, out = iter(statistics), []
        for member, own in zip(self.members, params["members"], strict=True):
            out.append(member.with_statistics(own, [next(remaining) for _ in member.slot_totals], xp=xp))
        return {"members": out}

    def apply(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Features:
        """Features of each centre."""
        each = [member.apply(own, self._cut(member, pairs, xp=xp), xp=xp) for member, own in zip(self.members, params["members"], strict=True)]
        equivariant = [features.equivariant_NG3 for features in each if features.equivariant_NG3 is not None]
        return Features(
            invariant_ND=xp.concat([features.invariant_ND for features in each], axis=1),
            equivariant_NG3=xp.concat(equivariant, axis=1) if equivariant else None,
        )

    # -- expansions of the members' nets ----------------------------------------------------------------------------

    @property
    def evaluation(self) -> str | int:  # type: ignore[override]
        """How the members are evaluated: the largest number of terms, or what is asked for."""
        each = [member.evaluation for member in self.members]
        planned = [evaluation for evaluation in each if isinstance(evaluation, int)]
        return max(planned) if planned else next(choice for choice in ("spectral", "auto", "direct") if choice in each)

    def with_evaluation(self, evaluation: str | int) -> Hybrid:
        """Return the hybrid with another way to evaluate its members, except those that are to be evaluated directly."""
        return replace(self, members=tuple(m if m.evaluation == "direct" else m.with_evaluation(evaluation) for m in self.members))

    def expanded(self, params: Params, closest: float | None, *, stored: bool, xp: Namespace) -> tuple[Hybrid, Params, str]:
        """Plan expansions of the members that have one, in training all of the same number of terms (see `Expandable`)."""

        def plan(members: list[Any]) -> list[tuple[Any, Params, str]]:
            return [m.expanded(own, closest, stored=stored, xp=xp) for m, own in zip(members, params["members"], strict=True)]

        each = plan(list(self.members))
        counts = [config.evaluation for config, _, _ in each if isinstance(config.evaluation, int)]
        if counts and not stored:  # one number describes the plan, so that a restart finds the same
            each = plan([config.with_evaluation(max(counts)) if isinstance(config.evaluation, int) else config for config, _, _ in each])
        reasons = [] if counts else [reason for _, _, reason in each if reason]
        return replace(self, members=tuple(config for config, _, _ in each)), {"members": [own for _, own, _ in each]}, "; ".join(reasons)

    def without_tables(self, params: Params) -> Params:
        """Return the parameters without expansions."""
        return {"members": [member.without_tables(own) for member, own in zip(self.members, params["members"], strict=True)]}

    def domain_start(self, params: Params) -> float:
        """Distance (Angstrom) below which expansions continue linearly; 0 without expansions."""
        return max(member.domain_start(own) for member, own in zip(self.members, params["members"], strict=True))  # type: ignore[no-any-return]

    def first_atom_matters(self, params: Params) -> bool:
        """Whether results of any member depend on the first atom of a frame. On the host."""
        return any(member.first_atom_matters(own) for member, own in zip(self.members, params["members"], strict=True))

    # -- parts ------------------------------------------------------------------------------------------------------

    def _cut(self, member: Descriptor, pairs: Pairs, *, xp: Namespace) -> Pairs:
        """Return the pairs that a member would have been given alone."""
        sel = member.layout().sel

        def mine(array: Array) -> list[Array]:
            sections = xp.split(array, pairs.widths, axis=1)
            if member.mixed:  # the last slot of a row stands for all that remain
                row = sections[-1]
                return [xp.concat([row[:, :-1, ...][:, : _stop(pairs.widths[-1] - 1, sum(sel)), ...], row[:, -1:, ...]], axis=1)]
            each = zip(sections[: len(sel)], pairs.widths[: len(sel)], sel, strict=True)
            return [section[:, : _stop(width, most), ...] for section, width, most in each]

        masks = mine(pairs.mask_NM)
        return replace(
            pairs,
            disp_NM3=xp.concat(mine(pairs.disp_NM3), axis=1),
            mask_NM=xp.concat(masks, axis=1),
            index_NM=xp.concat(mine(pairs.index_NM), axis=1),
            widths=tuple(xp.shape(mask)[1] for mask in masks),
            type_NM=xp.concat(mine(pairs.type_NM), axis=1) if member.mixed else pairs.type_NM[:, :0],
        )

    def section(self) -> dict[str, Any]:
        """Return the section of the input that describes it."""
        return {"type": self.kind, "list": [member.section() for member in self.members]}


def _stop(width: Any, most: int) -> int:
    """Return the end of a slice of at most `most` slots; frameworks whose sizes are not known yet cut it themselves."""
    return min(width, most) if isinstance(width, int) else most

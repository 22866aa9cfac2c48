"""Descriptors whose embedding nets read one number for each pair of atoms, and can be replaced by expansions (see `spectral`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from deepmd.array_model import spectral
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import Net, apply_net
from deepmd.array_model.tree import map_leaves


class Expandable(Descriptor):
    """A dataclass with the field `evaluation`. A kind gives `net` and `_nets`, or `_values`, and evaluates what `_expansion` returns."""

    env_protection: float
    activation_function: str
    neuron: tuple[int, ...]

    def functions(self, ntypes: int) -> tuple[int, ...]:
        """Return how many functions of one number each group of them has: one for each neighbour type, in a group for each centre type."""
        return (ntypes,) * ntypes

    def net(self) -> Net:
        """Shape of the embedding nets."""
        raise NotImplementedError

    def _nets(self, params: Params, centre: int) -> list[Params]:
        """Nets of a centre type, by neighbour type."""
        raise NotImplementedError

    def _embeddings(self, params: Params, centre: int, *, xp: Namespace) -> list[Callable[[Array], Array]]:
        """Functions from s as the nets read it (..., 1) to (..., G), of a centre type, by neighbour type."""
        return [partial(apply_net, self.net(), net, xp=xp) for net in self._nets(params, centre)]

    def _obstacle(self, ntypes: int, *, stored: bool) -> str:
        """Return why there can be no expansion, or why it would not pay where the choice is left open; "" if neither is so."""
        return "" if PRECISIONS[self.precision] in spectral.TOLERANCE else f"the precision is {self.precision}"

    def with_evaluation(self, evaluation: str | int) -> Any:
        """Return the descriptor with another way to evaluate its nets."""
        return replace(self, evaluation=evaluation)  # type: ignore[type-var]

    def _expansion(self, params: Params, centre: int, *, xp: Namespace) -> tuple[list[Array], Array]:
        """Return what contracts the moments of a group, (2K, G) for each function, and these at x = -1 (J, G): stored, or from the nets."""
        tables = params["tables"]
        if "coefficients" in tables:
            sizes = (2 * int(self.evaluation),) * self.functions(len(tables["coefficients"]))[centre]
            return xp.split(tables["coefficients"][centre], sizes, axis=0), tables["starts"][centre]
        each = [xp.matmul(tables["transform"], values) for values in self._values(params, centre, tables["nodes"], xp=xp)]
        return each, xp.concat([spectral.at_start(c_KG, xp=xp) for c_KG in each], axis=0)

    def _values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        """Functions of a centre type, (K, G) at some s before normalisation."""
        s_K1 = self._normalised(params, centre, s_K, xp=xp)
        return [embedding(s_K1) for embedding in self._embeddings(params, centre, xp=xp)]

    def _reach(self, params: Params, s: float, *, xp: Namespace) -> float:
        """Return the end of the domain when s is the largest radial part of a row."""
        return s

    def _argument(self, x: Array, scale: Array, *, xp: Namespace) -> Array:
        """Return what the functions read at an abscissa."""
        return (x + 1.0) / scale

    def _pays(self, count: int) -> bool:
        """Whether an expansion of this many terms costs less than the nets."""
        return True

    def _normalised(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> Array:
        """Return s (K, 1) as the nets of a centre type read it."""
        return xp.expand_dims((s_K - params["davg"][centre, 0, 0]) / params["dstd"][centre, 0, 0], axis=-1)

    def expanded(self, params: Params, closest: float | None, *, stored: bool, xp: Namespace) -> tuple[Any, Params, str]:
        """Plan an expansion of the embedding nets, on the host. A number of terms planned before is never lowered.

        Parameters
        ----------
        params : parameters; an expansion among them is replaced
        closest : shortest distance of the data, Angstrom, if it is known
        stored : keep the coefficients with the plan; otherwise they follow the nets, as training needs

        Returns
        -------
        Options and parameters with the expansion, or those of direct evaluation and, if it was not asked for, the reason.
        """
        params = {name: value for name, value in params.items() if name != "tables"}
        direct = self.with_evaluation("direct")
        if self.evaluation == "direct":
            return direct, params, ""
        ntypes = xp.shape(params["davg"])[0]
        if reason := self._obstacle(ntypes, stored=stored):
            return direct, params, reason
        for name in ("davg", "dstd"):
            if float(xp.max(xp.abs(params[name] - params[name][:, 0:1, :]), axis=None)) > 0.0:
                return direct, params, f"{name} differs between the slots of a type"
        wide = map_leaves(lambda leaf: xp.astype(leaf, xp.float64), params)
        like = xp.zeros_like(wide["davg"][0, 0, 0:1])
        start = xp.concat([like + spectral.domain_start(closest), like, like], axis=0)
        largest = float(environment_rows(start, self.rcut_smth, self.rcut, self.env_protection, xp=xp)[0])
        if largest <= 0.0:
            return direct, params, f"the shortest known distance, {closest} Angstrom, is not within the cutoff"
        largest, groups = self._reach(wide, largest, xp=xp), range(len(self.functions(ntypes)))

        def values(nodes: list[float]) -> Array:
            x_Q = self._argument(xp.asarray(nodes), xp.asarray(2.0 / largest), xp=xp)
            return xp.concat([net for group in groups for net in self._values(wide, group, x_Q, xp=xp)], axis=1)

        before = 0 if stored or isinstance(self.evaluation, str) else self.evaluation
        count = spectral.terms_planned(values, spectral.TOLERANCE[PRECISIONS[self.precision]], before, stored=stored, xp=xp)
        if count is None:
            return direct, params, f"the embedding nets need more than {spectral.MOST_TERMS} terms"
        if self.evaluation == "auto" and not self._pays(count):
            return direct, params, f"the embedding nets themselves cost less than {count} terms"
        config = self.with_evaluation(count)
        tables = {**spectral.tables(count, largest, xp=xp), "closest": start[0]}
        tables["nodes"] = self._argument(xp.asarray(spectral.nodes(count)), tables["scale"], xp=xp)
        if stored:
            both = [config._expansion({**wide, "tables": tables}, group, xp=xp) for group in groups]
            kept = {name: tables[name] for name in ("scale", "closest")}
            tables = {**kept, "coefficients": [xp.concat(c, axis=0) for c, _ in both], "starts": [start_JG for _, start_JG in both]}
        dtype = dtype_of(self.precision, xp=xp)
        return config, {**params, "tables": map_leaves(lambda leaf: xp.astype(leaf, dtype), tables)}, ""

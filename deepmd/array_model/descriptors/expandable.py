"""Descriptors whose embedding nets read one number for each pair of atoms, and can be replaced by expansions (see `spectral`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deepmd.array_model import spectral
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import Net, apply_net
from deepmd.array_model.tree import map_leaves


class Expandable(Descriptor):
    """A dataclass with the field `evaluation`. A kind gives `_net` and `_nets`, or `_values`, and evaluates what `_expansion` returns."""

    env_protection: float
    activation_function: str

    def functions(self, ntypes: int) -> int:
        """Return of how many functions of one number the nets of each centre type consist: J."""
        return ntypes

    def _net(self) -> Net:
        raise NotImplementedError

    def _nets(self, params: Params, centre: int) -> list[Params]:
        """Nets of a centre type, by neighbour type."""
        raise NotImplementedError

    def _obstacle(self, ntypes: int) -> str:
        """Return why there can be no expansion, or why it would not pay where the choice is left open; "" if neither is so."""
        return "" if PRECISIONS[self.precision] in spectral.TOLERANCE else f"the precision is {self.precision}"

    def with_evaluation(self, evaluation: str | int) -> Any:
        """Return the descriptor with another way to evaluate its nets."""
        return replace(self, evaluation=evaluation)  # type: ignore[type-var]

    def _expansion(self, params: Params, centre: int, *, xp: Namespace) -> tuple[list[Array], Array]:
        """Return what contracts the moments of a centre type, (2K, G) for each function, and these at s = 0 (J, G): stored, or from the nets."""
        tables = params["tables"]
        if "coefficients" in tables:
            sizes = (2 * int(self.evaluation),) * self.functions(len(tables["coefficients"]))
            return xp.split(tables["coefficients"][centre], sizes, axis=0), tables["starts"][centre]
        each = [xp.matmul(tables["transform"], values) for values in self._values(params, centre, tables["nodes"], xp=xp)]
        return each, xp.concat([spectral.at_start(c_KG, xp=xp) for c_KG in each], axis=0)

    def _values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        """Functions of a centre type, (K, G) at some s before normalisation."""
        s_K1 = self._normalised(params, centre, s_K, xp=xp)
        return [apply_net(self._net(), net, s_K1, xp=xp) for net in self._nets(params, centre)]

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
        if reason := self._obstacle(ntypes):
            return direct, params, reason
        for name in ("davg", "dstd"):
            if float(xp.max(xp.abs(params[name] - params[name][:, 0:1, :]), axis=None)) > 0.0:
                return direct, params, f"{name} differs between the slots of a type"
        wide = map_leaves(lambda leaf: xp.astype(leaf, xp.float64), params)
        like = xp.zeros_like(wide["davg"][0, 0, 0:3])
        row_4 = environment_rows(like + xp.asarray([spectral.domain_start(closest), 0.0, 0.0]), self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        largest = float(row_4[0])
        if largest <= 0.0:
            return direct, params, f"the shortest known distance, {closest} Angstrom, is not within the cutoff"

        def values(nodes: list[float]) -> Array:
            s_Q = (xp.asarray(nodes) + 1.0) * (0.5 * largest)
            return xp.concat([net for centre in range(ntypes) for net in self._values(wide, centre, s_Q, xp=xp)], axis=1)

        before = 0 if stored or isinstance(self.evaluation, str) else self.evaluation
        count = spectral.terms_planned(values, spectral.TOLERANCE[PRECISIONS[self.precision]], before, stored=stored, xp=xp)
        if count is None:
            return direct, params, f"the embedding nets need more than {spectral.MOST_TERMS} terms"
        config = self.with_evaluation(count)
        tables = {**spectral.tables(count, largest, xp=xp), "closest": like[0] + spectral.domain_start(closest)}
        if stored:
            both = [config._expansion({**wide, "tables": tables}, centre, xp=xp) for centre in range(ntypes)]
            kept = {name: tables[name] for name in ("scale", "closest")}
            tables = {**kept, "coefficients": [xp.concat(c, axis=0) for c, _ in both], "starts": [start for _, start in both]}
        dtype = dtype_of(self.precision, xp=xp)
        return config, {**params, "tables": map_leaves(lambda leaf: xp.astype(leaf, dtype), tables)}, ""

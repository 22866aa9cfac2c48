"""Descriptors whose embedding nets read one number for each pair of atoms, so that `spectral` can expand them."""

from __future__ import annotations

from deepmd.array_model import spectral
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Features
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.tree import map_leaves


class Expandable(Descriptor):
    """A dataclass with the field `evaluation`. A kind gives `values`, and `apply` takes an expansion or None."""

    env_protection: float
    activation_function: str
    neuron: tuple[int, ...]

    def functions(self, ntypes: int) -> tuple[int, ...]:
        """Return the number of functions in each group: one for each neighbour type, a group for each centre type."""
        return (ntypes,) * ntypes

    def obstacle(self, ntypes: int, *, auto: bool, stored: bool) -> str:
        """Return the reason not to expand: impossible or, under `auto`, slower; "" if expanding is fine."""
        return ""

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: spectral.Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre, by the expansion of a plan or by the nets."""
        return self.apply(params, neighbours, *plan, xp=xp)

    def apply(
        self, params: Params, neighbours: Neighbours, expansion: spectral.Expansion | None = None, *, xp: Namespace
    ) -> Features:
        """Features of each centre, by an expansion or by the nets."""
        raise NotImplementedError

    def contractions(
        self, params: Params, expansion: spectral.Expansion, centre: int, *, xp: Namespace
    ) -> tuple[list[Array], Array]:
        """Return what contracts the moments of a group, (2K, G) for each function, and the functions at x = -1 (J, G).

        Coefficients are stored, or follow from the nets: in float64, because slopes lose digits with the square of the
        number of terms.
        """
        tables = expansion.tables
        if "coefficients" in tables:
            sizes = (2 * expansion.terms,) * self.functions(len(tables["coefficients"]))[centre]
            return xp.split(tables["coefficients"][centre], sizes, axis=0), tables["starts"][centre]
        wide = map_leaves(lambda leaf: xp.astype(leaf, xp.float64), params)
        dtype = dtype_of(self.precision, xp=xp)
        values = self.values(wide, centre, tables["nodes"], xp=xp)
        each = [xp.astype(xp.matmul(tables["transform"], value), dtype) for value in values]
        return each, xp.concat([spectral.at_start(c_KG, xp=xp) for c_KG in each], axis=0)

    def values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        """Functions of a centre type, (K, G) at some s before normalisation."""
        raise NotImplementedError

    def reach(self, params: Params, s: float, *, xp: Namespace) -> float:
        """Return the end of the domain when s is the largest radial part of a row."""
        return s

    def argument(self, x: Array, scale: Array, *, xp: Namespace) -> Array:
        """Return what the functions read at an abscissa."""
        return (x + 1.0) / scale

    def pays(self, count: int) -> bool:
        """Whether an expansion of this many terms costs less than the nets."""
        return True

    def _normalise(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> Array:
        """Return s (K, 1) as the nets of a centre type read it."""
        return xp.expand_dims((s_K - params["davg"][centre, 0, 0]) / params["dstd"][centre, 0, 0], axis=-1)

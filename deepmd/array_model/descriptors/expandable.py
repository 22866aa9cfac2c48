"""Base class of descriptors whose embedding nets read one scalar, so that Chebyshev expansions can replace the nets.

The scalar is the radial part of a row, or in se_e3 a scalar product of two rows. Evaluation: `spectral`; planning:
`deepmd/plan/expansions.py`.
"""

from __future__ import annotations

from deepmd.array_model import spectral
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Features
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.tree import map_leaves


class Expandable(Descriptor):
    """Dataclass with the field `evaluation`. A kind defines `values`; its `apply` takes an expansion or None."""

    env_protection: float
    activation_function: str
    neuron: tuple[int, ...]

    def functions(self, ntypes: int) -> tuple[int, ...]:
        """Return the number of functions of each group: a group per centre type, a function per neighbour type."""
        return (ntypes,) * ntypes

    def obstacle(self, ntypes: int, *, auto: bool, stored: bool) -> str:
        """Return the reason not to expand: impossible or, under `auto`, slower; "" if expanding is fine."""
        return ""

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: spectral.Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre by the one expansion of the plan, or by the nets."""
        return self.apply(params, neighbours, *plan, xp=xp)

    def apply(
        self, params: Params, neighbours: Neighbours, expansion: spectral.Expansion | None = None, *, xp: Namespace
    ) -> Features:
        """Features of each centre by an expansion, or by the nets."""
        raise NotImplementedError

    def contractions(
        self, params: Params, expansion: spectral.Expansion, centre: int, *, xp: Namespace
    ) -> tuple[list[Array], Array]:
        """Return the coefficients (2K, G) of each function of a group, and the functions at x = -1 (J, G).

        Coefficients are stored in the plan, or follow from the nets at the nodes. Then the nets are evaluated in
        float64, because slopes lose digits with the square of the number of terms.
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
        """Functions of a centre type, (K, G) each, at values of s before normalisation."""
        raise NotImplementedError

    def domain_end(self, params: Params, s: float, *, xp: Namespace) -> float:
        """Return the end of the domain of the argument if s is the largest radial part of a row."""
        return s

    def argument(self, x: Array, scale: Array, *, xp: Namespace) -> Array:
        """Return the argument of the functions at an abscissa: the inverse of `spectral.abscissa`."""
        return (x + 1.0) / scale

    def is_cheaper(self, count: int) -> bool:
        """Break-even: True if an expansion of `count` terms costs less than the nets."""
        return True

    def _normalise(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> Array:
        """Return s (K, 1) as the nets of a centre type read it."""
        return xp.expand_dims((s_K - params["davg"][centre, 0, 0]) / params["dstd"][centre, 0, 0], axis=-1)

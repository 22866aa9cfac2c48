"""What every descriptor returns."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.namespace import Array


@dataclass(frozen=True)
class Widths:
    """Widths D of the invariant and G of the equivariant features; G is 0 where there are none."""

    invariant: int
    equivariant: int


@dataclass(frozen=True)
class Features:
    """Features of each centre atom, in global precision.

    Attributes
    ----------
    invariant_ND : unchanged by rotation; what the fitting nets read
    equivariant_NG3 : rotates with the system; what dipole and polarizability fittings need besides. None where there is none
    """

    invariant_ND: Array
    equivariant_NG3: Array | None

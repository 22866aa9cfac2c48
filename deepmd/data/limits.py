"""Limits of the neighbour search: structures that are refused, and the margin for rounding."""

FLATTEST = 1e-8
"""Smallest volume of a cell over the product of its lengths; below, rounding decides the volume."""

LARGEST = 1e50
"""Longest lattice vector, Angstrom, and one over the shortest: powers of lengths stay in the range of float64."""

FARTHEST = 2.0**26
"""Upper bound of coordinates, Angstrom: beyond, float64 is coarser than 1e-8 Angstrom, too coarse for forces."""

SLACK = 1e-6
"""Relative excess of the width of bins over the cutoff, so that a rounded bin number loses no neighbour."""

MOST_NEIGHBOURS = 1000
"""Most neighbours of an atom; more are a mistake, mostly of units."""

"""Limits of the search for neighbours: structures that are refused, and the room for rounding."""

FLATTEST = 1e-8
"""Volume of a cell over the product of its lengths, below which it is none: rounding decides what is left of it."""

LARGEST = 1e50
"""Longest lattice vector, Angstrom, and one over the shortest: their powers are still numbers."""

FARTHEST = 2.0**26
"""From here on (Angstrom) numbers of float64 are more than 1e-8 apart, and positions say too little of forces."""

SLACK = 1e-6
"""Bins are wider than the cutoff by this share, so that a rounded bin number loses no neighbour."""

MOST_NEIGHBOURS = 1000
"""PairList of an atom; more are a mistake, mostly of units."""

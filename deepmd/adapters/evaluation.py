"""What an evaluator is asked and what it answers: the one interface that inference has to a framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepmd.array_model.pairs import Conditions, Pairs

Evaluator = Callable[[Pairs, Conditions, int, int, frozenset[str]], dict[str, np.ndarray]]
"""evaluator(pairs, conditions, num_atoms, num_frames, wanted) -> arrays in the order of `pairs`.

`wanted` names outputs: `atom_energy` (N,), `energy` (F,), `force` (A, 3), `virial` (F, 9), `atom_virial` (A, 9),
`descriptor` (N, D). NumPy in, NumPy out.
"""

OUTPUTS = ("atom_energy", "energy", "force", "virial", "atom_virial", "descriptor")
NEEDS_GRADIENT = frozenset({"force", "virial", "atom_virial"})


def assemble(
    energy_N: Any, descriptor_ND: Any, grad_NM3: Any, pairs: Pairs, num_atoms: Any, num_frames: Any, wanted: frozenset[str], *, xp: Any
) -> dict[str, Any]:
    """Return the wanted outputs from atomic energies, features and dE/d(displacement) (None if no derivative is wanted)."""
    from deepmd.array_model import derivatives

    makers: dict[str, Callable[[], Any]] = {
        "atom_energy": lambda: energy_N,
        "energy": lambda: xp.segment_sum(energy_N, pairs.frame_N, num_frames),
        "force": lambda: derivatives.forces(grad_NM3, pairs, num_atoms, xp=xp),
        "virial": lambda: derivatives.virials(grad_NM3, pairs, num_frames, xp=xp),
        "atom_virial": lambda: derivatives.atomic_virials(grad_NM3, pairs, num_atoms, xp=xp),
        "descriptor": lambda: descriptor_ND,
    }
    return {name: makers[name]() for name in OUTPUTS if name in wanted}

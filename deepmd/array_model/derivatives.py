"""From dE/d(displacement) to forces and virials (spec core, sections 1 and 12)."""

from __future__ import annotations

from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.pairs import Pairs


def forces(grad_NM3: Array, pairs: Pairs, num_atoms: Any, *, xp: Namespace) -> Array:
    """Return forces (A, 3) in eV/Angstrom from g = dE/d(r_j - r_i): F_i += g_ij, F_j -= g_ij."""
    on_centres = xp.segment_sum(xp.sum(grad_NM3, axis=1), pairs.centre_N, num_atoms)
    return on_centres - xp.segment_sum(xp.reshape(grad_NM3, (-1, 3)), xp.reshape(pairs.index_NM, (-1,)), num_atoms)


def virials(grad_NM3: Array, pairs: Pairs, num_frames: Any, *, xp: Namespace) -> Array:
    """Virials (F, 9) in eV, W_kl = -sum g_k d_l, flattened with the force component first."""
    w_N33 = -xp.matmul(xp.matrix_transpose(grad_NM3), pairs.disp_NM3)
    return xp.segment_sum(xp.reshape(w_N33, (-1, 9)), pairs.frame_N, num_frames)


def atomic_virials(grad_NM3: Array, pairs: Pairs, num_atoms: Any, *, xp: Namespace) -> Array:
    """Atomic virials (A, 9) in eV, each pair's share attributed to the neighbour j; they sum to the virial."""
    w_NM33 = -xp.expand_dims(grad_NM3, axis=-1) * xp.expand_dims(pairs.disp_NM3, axis=-2)
    return xp.segment_sum(xp.reshape(w_NM33, (-1, 9)), xp.reshape(pairs.index_NM, (-1,)), num_atoms)

"""Forces and virials from g = dE/d(displacement) (docs/theory/conventions.md#energy-forces-and-virials)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.neighbours import Edges


def forces(grad_NM3: Array, edges: Edges, num_atoms: Any, *, xp: Namespace) -> Array:
    """Return forces (A, 3) in eV/Angstrom from g = dE/d(r_j - r_i): F_i += g_ij, F_j -= g_ij."""
    on_centres = xp.segment_sum(xp.sum(grad_NM3, axis=1), edges.centre_N, num_atoms)
    return on_centres - xp.segment_sum(xp.reshape(grad_NM3, (-1, 3)), xp.reshape(edges.index_NM, (-1,)), num_atoms)


def virials(grad_NM3: Array, edges: Edges, num_frames: Any, *, xp: Namespace) -> Array:
    """Return virials (F, 9) in eV, W_kl = -sum g_k d_l, flattened with the force component first."""
    w_N33 = -xp.matmul(xp.matrix_transpose(grad_NM3), edges.disp_NM3)
    return xp.segment_sum(xp.reshape(w_N33, (-1, 9)), edges.frame_N, num_frames)


def atomic_virials(grad_NM3: Array, edges: Edges, num_atoms: Any, *, xp: Namespace) -> Array:
    """Return atomic virials (A, 9) in eV; the share of a pair belongs to the neighbour j. Their sum is the virial."""
    w_NM33 = -xp.expand_dims(grad_NM3, axis=-1) * xp.expand_dims(edges.disp_NM3, axis=-2)
    return xp.segment_sum(xp.reshape(w_NM33, (-1, 9)), xp.reshape(edges.index_NM, (-1,)), num_atoms)


def atomic_virials_of_messages(
    grad_NM3: Array, moment_grads_3NM3: Sequence[Array], edges: Edges, num_atoms: Any, *, xp: Namespace
) -> Array:
    """Return atomic virials (A, 9) in eV of message-passing models: E_i depends on more than the neighbours of i.

    W_J,kl = -sum_i dE_i/dr_J,k (r_J - r_i)_l for every atom and image J (docs/theory/conventions.md#atomic-virial).
    An edge d = r_b - r_a with g = dE/dd adds g_k r_a,l - m_l,k to atom a and -(g_k r_b,l - m_l,k) to atom b.
    `moment_grads_3NM3` holds m_l = d(sum_i E_i r_i,l)/dd for each direction l. Positions r_i lie inside the cell:
    atomic virials depend on the image that is chosen, their sum does not.
    """
    shares_a, shares_b = [], []
    for axis, moment_NM3 in enumerate(moment_grads_3NM3):
        centre_N11 = xp.expand_dims(edges.in_cell_N3[:, axis : axis + 1], axis=-1)
        # column l of the shares: g r_a,l - m_l of a; g r_b,l - m_l of b, with r_b = r_a + d
        shares_a.append(grad_NM3 * centre_N11 - moment_NM3)
        shares_b.append(shares_a[-1] + grad_NM3 * edges.disp_NM3[:, :, axis : axis + 1])
    of_a, of_b = (xp.reshape(xp.stack(shares, axis=-1), (-1, 9)) for shares in (shares_a, shares_b))
    a_NM = xp.expand_dims(edges.centre_N, axis=1) + xp.zeros_like(edges.index_NM)
    at_a = xp.segment_sum(of_a, xp.reshape(a_NM, (-1,)), num_atoms)
    return at_a - xp.segment_sum(of_b, xp.reshape(edges.index_NM, (-1,)), num_atoms)

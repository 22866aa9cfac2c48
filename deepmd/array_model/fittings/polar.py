"""polar: atomic polarizabilities from invariant and equivariant features (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.contracts import Features, Widths
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.outputs import Output

POLAR = Output("polar", 9, label="polarizability", atomic_label="atom_polarizability")
"""Polarizability, row by row, in the unit of the data."""

DIAGONAL = (0, 4, 8)


@dataclass(frozen=True)
class PolarFitting(Fitting):
    """Options of the polarizability fitting (Sommers et al., Phys. Chem. Chem. Phys. 22, 10592 (2020)).

    Attributes
    ----------
    fit_diag : True: the net gives a diagonal matrix B between the equivariant features. False: a symmetric matrix
    scale : factor of the outputs of the nets, a number or one for each type; stored among the parameters
    shift_diag : add the mean diagonal of the data, by type, to the diagonal
    sel_type : types that have a polarizability; None for all
    """

    kind = "polar"

    fit_diag: bool = True
    scale: tuple[float, ...] | float | None = 1.0
    shift_diag: bool = True
    sel_type: tuple[int, ...] | int | None = None

    aliases: ClassVar[dict[str, str]] = {**Fitting.aliases, "pol_type": "sel_type"}
    needs_equivariant: ClassVar[bool] = True

    output = POLAR

    def net_width(self, widths: Widths) -> int:
        """Width of the last layer: entries of the matrix B."""
        return widths.equivariant if self.fit_diag else widths.equivariant**2

    def extra_init(self, ntypes: int, like_T1: Array, *, xp: Namespace) -> Params:
        """Return `scale` (T, 1) and `constant_matrix` (T,), which is added to the mean diagonal: here 0."""
        scale = 1.0 if self.scale is None else self.scale
        scales = scale if isinstance(scale, tuple) else (scale,) * ntypes
        if len(scales) != ntypes:
            raise ValueError(f"scale has {len(scales)} values for {ntypes} types")
        rows = [like_T1[number : number + 1, :] + value for number, value in enumerate(scales)]
        return {"scale": xp.concat(rows, axis=0), "constant_matrix": xp.reshape(like_T1, (-1,))}

    def finish(
        self,
        params: Params,
        f_NK: Array,
        features: Features,
        bias_Td: Array,
        std_Td: Array,
        neighbours: Neighbours,
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic polarizabilities (N, 9), Q^T B Q, plus scale (trace of the bias / 3 + constant) on the diagonal."""
        scale_N1 = xp.astype(xp.take(params["scale"], neighbours.type_N, axis=0), xp.float64)
        f_NK, q_NG3 = f_NK * scale_N1, features.equivariant_NG3
        if self.fit_diag:
            right_NG3 = xp.expand_dims(f_NK, axis=-1) * q_NG3
        else:
            width = xp.shape(q_NG3)[1]
            b_NGG = xp.reshape(f_NK, (-1, width, width))
            right_NG3 = xp.matmul(0.5 * (b_NGG + xp.matrix_transpose(b_NGG)), q_NG3)
        alpha_N9 = xp.reshape(xp.matmul(xp.matrix_transpose(q_NG3), right_NG3), (-1, 9))
        if not self.shift_diag:
            return alpha_N9
        mean_T1 = xp.sum(xp.stack([bias_Td[:, k] for k in DIAGONAL], axis=1), axis=1, keepdims=True) / 3.0
        mean_T1 = mean_T1 + xp.expand_dims(xp.astype(params["constant_matrix"], xp.float64), axis=-1)
        shift_N1 = scale_N1 * xp.take(mean_T1, neighbours.type_N, axis=0)
        zero_N1 = xp.zeros_like(shift_N1)
        return alpha_N9 + xp.concat([shift_N1 if k in DIAGONAL else zero_N1 for k in range(9)], axis=1)

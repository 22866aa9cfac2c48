"""zbl: a Deep Potential that gives way to a pair table at short distances (Wang et al., Appl. Phys. Lett. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.environment import switch
from deepmd.array_model.models.linear import Combination
from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.neighbours import Neighbours

LARGEST_EXPONENT = 600.0
NEGLIGIBLE_EXPONENT = -230.0
"""Its exponential is negligible against the weight 1 of a neighbour at `sw_rmax`.

No constant is that small: TorchScript takes two
constants for one where they differ by less than 1e-8."""


@dataclass(frozen=True)
class ZblModel(Combination):
    """E_i = (1 - w_i) E_i of the Deep Potential + w_i E_i of the table + bias of the type.

    Members are (Deep Potential, table).

    w_i is the switch from 1 at `sw_rmin` to 0 at `sw_rmax` of the soft minimum of the distances of atom i,
    sum_j r_ij exp(-r_ij / smin_alpha) / sum_j exp(-r_ij / smin_alpha).

    Attributes
    ----------
    sw_rmin, sw_rmax, smin_alpha : Angstrom
    add_bias : whether the energy of the table gets the bias too (`srtab_add_bias`)
    """

    kind = "zbl"
    sections = {"models": ""}  # the section of the Deep Potential is that of the model

    sw_rmin: float = 0.0
    sw_rmax: float = 0.0
    smin_alpha: float = 0.0
    add_bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.models) != 2 or self.models[1].kind != "pairtab":
            raise ValueError("models must be a Deep Potential and a pair table")
        if not 0.0 <= self.sw_rmin < self.sw_rmax or not self.smin_alpha > 0.0:
            given = f"sw_rmin is {self.sw_rmin}, sw_rmax {self.sw_rmax}, smin_alpha {self.smin_alpha}"
            raise ValueError(f"{given}; needs 0 <= sw_rmin < sw_rmax, and smin_alpha > 0 (Angstrom)")

    def add(self, values: list[Array], bias_Nd: Array, neighbours: list[Neighbours], *, xp: Namespace) -> Array:
        """Return the weighted sum of the members' values, and the bias of what gets it."""
        disp_NM3, mask_NM = neighbours[1].disp_NM3, neighbours[1].mask_NM
        r_NM = xp.sqrt(xp.sum(disp_NM3 * disp_NM3, axis=-1))
        # relative to sw_rmax, so that nothing underflows where the weight is not zero; without neighbours the minimum
        # is beyond it
        exponent_NM = (self.sw_rmax - r_NM) / self.smin_alpha
        exponent_NM = xp.minimum(exponent_NM, LARGEST_EXPONENT * xp.ones_like(r_NM))
        share_NM = xp.where(mask_NM, xp.exp(exponent_NM), xp.zeros_like(r_NM))
        whole_N = xp.sum(share_NM, axis=-1)
        rest_N = xp.exp(xp.zeros_like(whole_N) + NEGLIGIBLE_EXPONENT)
        smallest_N = (xp.sum(r_NM * share_NM, axis=-1) + 2.0 * self.sw_rmax * rest_N) / (whole_N + rest_N)
        table_N1 = xp.expand_dims(switch(smallest_N, self.sw_rmin, self.sw_rmax, xp=xp), axis=-1)
        network_N1 = 1.0 - table_N1
        return network_N1 * values[0] + table_N1 * values[1] + (bias_Nd if self.add_bias else network_N1 * bias_Nd)

"""zbl: a Deep Potential that is switched to a pair table at short distances (Wang et al., Appl. Phys. Lett. 2019).

Formulas: docs/models.md#short-distances-use_srtab.
"""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.environment import switch
from deepmd.array_model.models.linear import Combination
from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.neighbours import Neighbours

LARGEST_EXPONENT = 600.0
"""Bound of the exponents of the soft minimum, because exp(710) overflows float64."""

NEGLIGIBLE_EXPONENT = -230.0
"""Exponent of the weight of a stand-in neighbour, negligible against the weight exp(0) of a neighbour at `sw_rmax`.

The exponential is taken at run time, because TorchScript merges constants that differ by less than 1e-8.
"""


@dataclass(frozen=True)
class ZblModel(Combination):
    """E_i = (1 - w_i) E_i of the Deep Potential + w_i E_i of the table + bias of the type.

    The members are (Deep Potential, table). w_i is the switch, 1 at `sw_rmin` and 0 at `sw_rmax`, of the soft minimum
    of the distances of atom i, sum_j r_ij exp(-r_ij / smin_alpha) / sum_j exp(-r_ij / smin_alpha).

    Attributes
    ----------
    sw_rmin, sw_rmax, smin_alpha : bounds of the switch and decay length of the soft minimum, Angstrom
    add_bias : True: E_i has the whole bias. False: the bias has the weight of the Deep Potential (`srtab_add_bias`)
    """

    kind = "zbl"
    sections = {"models": ""}  # the Deep Potential is described by the section of the model itself

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
        """Return the weighted sum of the members' values (N, 1), plus the bias (see `add_bias`)."""
        disp_NM3, mask_NM = neighbours[1].disp_NM3, neighbours[1].mask_NM
        r_NM = xp.sqrt(xp.sum(disp_NM3 * disp_NM3, axis=-1))
        # weights exp((sw_rmax - r)/smin_alpha) do not underflow within sw_rmax, where the table counts; a stand-in
        # neighbour of weight `rest_N` at 2 sw_rmax is the soft minimum of an atom without neighbours
        exponent_NM = (self.sw_rmax - r_NM) / self.smin_alpha
        exponent_NM = xp.minimum(exponent_NM, LARGEST_EXPONENT * xp.ones_like(r_NM))
        share_NM = xp.where(mask_NM, xp.exp(exponent_NM), xp.zeros_like(r_NM))
        whole_N = xp.sum(share_NM, axis=-1)
        rest_N = xp.exp(xp.zeros_like(whole_N) + NEGLIGIBLE_EXPONENT)
        smallest_N = (xp.sum(r_NM * share_NM, axis=-1) + 2.0 * self.sw_rmax * rest_N) / (whole_N + rest_N)
        table_N1 = xp.expand_dims(switch(smallest_N, self.sw_rmin, self.sw_rmax, xp=xp), axis=-1)
        network_N1 = 1.0 - table_N1
        return network_N1 * values[0] + table_N1 * values[1] + (bias_Nd if self.add_bias else network_N1 * bias_Nd)

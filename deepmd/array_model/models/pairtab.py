"""pairtab: a pair potential from a table of energies, interpolated by cubic splines (docs/models.md#tables)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Draw
from deepmd.array_model.models.base import Model
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.networks import init_zeros
from deepmd.array_model.spectral import Plan

TABLE = ("vdata", "tab_info", "tab_data")
"""Parameters of the table: rows (distance, energies of all pairs of types), grid, coefficients of the splines."""


@dataclass(frozen=True)
class PairTabModel(Model):
    """Pair potential: E_i = 1/2 sum_j u(r_ij) + out_bias of the type of i.

    In interval k of the grid u = ((a3 w + a2) w + a1) w + a0 with w = (r - start) / step - k and the four coefficients
    of the pair of types. u is constant below `start`, and 0 from `rcut` and from the end of the grid on.

    Attributes
    ----------
    rcut : cutoff, Angstrom (exclusive)
    sel : most neighbours of an atom
    start, stop, step : first and last distance of the given table and its spacing, Angstrom
    intervals : number of splines, with those that continue the table to the cutoff
    """

    kind = "pairtab"

    rcut: float
    sel: int
    start: float
    stop: float
    step: float
    intervals: int

    def layout(self) -> Layout:
        """Packing of the neighbours: one section, with types, which select the splines."""
        return Layout(self.rcut, (self.sel,), mixed=True, excluded=self.pair_exclude_types)

    def init(self, draw: Draw, *, xp: Namespace) -> Params:
        """Parameters of a table of zeros."""
        size, columns = self.ntypes, 1 + self.ntypes * (self.ntypes + 1) // 2
        arrays: dict[str, tuple[int, ...]] = {
            "vdata": (self.intervals + 1, columns),
            "tab_info": (4,),
            "tab_data": (size**2 * self.intervals * 4,),
        }
        arrays |= {"out_bias": (1, size, 1), "out_std": (1, size, 1)}
        zeros = {name: init_zeros(sizes, draw, xp=xp) for name, sizes in arrays.items()}
        return {**zeros, "out_std": zeros["out_std"] + 1.0}

    def atomic_output(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic energies (N, 1), eV; no features."""
        r_NM = xp.sqrt(xp.sum(neighbours.disp_NM3 * neighbours.disp_NM3, axis=-1))
        u_NM = (r_NM - self.start) / self.step
        u_NM = xp.maximum(u_NM, xp.zeros_like(u_NM))
        last = float(self.intervals - 1)
        interval_NM = xp.floor(xp.stop_gradient(u_NM))
        inside_NM = xp.logical_and(neighbours.mask_NM, xp.logical_and(r_NM < self.rcut, interval_NM <= last))
        interval_NM = xp.minimum(interval_NM, last * xp.ones_like(interval_NM))
        # spline of interval k of a pair of types: row (type_i T + type_j) intervals + k
        column_NM = xp.expand_dims(neighbours.type_N, axis=-1) * self.ntypes + neighbours.type_NM
        row_NM = column_NM * self.intervals + xp.astype(interval_NM, xp.int64)
        # empty slots read an arbitrary spline, whose value is dropped below; types of virtual atoms never get here
        splines_R4 = xp.reshape(params["tab_data"], (self.ntypes**2 * self.intervals, 4))
        chosen_P4 = xp.take(splines_R4, xp.reshape(row_NM, (-1,)), axis=0)
        a3, a2, a1, a0 = xp.unstack(chosen_P4, axis=-1)
        w_P = xp.reshape(u_NM - interval_NM, (-1,))
        energy_NM = xp.reshape(((a3 * w_P + a2) * w_P + a1) * w_P + a0, xp.shape(u_NM))
        energy_N = 0.5 * xp.sum(xp.where(inside_NM, energy_NM, xp.zeros_like(energy_NM)), axis=-1)
        value_N1 = xp.expand_dims(energy_N, axis=-1) + xp.take(params["out_bias"][0, :, :], neighbours.type_N, axis=0)
        return self.zero_excluded_atoms(value_N1, neighbours, xp=xp), value_N1[:, :0]

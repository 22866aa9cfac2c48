"""The standard model: a descriptor, a fitting net, and a bias per type (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from deepmd.array_model.components import in_precision
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import DescriptorField, Draw, FittingField
from deepmd.array_model.models.base import Model
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.networks import init_zeros
from deepmd.array_model.outputs import Output
from deepmd.array_model.spectral import Plan


@dataclass(frozen=True)
class StandardModel(Model):
    """A descriptor, a fitting net, and a bias per type."""

    kind = "standard"
    children: ClassVar[tuple[str, ...]] = ("descriptor", "fitting")
    sections = {"descriptor": "descriptor", "fitting": "fitting_net"}

    descriptor: DescriptorField
    fitting: FittingField

    @property
    def output(self) -> Output:
        """Quantity that the fitting net predicts."""
        return self.fitting.output

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Assigned energies of isolated atoms by type (eV), an option of the fitting net."""
        return getattr(self.fitting, "atom_ener", ())

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features."""
        return self.descriptor.widths.invariant

    def layout(self) -> Layout:
        """Packing of the neighbours: the layout of the descriptor with `pair_exclude_types`."""
        return replace(self.descriptor.layout(), excluded=self.pair_exclude_types)

    def init(self, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters, each in the precision of its component; `draw(seed_list)` returns a NumPy generator."""
        descriptor = self.descriptor.init(self.type_map, draw, xp=xp)
        nets = 1 if self.descriptor.mixed_types else self.ntypes
        fitting = self.fitting.init(nets, self.ntypes, self.descriptor.widths, draw, xp=xp)
        bias = init_zeros((1, self.ntypes, self.output.width), draw, xp=xp)
        return in_precision(
            self, {"descriptor": descriptor, "fitting": fitting, "out_bias": bias, "out_std": bias + 1.0}, xp=xp
        )

    def atomic_output(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""
        features = self.descriptor.apply_under(params["descriptor"], neighbours, conditions, plan, xp=xp)
        bias_and_scale = params["out_bias"][0, :, :], params["out_std"][0, :, :]
        value_Nd = self.fitting.apply(
            params["fitting"], features, self.descriptor.widths, neighbours, conditions, bias_and_scale, xp=xp
        )
        return self.zero_excluded_atoms(value_Nd, neighbours, xp=xp), features.invariant_ND

"""The standard model: a descriptor, a fitting net, and a bias per type (docs/theory/fitting_nets.md#outputs)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from deepmd.array_model import descriptors, fittings
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.models.base import OUTER, Model
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.outputs import Output
from deepmd.array_model.registry import register
from deepmd.array_model.spectral import Plan

assert descriptors  # these two are imported for their registrations
assert fittings


@register("model", "standard")
@dataclass(frozen=True)
class StandardModel(Model):
    """A descriptor, a fitting net, and a bias per type."""

    descriptor: Any
    fitting: Any

    @property
    def output(self) -> Output:
        """What the fitting net predicts."""
        return self.fitting.output

    @property
    def descriptors(self) -> tuple[Any, ...]:
        """The descriptor."""
        return (self.descriptor,)

    @property
    def fittings(self) -> tuple[Any, ...]:
        """The fitting net."""
        return (self.fitting,)

    def each_part(self, params: Params) -> list[tuple[str, Any, Params]]:
        """Return the parts of the descriptor."""
        return [
            (f"descriptor{where}", part, own) for where, part, own in self.descriptor.each_part(params["descriptor"])
        ]

    def changed(self, change: Callable[[Any], Any]) -> StandardModel:
        """Return the model with another descriptor."""
        return replace(self, descriptor=change(self.descriptor))

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Energies of isolated atoms by type (eV) that the fitting net fixes."""
        return getattr(self.fitting, "atom_ener", ())

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features."""
        return self.descriptor.widths.invariant

    def layout(self) -> Layout:
        """How the descriptor wants its neighbours, without the pairs that are excluded."""
        return replace(self.descriptor.layout(), excluded=self.pair_exclude_types)

    def init(self, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters in their precisions; `draw(seed_list)` returns a NumPy generator."""
        descriptor = self.descriptor.init(self.type_map, draw, xp=xp)
        nets = 1 if self.descriptor.mixed_types else self.ntypes
        fitting = self.fitting.init(nets, self.ntypes, self.descriptor.widths, draw, xp=xp)
        bias = xp.reshape(
            xp.concat([0.0 * fitting["bias_atom_e"][:, 0:1]] * self.output.width, axis=1),
            (1, self.ntypes, self.output.width),
        )
        return self.in_precision(
            {"descriptor": descriptor, "fitting": fitting, "out_bias": bias, "out_std": bias + 1.0}, xp=xp
        )

    def cast(self, params: Params, change: Callable[[Any, str], Any]) -> Params:
        """Change each part; biases of types are in float64."""
        fitting = params["fitting"]
        return {
            "descriptor": self.descriptor.in_precision(params["descriptor"], change),
            "fitting": {
                **change(fitting, self.fitting.precision),
                "bias_atom_e": change(fitting["bias_atom_e"], "float64"),
            },
            **{name: change(params[name], "float64") for name in OUTER},
        }

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change: a tree of flags, one for everything below it.

        What is absent is fixed.
        """
        return {"descriptor": self.descriptor.trainables(), "fitting": self.fitting.trainables()}

    def atomic_output(
        self, params: Params, pairs: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""
        features = self.descriptor.apply_under(params["descriptor"], pairs, conditions, plan, xp=xp)
        outer = params["out_bias"][0, :, :], params["out_std"][0, :, :]
        value_Nd = self.fitting.apply(
            params["fitting"], features, self.descriptor.widths, pairs, conditions, outer, xp=xp
        )
        return self.without_excluded(value_Nd, pairs, xp=xp), features.invariant_ND

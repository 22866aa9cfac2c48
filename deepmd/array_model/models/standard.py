"""The standard model: a descriptor, a fitting net, and a bias per type (spec core, section 11)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from deepmd.array_model import descriptors, fittings, serial
from deepmd.array_model.errors import InputError
from deepmd.array_model.models.base import Model, common_options
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.outputs import ENERGY, Output
from deepmd.array_model.pairs import Conditions, Layout, Pairs
from deepmd.array_model.registry import lookup, register
from deepmd.array_model.tree import map_leaves

assert descriptors  # these two are imported for their registrations
assert fittings


@register("model", "standard")
@dataclass(frozen=True)
class StandardModel(Model):
    """What a model is, without its parameters.

    Attributes
    ----------
    type_map : element names; the index is the type
    descriptor, fitting : their options
    pair_exclude_types : unordered pairs of types that do not see each other
    atom_exclude_types : types whose atomic energy is zero
    rcond, preset_out_bias : how the energy bias was to be fitted (kept with the file)
    """

    type_map: tuple[str, ...]
    descriptor: Any
    fitting: Any
    pair_exclude_types: tuple[tuple[int, int], ...] = ()
    atom_exclude_types: tuple[int, ...] = ()
    rcond: float | None = None
    preset_out_bias: dict[str, list[Any]] | None = None

    def layout(self) -> Layout:
        """How neighbours are to be packed for this model."""
        layout: Layout = replace(self.descriptor.layout(), excluded=self.pair_exclude_types)
        return layout

    @property
    def numb_fparam(self) -> int:
        """Number of frame parameters."""
        return int(self.fitting.numb_fparam)

    @property
    def numb_aparam(self) -> int:
        """Number of atomic parameters."""
        return int(self.fitting.numb_aparam)

    @property
    def default_fparam(self) -> tuple[float, ...] | None:
        """Frame parameters where none are given."""
        default: tuple[float, ...] | None = self.fitting.default_fparam
        return default

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Energies of isolated atoms by type (eV) that the fitting net fixes."""
        return tuple(getattr(self.fitting, "atom_ener", ()))

    @property
    def dim_descriptor(self) -> int:
        """Width D of the features."""
        return int(self.descriptor.widths.invariant)

    @property
    def automatic(self) -> tuple[str, ...]:
        """Values of `sel` that neighbour statistics have to resolve."""
        return tuple(sel for part in self.descriptor.parts() for _, sel in part.sels().values() if isinstance(sel, str))

    @property
    def cutoffs(self) -> frozenset[float]:
        """Cutoffs (Angstrom) of the descriptor and its parts."""
        return frozenset({self.descriptor.rcut, *(rcut for part in self.descriptor.parts() for rcut, _ in part.sels().values())})

    def with_sel(self, most: Any) -> StandardModel:
        """Return the model with every automatic `sel` resolved."""
        return replace(self, descriptor=self.descriptor.with_sel(most))

    def with_sel_of(self, other: Any) -> StandardModel:
        """Return the model with every automatic `sel` taken from a model with the same kinds of descriptors."""
        parts, theirs = self.descriptor.parts(), other.descriptor.parts() if other.kind == self.kind else ()
        if not self.automatic or [part.kind for part in theirs] != [part.kind for part in parts]:
            return self
        pairs = zip(parts, theirs, strict=True)
        same = (part.with_sels({name: sel for name, (_, sel) in their.sels().items()}) for part, their in pairs)
        return replace(self, descriptor=self.descriptor.with_parts(tuple(same)))

    def init(self, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters in their precisions; `draw(seed_list)` returns a NumPy generator."""
        descriptor = self.descriptor.fresh(self.type_map, draw, xp=xp)
        nets = 1 if self.descriptor.mixed_types else self.ntypes
        fitting = self.fitting.init(nets, self.ntypes, self.descriptor.widths, draw, xp=xp)
        bias = xp.reshape(xp.concat([0.0 * fitting["bias_atom_e"][:, 0:1]] * self.output.width, axis=1), (1, self.ntypes, self.output.width))
        return self.in_precision({"descriptor": descriptor, "fitting": fitting, "out_bias": bias, "out_std": bias + 1.0}, xp=xp)

    def in_precision(self, params: Params, *, xp: Namespace) -> Params:
        """Return the parameters with every leaf in the precision that its part computes in."""

        def cast(part: Any, precision: str) -> Any:
            return map_leaves(lambda leaf: xp.astype(leaf, dtype_of(precision, xp=xp)), part)

        out = {
            "descriptor": self.descriptor.in_precision(params["descriptor"], cast),
            "fitting": cast(params["fitting"], self.fitting.precision),
            "out_bias": cast(params["out_bias"], "float64"),
            "out_std": cast(params["out_std"], "float64"),
        }
        out["fitting"]["bias_atom_e"] = cast(params["fitting"]["bias_atom_e"], "float64")
        return out

    def first_atom_matters(self, params: Params) -> bool:
        """Whether results depend on the first atom of a frame. On the host."""
        matters: bool = self.descriptor.first_atom_matters(params["descriptor"])
        return matters

    def narrowed(self, params: Params, narrow: Any) -> Params:
        """Return the parameters with `narrow(part)` in place of each part in bfloat16, which NumPy lacks and stores in float32."""

        def cast(part: Any, precision: str) -> Any:
            return narrow(part) if PRECISIONS[precision] == "bfloat16" else part

        descriptor = self.descriptor.in_precision(params["descriptor"], cast)
        return {**params, "descriptor": descriptor, "fitting": cast(params["fitting"], self.fitting.precision)}

    def expanded(self, params: Params, closest: float | None, *, stored: bool, xp: Namespace) -> tuple[StandardModel, Params, str]:
        """Plan expansions of the descriptor's nets, on the host (see the descriptors); the text says why there are none."""
        descriptor, inner, reason = self.descriptor.expanded(params["descriptor"], closest, stored=stored, xp=xp)
        return replace(self, descriptor=descriptor), {**params, "descriptor": inner}, reason

    def with_evaluation(self, evaluation: str | int) -> StandardModel:
        """Return the model with another way to evaluate its descriptor (an option of the descriptors)."""
        return replace(self, descriptor=self.descriptor.with_evaluation(evaluation))

    @property
    def evaluation(self) -> str | int:
        """How the descriptor is evaluated (see there)."""
        evaluation: str | int = self.descriptor.evaluation
        return evaluation

    def without_tables(self, params: Params) -> Params:
        """Return the parameters without expansions."""
        return {**params, "descriptor": self.descriptor.without_tables(params["descriptor"])}

    def domain_start(self, params: Params) -> float:
        """Distance (Angstrom) below which expansions continue linearly; 0 without expansions. On the host."""
        start: float = self.descriptor.domain_start(params["descriptor"])
        return start

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change: a tree of flags, one for everything below it; what is absent is fixed."""
        return {"descriptor": self.descriptor.trainables(), "fitting": self.fitting.trainables()}

    @property
    def output(self) -> Output:
        """What the model predicts."""
        output: Output = self.fitting.output
        return output

    def atomic_output(self, params: Params, pairs: Pairs, conditions: Conditions, *, xp: Namespace) -> tuple[Array, Array]:
        """Atomic values (N, d) of the output (energies in eV) and features (N, D) of the centres."""
        features = self.descriptor.apply(params["descriptor"], pairs, xp=xp)
        outer = params["out_bias"][0, :, :], params["out_std"][0, :, :]
        value_Nd = self.fitting.apply(params["fitting"], features, self.descriptor.widths, pairs, conditions, *outer, xp=xp)
        return self.without_excluded(value_Nd, pairs, xp=xp), features.invariant_ND

    # -- files ------------------------------------------------------------------------------------------------------

    def serialize(self, params: Params) -> dict[str, Any]:
        """Return the stored form (spec core, section 13.2)."""
        return {
            **self.common(params),
            "type": "standard",
            "@version": 2,
            "descriptor": self.descriptor.serialize(params["descriptor"], self.type_map),
            "fitting": self.fitting.serialize(params["fitting"], self.type_map, self.descriptor.widths, self.descriptor.mixed_types),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[StandardModel, Params]:
        """Return model and parameters from the stored form."""
        serial.check_version(tree, 2, "model")
        descriptor, descriptor_params = lookup("descriptor", tree["descriptor"]["type"], "model/descriptor").deserialize(tree["descriptor"])
        fitting, fitting_params = lookup("fitting_net", tree["fitting"]["type"], "model/fitting_net").deserialize(tree["fitting"])
        model = cls(**common_options(tree), descriptor=descriptor, fitting=fitting)
        if not descriptor.mixed and len(descriptor.slots) != model.ntypes:
            raise InputError(f"model: sel has {len(descriptor.slots)} entries, type_map has {model.ntypes}")
        outer = tree.get("@variables", {})
        none = 0.0 * fitting_params["bias_atom_e"][None]  # of a file from before these were kept apart
        bias, std = outer.get("out_bias", none), outer.get("out_std", none + 1.0)
        if model.output == ENERGY:  # never scaled; DeePMD-kit's conversion to .pb would multiply by what its torch stores here
            std = 0.0 * std + 1.0
        return model, {"descriptor": descriptor_params, "fitting": fitting_params, "out_bias": bias, "out_std": std}

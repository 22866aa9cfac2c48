"""linear_ener: a weighted sum of models, stored as "linear"; base class of all combinations of models.

Formulas: docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import Draw, ModelField
from deepmd.array_model.cut_neighbours import cut_neighbours, unite_layouts
from deepmd.array_model.models.base import OUTPUT_PARAMS, Model
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Layout, Neighbours
from deepmd.array_model.spectral import Plan


@dataclass(frozen=True)
class Combination(Model):
    """Models whose atomic energies are added with weights: E_i = sum_k w_k E_ki + out_bias of the type.

    Members add their own biases, as in DeePMD-kit's torch backend; DeePMD-kit's NumPy backend omits them. Members that
    are trained here have biases of 0, so that both agree. A kind defines `add`.

    Attributes
    ----------
    models : the members, energy models of the same types
    """

    models: tuple[ModelField, ...]

    children: ClassVar[tuple[str, ...]] = ("models",)
    sections = {"models": "models/{}/"}

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("models is empty; a combination needs at least one")
        for number, model in enumerate(self.models):
            if model.output != self.output:
                raise ValueError(f"models/{number} predicts {model.output.name}; only energy models can be combined")
            if model.type_map != self.type_map:
                raise ValueError(
                    f"models/{number} has the type_map {list(model.type_map)}; all need the same, {list(self.type_map)}"
                )
        for name in ("fparam", "aparam"):
            sizes = [model.conditions[name][0] for model in self.models]
            if len({*sizes} - {0}) > 1:
                raise ValueError(f"models have different numb_{name}: {sizes}")

    def add(self, values: list[Array], bias_Nd: Array, neighbours: list[Neighbours], *, xp: Namespace) -> Array:
        """Return the weighted sum of the members' values (N, 1), plus the bias."""
        raise NotImplementedError

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Assigned energies of the first member."""
        return self.models[0].atom_ener

    def layout(self) -> Layout:
        """Packing of the neighbours: one list for all members."""
        return unite_layouts([model.layout() for model in self.models], self.pair_exclude_types)

    def init(self, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters of all members."""
        members = [model.init(draw, xp=xp) for model in self.models]
        return {"models": members, **{name: members[0][name] for name in OUTPUT_PARAMS}}

    def atomic_output(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Atomic energies (N, 1), eV; no features."""
        layout, bias_Td = self.layout(), params["out_bias"][0, :, :]
        lists = [cut_neighbours(neighbours, layout, model.layout(), xp=xp) for model in self.models]
        remaining = iter(plan)
        plans = [tuple(next(remaining) for _ in descriptors_of(model)) for model in self.models]
        values = [
            model.atomic_output(p, own, conditions, each, xp=xp)[0]
            for model, p, own, each in zip(self.models, params["models"], lists, plans, strict=True)
        ]
        value_Nd = self.add(values, xp.take(bias_Td, neighbours.type_N, axis=0), lists, xp=xp)
        return self.zero_excluded_atoms(value_Nd, neighbours, xp=xp), value_Nd[:, :0]


@dataclass(frozen=True)
class LinearModel(Combination):
    """Constant weights: "mean" (1/K each), "sum" (1 each), or one number for each of the K members."""

    kind = "linear"

    weights: str | tuple[float, ...] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights not in ("mean", "sum") and (
            isinstance(self.weights, str) or len(self.weights) != len(self.models)
        ):
            raise ValueError(
                f"weights is {self.weights!r}; "
                f"accepted: mean, sum, or a list with one number for each of the {len(self.models)} models"
            )

    @property
    def member_weights(self) -> list[float]:
        """Weight of each member."""
        count = len(self.models)
        if isinstance(self.weights, str):
            return [1.0 if self.weights == "sum" else 1.0 / count] * count
        return list(self.weights)

    def add(self, values: list[Array], bias_Nd: Array, neighbours: list[Neighbours], *, xp: Namespace) -> Array:
        """Return the weighted sum of the members' values (N, 1), plus the bias."""
        return sum((weight * value for weight, value in zip(self.member_weights, values, strict=True)), bias_Nd)

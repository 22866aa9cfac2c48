"""linear_ener: a weighted sum of models (stored as "linear"), and what every combination of models shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from deepmd.array_model import serial
from deepmd.array_model.errors import InputError
from deepmd.array_model.models.base import Model, common_options
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.pairs import Conditions, Layout, Pairs
from deepmd.array_model.pairs_cut import cut, union
from deepmd.array_model.registry import lookup, register


@dataclass(frozen=True)
class Combination(Model):
    """Models whose atomic energies are added with weights: E_i = sum_k w_k E_ki + out_bias of the type.

    Members add their own biases, as with DeePMD-kit's torch backend; its NumPy backend leaves those out. In models made here they are
    zero, so that both agree. A kind gives `weigh`.

    Attributes
    ----------
    models : the members, energy models of the same types
    """

    type_map: tuple[str, ...]
    models: tuple[Any, ...]
    pair_exclude_types: tuple[tuple[int, int], ...] = ()
    atom_exclude_types: tuple[int, ...] = ()
    rcond: float | None = None
    preset_out_bias: dict[str, list[Any]] | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("models is empty; a combination needs at least one")
        for number, model in enumerate(self.models):
            if model.output != self.output:
                raise ValueError(f"models/{number} predicts {model.output.name}; only energy models can be combined")
            if model.type_map != self.type_map:
                raise ValueError(f"models/{number} has the type_map {list(model.type_map)}; all need the same, {list(self.type_map)}")
        for name in ("numb_fparam", "numb_aparam"):
            if len({getattr(model, name) for model in self.models} - {0}) > 1:
                raise ValueError(f"models have different {name}: {[getattr(model, name) for model in self.models]}")

    def weigh(self, pairs: list[Pairs], *, xp: Namespace) -> list[Any]:
        """Return the weight of each member: a number, or an array (N, 1)."""
        raise NotImplementedError

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def members(self) -> tuple[Any, ...]:
        """Models that this one combines."""
        return self.models

    @property
    def numb_fparam(self) -> int:
        """Number of frame parameters."""
        return max(model.numb_fparam for model in self.models)

    @property
    def numb_aparam(self) -> int:
        """Number of atomic parameters."""
        return max(model.numb_aparam for model in self.models)

    @property
    def default_fparam(self) -> tuple[float, ...] | None:
        """Frame parameters where none are given: those of the first member that has some."""
        return next((model.default_fparam for model in self.models if model.default_fparam is not None), None)

    @property
    def atom_ener(self) -> tuple[float | None, ...]:
        """Energies of isolated atoms that the first member fixes."""
        return tuple(self.models[0].atom_ener)

    def layout(self) -> Layout:
        """One list for all members."""
        return union([model.layout() for model in self.models], self.pair_exclude_types)

    @property
    def automatic(self) -> tuple[str, ...]:
        """Values of `sel` that neighbour statistics have to resolve."""
        return tuple(sel for model in self.models for sel in model.automatic)

    @property
    def cutoffs(self) -> frozenset[float]:
        """Cutoffs (Angstrom) of the members."""
        return frozenset(rcut for model in self.models for rcut in model.cutoffs)

    def with_sel(self, most: Any) -> Any:
        """Return the combination with every automatic `sel` resolved."""
        return replace(self, models=tuple(model.with_sel(most) for model in self.models))

    def with_sel_of(self, other: Any) -> Any:
        """Return the combination with every automatic `sel` taken from one of the same kinds."""
        if other.kind != self.kind or len(other.models) != len(self.models):
            return self
        pairs = zip(self.models, other.models, strict=True)
        return replace(self, models=tuple(mine.with_sel_of(theirs) for mine, theirs in pairs))

    # -- parameters -------------------------------------------------------------------------------------------------

    def init(self, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters of all members."""
        members = [model.init(draw, xp=xp) for model in self.models]
        return {"models": members, **{name: members[0][name] for name in ("out_bias", "out_std")}}

    def in_precision(self, params: Params, *, xp: Namespace) -> Params:
        """Return the parameters in the precisions of the members."""
        outer = {name: xp.astype(params[name], xp.float64) for name in ("out_bias", "out_std")}
        return {"models": [model.in_precision(p, xp=xp) for model, p in self._each(params)], **outer}

    def narrowed(self, params: Params, narrow: Any) -> Params:
        """Return the parameters with `narrow(part)` in place of each part in bfloat16."""
        return {**params, "models": [model.narrowed(p, narrow) for model, p in self._each(params)]}

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change: those of the members."""
        return {"models": [model.trainables() for model in self.models]}

    # -- evaluation -------------------------------------------------------------------------------------------------

    @property
    def evaluation(self) -> str | int:
        """How the members' embedding nets are evaluated: the number of terms, which all expansions share, or the choice."""
        choices = [model.evaluation for model in self.models]
        return next((choice for kind in (int, str) for choice in choices if isinstance(choice, kind) and choice != "direct"), "direct")

    def with_evaluation(self, evaluation: str | int) -> Any:
        """Return the combination with another way to evaluate its members' embedding nets."""
        return replace(self, models=tuple(model.with_evaluation(evaluation) for model in self.models))

    def expanded(self, params: Params, closest: float | None, *, stored: bool, xp: Namespace) -> tuple[Any, Params, str]:
        """Plan expansions of the members' embedding nets; all get as many terms as one of them needs."""
        done = [model.expanded(p, closest, stored=stored, xp=xp) for model, p in self._each(params)]
        terms = max((model.evaluation for model, _, _ in done if isinstance(model.evaluation, int)), default=0)
        for number, (model, p, _) in enumerate(done):
            if isinstance(model.evaluation, int) and model.evaluation < terms:
                done[number] = model.with_evaluation(terms).expanded(p, closest, stored=stored, xp=xp)
        reasons = [f"models/{number}: {reason}" for number, (_, _, reason) in enumerate(done) if reason]
        model = replace(self, models=tuple(model for model, _, _ in done))
        return model, {**params, "models": [p for _, p, _ in done]}, "; ".join(reasons)

    def without_tables(self, params: Params) -> Params:
        """Return the parameters without expansions."""
        return {**params, "models": [model.without_tables(p) for model, p in self._each(params)]}

    def domain_start(self, params: Params) -> float:
        """Largest distance (Angstrom) below which an expansion continues linearly."""
        return max(model.domain_start(p) for model, p in self._each(params))

    def atomic_output(self, params: Params, pairs: Pairs, conditions: Conditions, *, xp: Namespace) -> tuple[Array, Array]:
        """Atomic energies (N, 1), eV; no features."""
        outer, bias_Td = self.layout(), params["out_bias"][0, :, :]
        lists = [cut(pairs, outer, model.layout(), xp=xp) for model in self.models]
        values = [model.atomic_output(p, own, conditions, xp=xp)[0] for (model, p), own in zip(self._each(params), lists, strict=True)]
        value_Nd = self.add(values, xp.take(bias_Td, pairs.type_N, axis=0), lists, xp=xp)
        return self.without_excluded(value_Nd, pairs, xp=xp), value_Nd[:, :0]

    def add(self, values: list[Array], bias_Nd: Array, pairs: list[Pairs], *, xp: Namespace) -> Array:
        """Return the weighted sum of the members' values, and the bias."""
        terms = [weight * value for weight, value in zip(self.weigh(pairs, xp=xp), values, strict=True)]
        return sum(terms[1:], terms[0]) + bias_Nd

    # -- files ------------------------------------------------------------------------------------------------------

    def serialize(self, params: Params) -> dict[str, Any]:
        """Return what the stored forms of all combinations share."""
        return {**self.common(params), "models": [model.serialize(p) for model, p in self._each(params)]}

    @classmethod
    def parts(cls, tree: dict[str, Any], newest: int) -> tuple[dict[str, Any], Params]:
        """Return the common options and the parameters from a stored form."""
        serial.check_version(tree, newest, f"model {tree['type']}")
        read = [lookup("model", each.get("type", "standard"), f"models/{number}").deserialize(each) for number, each in enumerate(tree["models"])]
        options = {**common_options(tree), "models": tuple(model for model, _ in read)}
        outer = {name: tree["@variables"][name] for name in ("out_bias", "out_std")}
        return options, {"models": [p for _, p in read], **outer}

    def _each(self, params: Params) -> list[tuple[Any, Params]]:
        return list(zip(self.models, params["models"], strict=True))


@register("model", "linear", aliases=("linear_ener",))
@dataclass(frozen=True)
class LinearModel(Combination):
    """Constant weights: "mean" (1/K each), "sum" (1 each), or one number for each of the K members."""

    weights: str | tuple[float, ...] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights not in ("mean", "sum") and (isinstance(self.weights, str) or len(self.weights) != len(self.models)):
            raise ValueError(f"weights is {self.weights!r}; accepted: mean, sum, or a list with one number for each of the {len(self.models)} models")

    @property
    def numbers(self) -> list[float]:
        """The weights."""
        count = len(self.models)
        if isinstance(self.weights, str):
            return [1.0 if self.weights == "sum" else 1.0 / count] * count
        return list(self.weights)

    def weigh(self, pairs: list[Pairs], *, xp: Namespace) -> list[Any]:
        """Return the weight of each member."""
        return self.numbers

    def serialize(self, params: Params) -> dict[str, Any]:
        """Return the stored form."""
        weights = self.weights if isinstance(self.weights, str) else list(self.weights)
        return {**super().serialize(params), "type": "linear", "@version": 3, "weights": weights}

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[LinearModel, Params]:
        """Return model and parameters from the stored form."""
        options, params = cls.parts(tree, 3)
        weights = tree["weights"] if isinstance(tree["weights"], str) else tuple(float(weight) for weight in tree["weights"])
        try:
            return cls(**options, weights=weights), params
        except ValueError as error:
            raise InputError(f"model linear: {error}") from error

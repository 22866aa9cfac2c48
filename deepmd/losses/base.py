"""What the training asks of every loss (docs/input.md#loss)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.outputs import ENERGY, Output

TermErrors = dict[str, dict[str, Array]]
"""For each term its contribution to the loss (`loss`) and the mean that is displayed (`shown`)."""


@dataclass(frozen=True)
class Label:
    """Data that a loss reads: axes of one value, per atom or per frame, and what stands for missing values."""

    sizes: tuple[int, ...]
    per_atom: bool = False
    missing: float = 0.0


@dataclass(frozen=True)
class Term:
    """What a term of a loss compares: an output of the model with a label, and what the learning curve calls it."""

    output: str
    label: str
    values: Label
    column: str = ""


@dataclass(frozen=True)
class Target:
    """What a loss has to know of the model.

    Attributes
    ----------
    output : what it predicts
    without : types without output
    deviation : of the total in the training data, by component; () where it is not known
    """

    output: Output = ENERGY
    without: tuple[int, ...] = ()
    deviation: tuple[float, ...] = ()

    @classmethod
    def of(cls, model: Model, params: Params | None = None) -> Target:
        """Return the target of a model, with the deviation of its first type if there are parameters (on the host)."""
        deviation = (
            () if params is None else tuple(float(params["out_std"][0, 0, k]) for k in range(model.output.width))
        )
        return cls(model.output, tuple(model.atom_exclude_types), deviation)

    def term(self, column: str, atomic: bool = False) -> Term:
        """Return the term that compares totals, or atomic values."""
        out = self.output
        names = (out.atomic, out.atomic_label) if atomic else (out.name, out.label)
        return Term(*names, Label((out.width,), per_atom=atomic), column)


class Loss:
    """A loss: a frozen dataclass of options with these methods.

    A term is on when its start or its limit prefactor is not zero.

    The prefactor of a term at learning rate lr is limit + (start - limit) * lr / start_lr.
    """

    kind: ClassVar[str]
    predicts: ClassVar[tuple[str, ...]] = ()
    """Outputs of models that it is for."""
    names: ClassVar[dict[str, str]] = {}
    """Aliases of options."""
    shows_total: ClassVar[bool] = False
    """Whether the learning curve has a column for the root of the loss, `rmse`."""
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for term in self.every_term():
            if min(self.span(term)) < 0.0:
                given = ", ".join(f"{name} is {getattr(self, name)}" for name in dict.fromkeys(self.options_of(term)))
                raise ValueError(f"{given}; prefactors must not be negative")
        if not self.terms():
            raise ValueError("all prefactors are zero: there is nothing to train on")

    # -- what a kind says about itself ------------------------------------------------------------------------------

    def every_term(self) -> dict[str, Term]:
        """Return all terms, whether on or not, in the order of the loss."""
        raise NotImplementedError

    def weights(self) -> dict[str, Label]:
        """Return the data that weigh terms without being compared with anything."""
        return {}

    def options_of(self, term: str) -> tuple[str, str]:
        """Names of the options with the first and the last prefactor."""
        return f"start_pref_{term}", f"limit_pref_{term}"

    def with_target(self, target: Target) -> Loss:
        """Return the loss for a model."""
        return self

    def is_square(self, term: str) -> bool:
        """Whether the root of what is shown is displayed."""
        return True

    def errors(
        self,
        prediction: dict[str, Array],
        label: dict[str, Array],
        neighbours: Neighbours,
        natoms_F: Array,
        *,
        xp: Namespace,
    ) -> TermErrors:
        """Return for each term its contribution to the loss and the mean that is displayed.

        `natoms_F` are the real atoms of each frame.
        """
        raise NotImplementedError

    # -- what follows -----------------------------------------------------------------------------------------------

    def span(self, term: str) -> tuple[float, float]:
        """Prefactors at the first step and at zero learning rate."""
        start, limit = (float(getattr(self, name)) for name in self.options_of(term))
        return start, limit

    def prefactors(self, ratio: float) -> dict[str, float]:
        """Prefactor of each term that is on, at `ratio` = lr / start_lr."""
        spans = {term: self.span(term) for term in self.terms()}
        return {term: limit + (start - limit) * ratio for term, (start, limit) in spans.items()}

    def terms(self) -> dict[str, Term]:
        """Terms that are on."""
        return {name: term for name, term in self.every_term().items() if self.span(name) != (0.0, 0.0)}

    def labels(self) -> dict[str, Label]:
        """Return the data that the loss reads."""
        return {**{term.label: term.values for term in self.terms().values()}, **self.weights()}

    def found(self, available: frozenset[str]) -> dict[str, bool]:
        """Return which terms have their labels among those that the data have."""
        return {name: term.label in available for name, term in self.terms().items()}

    def needed(self) -> frozenset[str]:
        """Return the outputs that the loss reads."""
        return frozenset(term.output for term in self.terms().values())

    def columns(self) -> dict[str, str]:
        """Return what the learning curve calls each term."""
        return {name: term.column for name, term in self.terms().items()}


@dataclass(frozen=True)
class OutputLoss(Loss):
    """A loss for models with outputs of several widths, which `target` describes."""

    target: Target = field(default=Target(), kw_only=True, metadata={"derived": True})

    def with_target(self, target: Target) -> OutputLoss:
        """Return the loss for a model."""
        return replace(self, target=target)

    def difference(self, term: str, delta: Array, label: dict[str, Array], *, xp: Namespace) -> Array:
        """Return what a term squares, from label minus prediction."""
        return delta

    def errors(
        self,
        prediction: dict[str, Array],
        label: dict[str, Array],
        neighbours: Neighbours,
        natoms_F: Array,
        *,
        xp: Namespace,
    ) -> TermErrors:
        """Return mean square differences of totals (F, d), shown per atom, and of atomic values (N, d).

        Atoms whose type has no output do not count.
        """
        out = {}
        for name, term in self.terms().items():
            delta = self.difference(name, label[term.label] - prediction[term.output], label, xp=xp)
            square = atomic_square if term.values.per_atom else total_square
            out[name] = square(delta, neighbours, self.target.without, natoms_F, xp=xp)
        return out


def mean(x: Array, *, xp: Namespace) -> Array:
    """Mean over everything."""
    return xp.sum(x) / xp.sum(xp.ones_like(x))


def atomic_square(
    delta_Nd: Array, neighbours: Neighbours, without: tuple[int, ...], natoms_F: Array, *, xp: Namespace
) -> dict[str, Array]:
    """Mean square of atomic differences over the atoms that have an output, as loss and as what is shown."""
    one_N, _ = _with_output(neighbours, without, natoms_F, xp=xp)
    one_Nd = xp.expand_dims(one_N, axis=-1) + 0.0 * delta_Nd
    value = xp.sum(delta_Nd * delta_Nd * one_Nd) / xp.maximum(xp.sum(one_Nd), xp.ones_like(xp.sum(one_Nd)))
    return {"loss": value, "shown": value}


def total_square(
    delta_Fd: Array, neighbours: Neighbours, without: tuple[int, ...], natoms_F: Array, *, xp: Namespace
) -> dict[str, Array]:
    """Mean square of differences of totals, frames weighted by their atoms that have an output; shown per such atom."""
    _, atoms_F = _with_output(neighbours, without, natoms_F, xp=xp)
    atoms_Fd = xp.expand_dims(atoms_F, axis=-1) + 0.0 * delta_Fd
    number = mean(atoms_F, xp=xp)
    value = xp.sum(delta_Fd * delta_Fd * atoms_Fd) / xp.sum(atoms_Fd)
    return {"loss": value, "shown": value / (number * number)}


def _with_output(
    neighbours: Neighbours, without: tuple[int, ...], natoms_F: Array, *, xp: Namespace
) -> tuple[Array, Array]:
    """Return 1 for atoms that have an output and 0 for the others (N,), and how many each frame has (F,)."""
    one_N = 0.0 * xp.astype(neighbours.type_N, xp.float64) + 1.0
    if not without:
        return one_N, natoms_F
    for excluded in without:
        one_N = xp.where(xp.equal(neighbours.type_N, excluded), xp.zeros_like(one_N), one_N)
    return one_N, xp.segment_sum(one_N, neighbours.frame_N, xp.shape(natoms_F)[0])


def total(errors: TermErrors, prefactors: dict[str, Any]) -> Array:
    """Return the loss: the sum of prefactor times contribution."""
    terms = [prefactors[term] * values["loss"] for term, values in errors.items()]
    return sum(terms[1:], start=terms[0])

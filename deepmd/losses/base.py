"""Base classes of losses, with terms, labels and prefactors (docs/input.md#loss)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from deepmd.array_model.contracts import STRICT, Model
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.outputs import ENERGY, Output

TermErrors = dict[str, dict[str, Array]]
"""{term: {`loss`: contribution to the loss, `shown`: mean that the learning curve displays}}."""


@dataclass(frozen=True)
class Label:
    """Data that a loss reads: shape of a value, per atom or per frame, and the value of missing data."""

    sizes: tuple[int, ...]
    per_atom: bool = False
    missing: float = 0.0


@dataclass(frozen=True)
class Term:
    """Term of a loss: output of the model, label of the data, shape of the values, name in the learning curve."""

    output: str
    label: str
    values: Label
    column: str = ""


@dataclass(frozen=True)
class Target:
    """Facts about the model that a loss needs.

    Attributes
    ----------
    output : predicted quantity
    without : types without output
    deviation : standard deviation in the training data, by component; () if unknown
    """

    output: Output = ENERGY
    without: tuple[int, ...] = ()
    deviation: tuple[float, ...] = ()

    @classmethod
    def of(cls, model: Model, params: Params | None = None) -> Target:
        """Return the target of a model, with `out_std` of type 0 as deviation if there are parameters. Host only."""
        deviation = (
            () if params is None else tuple(float(params["out_std"][0, 0, k]) for k in range(model.output.width))
        )
        return cls(model.output, tuple(model.atom_exclude_types), deviation)

    def make_term(self, column: str, atomic: bool = False) -> Term:
        """Return the term of totals, or of atomic values."""
        out = self.output
        names = (out.atomic, out.atomic_label) if atomic else (out.name, out.label)
        return Term(*names, Label((out.width,), per_atom=atomic), column)


class Loss:
    """Loss: a frozen dataclass of options with these methods.

    The prefactor of a term at the learning rate lr is limit + (start - limit) * lr / start_lr. A term is on if its
    start or its limit prefactor is not 0.
    """

    kind: ClassVar[str]
    predicts: ClassVar[tuple[str, ...]] = ()
    """Names of the outputs whose models the loss trains."""
    aliases: ClassVar[dict[str, str]] = {}
    """Aliases of options."""
    shows_total: ClassVar[bool] = False
    """Whether the learning curve has a column for the root of the loss, `rmse`."""
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for term in self.every_term():
            if min(self.span(term)) < 0.0:
                given = ", ".join(f"{name} is {getattr(self, name)}" for name in dict.fromkeys(self.options_of(term)))
                raise ValueError(f"{given}; prefactors must not be negative")
        if not self.terms():
            raise ValueError("all prefactors are zero: there is nothing to train on")

    # -- defined by a kind ------------------------------------------------------------------------------------------

    def every_term(self) -> dict[str, Term]:
        """Return all terms, on or off, in the order of the loss."""
        raise NotImplementedError

    def weight_labels(self) -> dict[str, Label]:
        """Return the data that are weights of terms, not labels."""
        return {}

    def options_of(self, term: str) -> tuple[str, str]:
        """Names of the options with the start and the limit prefactor."""
        return f"start_pref_{term}", f"limit_pref_{term}"

    def with_target(self, target: Target) -> Loss:
        """Return the loss with the target of a model, if the loss reads one."""
        return self

    def is_square(self, term: str) -> bool:
        """Whether `shown` is a mean square: the learning curve displays its root."""
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
        """Return the contribution of each term to the loss, and its displayed mean.

        `natoms_F` is the number of real atoms of each frame. Sums over the batch are `xp.sum` without `axis`, because
        in a training of several processes these run over the parts of all; what they add up depends on no other sum.
        """
        raise NotImplementedError

    # -- derived ----------------------------------------------------------------------------------------------------

    def span(self, term: str) -> tuple[float, float]:
        """Start and limit prefactor of a term: at lr = start_lr and at lr = 0."""
        start, limit = (float(getattr(self, name)) for name in self.options_of(term))
        return start, limit

    def prefactors(self, ratio: float) -> dict[str, float]:
        """Prefactors of the terms that are on, at `ratio` = lr / start_lr."""
        spans = {term: self.span(term) for term in self.terms()}
        return {term: limit + (start - limit) * ratio for term, (start, limit) in spans.items()}

    def terms(self) -> dict[str, Term]:
        """Terms that are on."""
        return {name: term for name, term in self.every_term().items() if self.span(name) != (0.0, 0.0)}

    def labels(self) -> dict[str, Label]:
        """Return the data that the loss reads: labels and weights."""
        return {**{term.label: term.values for term in self.terms().values()}, **self.weight_labels()}

    def find_labelled(self, available: frozenset[str]) -> dict[str, bool]:
        """Return {term: whether its label is available in the data}."""
        return {name: term.label in available for name, term in self.terms().items()}

    def needed(self) -> frozenset[str]:
        """Return the outputs of the model that the loss reads."""
        return frozenset(term.output for term in self.terms().values())

    def curve_columns(self) -> dict[str, str]:
        """Return {term: its name in the learning curve}."""
        return {name: term.column for name, term in self.terms().items()}


@dataclass(frozen=True)
class OutputLoss(Loss):
    """Loss of an output whose width and labels depend on the model (`target`). Default: mean squares."""

    target: Target = field(default=Target(), kw_only=True, metadata={"derived": True})

    def with_target(self, target: Target) -> OutputLoss:
        """Return the loss with the target of a model."""
        return replace(self, target=target)

    def difference(self, term: str, delta: Array, label: dict[str, Array], *, xp: Namespace) -> Array:
        """Return the difference that a term squares; `delta` is label minus prediction."""
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
        """Return mean squares of the differences of totals (F, d), shown per atom, and of atomic values (N, d).

        Atoms of types without output do not count.
        """
        out = {}
        for name, term in self.terms().items():
            delta = self.difference(name, label[term.label] - prediction[term.output], label, xp=xp)
            square = atomic_square if term.values.per_atom else total_square
            out[name] = square(delta, neighbours, self.target.without, natoms_F, xp=xp)
        return out


def mean(x: Array, *, xp: Namespace) -> Array:
    """Mean over all elements."""
    return xp.sum(x) / xp.sum(xp.ones_like(x))


def atomic_square(
    delta_Nd: Array, neighbours: Neighbours, without: tuple[int, ...], natoms_F: Array, *, xp: Namespace
) -> dict[str, Array]:
    """Mean square of atomic differences over the atoms that have an output; `loss` and `shown` are equal."""
    one_N, _ = _with_output(neighbours, without, natoms_F, xp=xp)
    one_Nd = xp.expand_dims(one_N, axis=-1) + 0.0 * delta_Nd
    value = xp.sum(delta_Nd * delta_Nd * one_Nd) / _at_least_one(xp.sum(one_Nd), xp=xp)
    return {"loss": value, "shown": value}


def total_square(
    delta_Fd: Array, neighbours: Neighbours, without: tuple[int, ...], natoms_F: Array, *, xp: Namespace
) -> dict[str, Array]:
    """Mean square of differences of totals, sum_F n_F delta_F^2 / sum_F n_F, shown over (mean of n_F)^2.

    n_F is the number of atoms of a frame that have an output. A batch without such atoms adds 0.
    """
    _, atoms_F = _with_output(neighbours, without, natoms_F, xp=xp)
    atoms_Fd = xp.expand_dims(atoms_F, axis=-1) + 0.0 * delta_Fd
    number = _at_least_one(xp.sum(atoms_F), xp=xp) / xp.sum(xp.ones_like(atoms_F))
    value = xp.sum(delta_Fd * delta_Fd * atoms_Fd) / _at_least_one(xp.sum(atoms_Fd), xp=xp)
    return {"loss": value, "shown": value / (number * number)}


def _at_least_one(count: Array, *, xp: Namespace) -> Array:
    """Return a number of atoms to divide by: at least 1, as a batch may have none."""
    return xp.maximum(count, xp.ones_like(count))


def _with_output(
    neighbours: Neighbours, without: tuple[int, ...], natoms_F: Array, *, xp: Namespace
) -> tuple[Array, Array]:
    """Return 1 for atoms that have an output and 0 for all others (N,), and their number in each frame (F,)."""
    one_N = 0.0 * xp.astype(neighbours.type_N, xp.float64) + 1.0
    if not without:
        return one_N, natoms_F
    for excluded in without:
        one_N = xp.where(xp.equal(neighbours.type_N, excluded), xp.zeros_like(one_N), one_N)
    return one_N, xp.segment_sum(one_N, neighbours.frame_N, xp.shape(natoms_F)[0])


def total(errors: TermErrors, prefactors: dict[str, Any]) -> Array:
    """Return the loss: the sum over terms of prefactor times contribution."""
    terms = [prefactors[term] * values["loss"] for term, values in errors.items()]
    return sum(terms[1:], start=terms[0])

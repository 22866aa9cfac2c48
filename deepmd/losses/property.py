"""The `property` loss: totals of a property, in units of their deviation in the data (docs/input.md#loss)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepmd.array_model.namespace import Array, Namespace
from deepmd.array_model.neighbours import Neighbours
from deepmd.losses.base import OutputLoss, Term, TermErrors, mean

MEASURES = ("smooth_mae", "mae", "mse", "rmse")


@dataclass(frozen=True)
class PropertyLoss(OutputLoss):
    """Options of the `property` loss.

    Attributes
    ----------
    loss_func : measure of scaled differences that is minimised: mae, mse or smooth_mae, summed over frames and
        components, or rmse, their root mean square
    metric : measures of unscaled differences in the learning curve
    beta : difference at which smooth_mae turns from quadratic to linear
    """

    loss_func: str = "smooth_mae"
    metric: tuple[str, ...] = ("mae",)
    beta: float = 1.0

    kind: ClassVar[str] = "property"
    predicts: ClassVar[tuple[str, ...]] = ("property",)

    def __post_init__(self) -> None:
        for name in (self.loss_func, *self.metric):
            if name not in MEASURES:
                raise ValueError(
                    f"{name!r} is no measure of errors; accepted for loss_func and metric: {', '.join(MEASURES)}"
                )
        if self.beta <= 0.0:
            raise ValueError(f"beta is {self.beta}; it must be positive")
        if not self.metric:
            raise ValueError("metric names nothing to show")

    def every_term(self) -> dict[str, Term]:
        """Return a term for each metric. The first term carries the loss; the others are only shown."""
        return {name: self.target.make_term(name) for name in self.metric}

    def terms(self) -> dict[str, Term]:
        """Return all terms: metrics without a prefactor are shown too."""
        return self.every_term()

    def span(self, term: str) -> tuple[float, float]:
        """Constant prefactors: 1 for the first metric, 0 for all others."""
        return (1.0, 1.0) if term == self.metric[0] else (0.0, 0.0)

    def is_square(self, term: str) -> bool:
        """Whether `shown` is a mean square: the learning curve displays its root."""
        return term == "rmse"

    def errors(
        self,
        prediction: dict[str, Array],
        label: dict[str, Array],
        neighbours: Neighbours,
        natoms_F: Array,
        *,
        xp: Namespace,
    ) -> TermErrors:
        """Return the metrics of totals (F, d), per atom unless intensive, and with each term the whole loss."""
        out = self.target.output
        delta_Fd = label[out.label] - prediction[out.name]
        if not out.intensive:
            delta_Fd = delta_Fd / xp.expand_dims(natoms_F, axis=-1)
        deviation = self.target.deviation or (1.0,) * out.width
        scaled_Fd = xp.stack(
            [column / value for column, value in zip(xp.unstack(delta_Fd, axis=1), deviation, strict=True)], axis=1
        )
        if self.loss_func == "rmse":
            loss = xp.sqrt(mean(scaled_Fd * scaled_Fd, xp=xp))
        else:
            loss = xp.sum(self._measure(self.loss_func, scaled_Fd, xp=xp))
        return {
            term: {"loss": loss, "shown": mean(self._measure(term, delta_Fd, xp=xp), xp=xp)} for term in self.terms()
        }

    def _measure(self, name: str, delta_Fd: Array, *, xp: Namespace) -> Array:
        size = xp.abs(delta_Fd)
        if name == "mae":
            return size
        if name == "smooth_mae":
            return xp.where(size < self.beta, 0.5 * size * size / self.beta, size - 0.5 * self.beta)
        return size * size

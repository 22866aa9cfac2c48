"""Plan of a training: number of terms and domain of expansions follow the weights and the distances of the data.

How a plan is chosen: `deepmd/plan/expansions.py` (docs/design.md#embedding-nets-as-expansions).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from deepmd.adapters.contracts import Trainer
from deepmd.array_model.components import descriptors_of
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.plan.expansions import choose_plan
from deepmd.plan.plans import count_terms, domain_start

log = logging.getLogger(__name__)

CHECK_FREQ = 50
"""Updates between two checks that the expansions still represent the nets."""


class Planner:
    """Plan of a training; the trainer gets another plan when expansions no longer represent the nets.

    Parameters
    ----------
    model : configuration, with the option `evaluation` of each descriptor
    params : parameters to start from
    closest : shortest distance in the training data and in the file to start from, Angstrom, if known
    before : terms of the checkpoint that is continued (`Progress.terms`)

    Attributes
    ----------
    plan : present plan
    closest : shortest distance for which the plan was made, Angstrom: of the data, or of a batch that was outside of
        the domain
    """

    def __init__(
        self, model: Model, params: Params, closest: float | None, before: Sequence[int] | None = None
    ) -> None:
        self._model, self.closest = model, closest
        self.plan, reason = choose_plan(model, params, closest, stored=False, before=before)
        if reason:
            asked = before is None and "spectral" in [part.evaluation for part in descriptors_of(model)]
            level = logging.WARNING if asked else logging.INFO
            log.log(level, "embedding nets are evaluated directly: %s", reason)
        self._tell()

    @property
    def terms(self) -> tuple[int, ...]:
        """Terms of each part, 0 where its nets are evaluated directly."""
        return count_terms(self.plan)

    def cover(self, trainer: Trainer, closest: float, step: int) -> None:
        """Extend the domain of the expansions to the shortest distance of a batch (Angstrom) after `step` updates."""
        start = domain_start(self.plan)
        if closest < start:
            log.info(
                "step %d: two atoms are %.3f Angstrom apart, "
                "nearer than the expansions of the embedding nets reach (%.3f)",
                step,
                closest,
                start,
            )
            self.closest = closest
            self._replan(trainer, step)

    def follow(self, trainer: Trainer, step: int) -> None:
        """Add terms where the weights have grown, every `CHECK_FREQ` updates."""
        if self.due(step):
            self._replan(trainer, step)

    def due(self, step: int) -> bool:
        """Return whether `follow` looks at the weights after this step."""
        return step % CHECK_FREQ == 0 and any(self.terms)

    def _replan(self, trainer: Trainer, step: int) -> None:
        plan, reason = choose_plan(self._model, trainer.params(), self.closest, stored=False, before=self.terms)
        terms = list(zip(count_terms(plan), self.terms, strict=True))
        if all(new == old for new, old in terms) and domain_start(plan) == domain_start(self.plan):
            return
        if any(new < old for new, old in terms):  # a part never loses a few terms, only all
            log.info("step %d: from here on embedding nets are evaluated directly: %s", step, reason)
        if any(new > old for new, old in terms):
            log.info("step %d: more terms are needed", step)
        self.plan = plan
        trainer.replan(plan)
        self._tell()

    def _tell(self) -> None:
        if any(self.terms):
            text = "embedding nets as expansions of %s terms, for distances from %.3f Angstrom"
            log.info(text, max(self.terms), domain_start(self.plan))

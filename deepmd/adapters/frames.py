"""Evaluation of many frames of systems, for fits of biases and full validation. Imports no framework."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from deepmd.adapters.contracts import MakeEvaluator
from deepmd.adapters.evaluation import ExactEvaluator
from deepmd.data.batch import Frames, pack_frames, read_conditions
from deepmd.io.model_file import ModelFile, plan_evaluation
from deepmd.plan.plans import needs_order


class FramesEvaluator:
    """Evaluator of frames: packs consecutive frames of one system together.

    Parameters
    ----------
    make : function `evaluator` of an adapter
    content : the model
    most_atoms : most atoms of frames that are evaluated together; a larger frame is evaluated alone
    """

    def __init__(self, make: MakeEvaluator, content: ModelFile, most_atoms: int = 1) -> None:
        plan, _ = plan_evaluation(content)
        self._model, self._ordered = content.model, needs_order(plan)
        self._evaluate = ExactEvaluator(make, content.model, content.params, plan)
        self._most_atoms = most_atoms

    def __call__(self, frames: Frames, wanted: frozenset[str]) -> dict[str, np.ndarray]:
        """Return the wanted outputs: (F, d) of frames, (F, n, d) of atoms with zeros for virtual atoms.

        Atomic outputs require that all frames have n atoms.
        """
        runs = [self._run(run, wanted) for run in self._runs(frames)]
        return {name: np.concatenate([run[name] for run in runs]) for name in wanted}

    def _runs(self, frames: Frames) -> Iterator[Frames]:
        """Yield the runs of frames that are evaluated together."""
        for _, group in groupby(frames, key=lambda item: id(item[0])):
            same = list(group)
            size = max(1, self._most_atoms // same[0][0].num_atoms)
            yield from (same[first : first + size] for first in range(0, len(same), size))

    def _run(self, frames: Frames, wanted: frozenset[str]) -> dict[str, np.ndarray]:
        system, packed = frames[0][0], pack_frames(self._model, frames, ordered=self._ordered)
        conditions = read_conditions(self._model, frames, packed.atoms)
        evaluate = self._evaluate.at(packed.closest)
        found = evaluate(packed.neighbours, conditions, len(packed.atoms), len(frames), wanted)
        out: dict[str, np.ndarray] = {}
        for name, values in found.items():
            rows = np.asarray(values).reshape(len(values), -1)
            if name in self._model.output.per_frame:
                out[name] = rows
            else:
                # centres come first in `packed.atoms`: atomic values have rows for these only
                atoms = np.zeros((len(frames) * system.num_atoms, rows.shape[1]))
                atoms[packed.atoms[: len(rows)]] = rows
                out[name] = atoms.reshape(len(frames), system.num_atoms, -1)
        return out

"""Common parts of the evaluators: expansions or nets by distance, scalars to differentiate, assembly of outputs.

Imports no framework: arrays pass through `xp`. The evaluators are `deepmd/adapters/*/evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from deepmd.adapters.contracts import Evaluator, MakeEvaluator
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.outputs import DERIVATIVES, Output
from deepmd.array_model.spectral import Plan
from deepmd.plan.plans import direct_plan, domain_start

NEEDS_GRADIENT = frozenset(DERIVATIVES)


class ExactEvaluator:
    """Choice of the evaluator by the shortest distance: expansions inside their domain, the embedding nets outside.

    The evaluator of the nets is built when it is first needed.

    Parameters
    ----------
    make : function `evaluator` of an adapter
    model, params, plan : the model, its parameters, and the plan of its embedding nets

    Attributes
    ----------
    start : start of the domain of the expansions, Angstrom; 0 without expansions
    """

    def __init__(self, make: MakeEvaluator, model: Model, params: Params, plan: Plan) -> None:
        self.start = domain_start(plan)
        self._expansions = make(model, params, plan)
        self._nets: Evaluator | None = None
        self._make_nets = lambda: make(model, params, direct_plan(model))
        self._lock = Lock()

    def at(self, closest: float) -> Evaluator:
        """Return the evaluator for neighbours whose shortest distance is `closest`, Angstrom."""
        if closest >= self.start:
            return self._expansions
        with self._lock:  # blocks are evaluated side by side
            self._nets = self._nets or self._make_nets()
            return self._nets


def assemble(
    model: Model,
    value_Nd: Any,
    descriptor_ND: Any,
    grads_NM3: Sequence[Any],
    neighbours: Neighbours,
    num_atoms: Any,
    num_frames: Any,
    wanted: frozenset[str],
    *,
    xp: Any,
) -> dict[str, Any]:
    """Return the wanted outputs.

    Parameters
    ----------
    value_Nd, descriptor_ND : atomic values and features of the centres
    grads_NM3 : derivatives of `components` by displacements, in the order of `components`
    num_atoms, num_frames : A and F
    """
    from deepmd.array_model import derivatives

    output: Output = model.output
    value = xp.reshape(value_Nd, (-1,)) if output.scalar else value_Nd

    def total() -> Any:
        summed = xp.segment_sum(value, neighbours.frame_N, num_frames)
        if not output.intensive:
            return summed
        atoms = xp.segment_sum(
            model.zero_excluded_atoms(xp.ones_like(value), neighbours, xp=xp), neighbours.frame_N, num_frames
        )
        return summed / xp.maximum(atoms, xp.ones_like(atoms))

    def derived(function: Callable[..., Any], number: Any) -> Any:
        each = [function(grad, neighbours, number, xp=xp) for grad in grads_NM3[: output.width]]
        return each[0] if output.scalar else xp.stack(each, axis=1)

    def atomic_virial() -> Any:
        if not model.layout().needs_neighbour_features:
            return derived(derivatives.atomic_virials, num_atoms)
        moved = grads_NM3[output.width :]  # three moments of component 0, of component 1, ...
        each = [
            derivatives.atomic_virials_of_messages(grad, list(moved[3 * k : 3 * k + 3]), neighbours, num_atoms, xp=xp)
            for k, grad in enumerate(grads_NM3[: output.width])
        ]
        return each[0] if output.scalar else xp.stack(each, axis=1)

    makers: dict[str, Callable[[], Any]] = {
        output.atomic: lambda: value,
        output.name: total,
        "force": lambda: derived(derivatives.forces, num_atoms),
        "virial": lambda: derived(derivatives.virials, num_frames),
        "atom_virial": atomic_virial,
        "descriptor": lambda: descriptor_ND,
    }
    return {name: makers[name]() for name in output.names if name in wanted}


def components(model: Model, value_Nd: Any, neighbours: Neighbours, wanted: frozenset[str], *, xp: Any) -> list[Any]:
    """Return the scalars to differentiate by displacements.

    First sum_i E_i,c of each component c. For atomic virials of message passing then the moments sum_i E_i,c r_i,l, x,
    y and z of component 0, of component 1, ... (`derivatives.atomic_virials_of_messages`).
    """
    columns = xp.unstack(value_Nd, axis=-1)
    sums = [xp.sum(column) for column in columns]
    if model.layout().needs_neighbour_features and "atom_virial" in wanted:
        sums += [
            xp.sum(column * place_N) for column in columns for place_N in xp.unstack(neighbours.in_cell_N3, axis=-1)
        ]
    return sums

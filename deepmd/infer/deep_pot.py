"""Evaluation of structures by a model file, on any backend: `DeepEval`, and `DeepPot` for energies, forces and virials.

Checks of arguments: inputs.py. Other quantities: deep_tensor.py. Evaluators of the frameworks: adapters/.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from deepmd.adapters.contracts import EvaluateModule, evaluate_module
from deepmd.adapters.evaluation import ExactEvaluator
from deepmd.array_model.conditions import CONDITIONS, Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.spectral import CHOICES, Plan
from deepmd.backends import backend_name
from deepmd.data.neighbours import PairList, find_neighbours
from deepmd.data.packing import Packed, pack
from deepmd.data.systems import System
from deepmd.infer.blocks import BlockLimit, block_limit, group_frames, halve_centres, select_centres, split_atoms
from deepmd.infer.hidden_layers import InnerVectors
from deepmd.infer.inputs import (
    EvalInput,
    check_cells,
    check_conditions,
    check_coords,
    check_results,
    check_types,
    name_place,
    warn_of_order,
)
from deepmd.infer.rigidity import EnergyUncertainty
from deepmd.io.formats import backend_of, load_model
from deepmd.io.model_file import ModelFile, evaluation_asked, plan_evaluation
from deepmd.plan.plans import count_terms, needs_order

GLOBAL = frozenset({"energy", "force", "virial"})
ATOMIC = frozenset({"atom_energy", "atom_virial"})


class ExpansionWarning(UserWarning):
    """Expansions were asked for and are impossible, or a pair of atoms is nearer than their domain."""


Results = tuple[np.ndarray, dict[str, np.ndarray]]
"""Atoms of a block, centres first, and its outputs in their order."""


class _Group(NamedTuple):
    """Consecutive frames that are evaluated together: their neighbours, all frames, the first one of the group."""

    neighbours: PairList
    frames: EvalInput
    first: int


class DeepEval(InnerVectors):
    """A model read from a file.

    `DeepEval(file)` returns an instance of the class for what the model predicts: `DeepPot`, `DeepDipole`, ...

    Parameters
    ----------
    model_file : `.dp`, `.yaml`, `.pth`, `.pt`, `.pb`, or the prefix of a TensorFlow checkpoint; the suffix decides
        which backend runs it
    auto_batch_size : largest number of centre atoms of a block. True: DP_INFER_BATCH_SIZE (environment variable;
        default 768 on the processor, on another device as many as it holds); False: no limit. Blocks that do not fit
        on a device are divided. Changes memory, not results
    neighbor_list : must be None; neighbours are found by the `vesin` package
    head : must be None; models with several heads are not supported yet
    nlist_backend : "auto" or "vesin", which mean the same
    no_jit : no effect, because nothing is compiled
    backend : "numpy", "torch" or "tf", in place of the backend of the suffix
    evaluation : "direct" evaluates the embedding nets for every pair of atoms. "spectral" evaluates their expansions,
        exact to 1e-10 (float32: 1e-6) and faster, and warns where expansions are impossible. "auto" evaluates
        expansions where they are possible and cheaper. Default: as in the input of the training
    device : "cpu", "cuda" or "cuda:N". Default: the environment variable DEVICE, without it CUDA where the backend
        finds a device, otherwise the processor. LOCAL_RANK (environment variable) is the N of "cuda", by default 0

    Attributes
    ----------
    device : device that runs the model, "cpu" or "cuda:N"
    evaluation : "direct", or the number of terms of the expansions
    outside : number of pairs of atoms so far that were nearer than the domain of the expansions. Blocks of atoms with
        such a pair take longer, because the nets themselves are evaluated there

    Raises
    ------
    InputError
        The file cannot be read, its framework is not installed, an option is not supported, or the model predicts
        something else.
    """

    outputs: ClassVar[tuple[str, ...]] = ()
    """Outputs of the models that the class evaluates."""

    def __new__(cls, model_file: str | os.PathLike[str], **options: Any) -> DeepEval:
        """Read the file, and choose the class by the output of the model."""
        content = load_model(model_file)
        output = content.model.output.name
        suited = [kind for kind in _subclasses(DeepEval) if output in kind.outputs]
        if not suited:
            raise InputError(f"{model_file}: no class of deepmd.infer is for models of {output}")
        if cls is not DeepEval and output not in cls.outputs:
            others = ", ".join(kind.__name__ for kind in suited)
            own = f"is for models of {' or '.join(cls.outputs)}" if cls.outputs else "is a base class"
            raise InputError(f"{model_file}: {cls.__name__} {own}; this one predicts {output}. Use {others}")
        instance: DeepEval = object.__new__(suited[0] if cls is DeepEval else cls)
        instance._content = content
        return instance

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        *,
        auto_batch_size: bool | int = True,
        neighbor_list: None = None,
        head: str | None = None,
        nlist_backend: str = "auto",
        no_jit: bool = False,
        backend: str | None = None,
        evaluation: str | None = None,
        device: str | None = None,
    ) -> None:
        if head is not None:
            raise InputError(
                f"{model_file}: head is {head!r}, but models with several heads are not supported yet; leave it out"
            )
        if neighbor_list is not None or nlist_backend not in ("auto", "vesin"):
            given = f"neighbor_list = {neighbor_list!r}, nlist_backend = {nlist_backend!r}"
            raise InputError(
                f"{given}: neighbours are found by vesin; accepted: neighbor_list None, nlist_backend 'auto' or 'vesin'"
            )
        self.model_path = str(model_file)
        self.backend = backend_of(model_file) if backend is None else backend_name(backend)
        self._asked_device, self._auto_batch_size = device, auto_batch_size
        self._prepare_device()  # fails now if the framework is not installed
        plan = _choose_plan(self._content, evaluation)
        self.evaluation: str | int = max(count_terms(plan), default=0) or "direct"
        self._layout, self._ordered = self._content.model.layout(), needs_order(plan)
        self.outside = 0
        warn_of_order(self._content.model, self._content.params, self.model_path)
        self._open: Plan | None = plan
        # built by the first evaluation, so that a process forked earlier builds its own
        self._evaluate: ExactEvaluator | None = None

    def _prepare_device(self) -> None:
        """Choose the device, and the limit of its first blocks."""
        self.device = self._adapter().choose_device(self._asked_device)
        self._block_limit = block_limit(self._auto_batch_size, self.device)

    def _adapter(self) -> EvaluateModule:
        """Return the module that evaluates on the backend."""
        return evaluate_module(self.backend)

    # -- predictions ------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """Configuration of the model."""
        return self._content.model

    def conditions_in(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of `data` for the conditions that the model asks for, as arguments of `eval`."""
        return {name: data.get(name) for name, (size, _) in self._content.model.conditions.items() if size}

    def evaluate_system(
        self, system: System, frames: slice | np.ndarray, wanted: frozenset[str]
    ) -> dict[str, np.ndarray]:
        """Return outputs for some frames of a system: (F, d) of frames, (F, n, d) of atoms, zero for virtual atoms.

        An InputError names the system.
        """
        types = system.types[frames] if system.mixed else system.types
        cells = None if system.cell is None else system.cell[frames]
        data = {name: values[frames] for name, values in system.data.items()}
        with name_place(system.path):
            inputs = self._frames(
                system.coord[frames], cells, types, mixed_type=system.mixed, **self.conditions_in(data)
            )
            return self._run(inputs, wanted)

    def _run(self, frames: EvalInput, wanted: frozenset[str]) -> dict[str, np.ndarray]:
        """Evaluate block by block, and scatter the results to frames and atoms."""
        if self._open is None:
            raise InputError(f"{self.model_path}: the model has been closed")
        adapter, content = self._adapter(), self._content
        if self._evaluate is None:
            self._prepare_device()  # once more, because a pickle may have come from a machine with other devices
            self._evaluate = ExactEvaluator(
                partial(adapter.evaluator, device=self.device), content.model, content.params, self._open
            )
        count, natoms = frames.types.shape
        output, asked = self._content.model.output, wanted
        if output.intensive:  # the mean over all atoms is taken at the end, because blocks can only be summed
            wanted = (
                frozenset({output.atomic}) if wanted == {output.name} else (wanted | {output.atomic}) - {output.name}
            )
        per_frame, width = output.per_frame, output.width
        widths = {
            output.name: width,
            output.atomic: width,
            "force": 3 * width,
            "virial": 9 * width,
            "atom_virial": 9 * width,
        }
        widths["descriptor"] = self._content.model.dim_descriptor
        out: dict[str, np.ndarray] = {
            name: np.zeros((count if name in per_frame else count * natoms, widths[name])) for name in wanted
        }
        for first, last in group_frames(np.count_nonzero(frames.types >= 0, axis=1), self._block_limit):
            neighbours = find_neighbours([frames.structure(k) for k in range(first, last)], self.get_rcut())
            self._count_outside(neighbours, self._evaluate.start)
            rows = {
                name: array[first:last] if name in per_frame else array[first * natoms : last * natoms]
                for name, array in out.items()
            }
            for atoms, results in self._evaluated(adapter, _Group(neighbours, frames, first), wanted):
                self._add(rows, atoms, results)
        out = {
            name: array if name in per_frame else array.reshape(count, natoms, array.shape[1])
            for name, array in out.items()
        }
        if output.intensive and output.name in asked:
            counted = np.count_nonzero((frames.types >= 0) & ~np.isin(frames.types, self.types_without_output), axis=1)
            out[output.name] = out[output.atomic].sum(axis=1) / np.maximum(counted, 1)[:, None]
        return check_results({name: out[name] for name in asked}, self.model_path)

    def _evaluated(self, adapter: EvaluateModule, group: _Group, wanted: frozenset[str]) -> Iterator[Results]:
        """Yield the results of the blocks of a group, in the order of the blocks, so that sums are reproducible."""
        workers = adapter.workers(self.device)
        # message passing reads features of all atoms of a frame, so that the atoms stay in one block
        limit = BlockLimit(None) if self._layout.needs_neighbour_features else self._block_limit
        types = group.neighbours.types
        parts = split_atoms(types, limit, workers, adapter.FEWEST_ATOMS)
        evaluate = partial(self._block, adapter, group, wanted)
        # packed lazily by this thread, because packing threads would wait for the interpreter lock; at most
        # workers + 1 blocks are in flight, which bounds memory
        packed = ((centres, self._packed(group, centres)) for centres in parts)
        for centres, block in packed:
            if len(centres) == np.count_nonzero(types >= 0):
                yield from evaluate(centres, block)
                return
            with adapter.side_by_side(), ThreadPoolExecutor(workers) as pool:
                running = deque([pool.submit(evaluate, centres, block)])
                for each in packed:
                    running.append(pool.submit(evaluate, *each))
                    if len(running) > workers:
                        yield from running.popleft().result()
                for done in running:
                    yield from done.result()

    def _packed(self, group: _Group, centres: np.ndarray) -> tuple[Packed, Conditions]:
        """Return the packed neighbours of the centres of one block, and the conditions of its frames or centres."""
        model, (neighbours, frames, first) = self._content.model, group
        own = select_centres(neighbours, centres)
        packed = pack(own, self._layout, model.ntypes, centres=centres, ordered=self._ordered)
        frame, atom = np.divmod(packed.atoms[: len(centres)], frames.types.shape[1])
        of_frames = slice(first, first + neighbours.num_frames)
        return packed, {
            name: values[first + frame, atom] if CONDITIONS[name].per_atom else values[of_frames]
            for name, values in frames.conditions.items()
        }

    def _block(
        self,
        adapter: EvaluateModule,
        group: _Group,
        wanted: frozenset[str],
        centres: np.ndarray,
        block: tuple[Packed, Conditions],
    ) -> list[Results]:
        """Evaluate one block; return its atoms, centres first, and the results in their order.

        A block that does not fit on its device is evaluated in halves.
        """
        assert self._evaluate is not None
        packed, conditions = block
        evaluate = self._evaluate.at(packed.closest)
        try:
            results = evaluate(packed.neighbours, conditions, len(packed.atoms), packed.num_frames, wanted)
            self._block_limit.passed(len(centres))
            return [(packed.atoms, results)]
        except adapter.OUT_OF_MEMORY:
            self._block_limit.failed(len(centres))
        # outside of `except`, because the exception keeps the tensors of the block
        whole = group.frames.types.shape[1] if self._layout.needs_neighbour_features else 1
        halves = halve_centres(centres, whole)
        if len(halves) == 1:
            raise InputError(
                f"{self.model_path}: {len(centres)} atom{'s' * (len(centres) > 1)} that must be evaluated together do "
                f"not fit into the memory of {self.device}. The processor may have more: device='cpu' or DEVICE=cpu"
            )
        return [
            each for half in halves for each in self._block(adapter, group, wanted, half, self._packed(group, half))
        ]

    def _add(self, out: dict[str, np.ndarray], atoms: np.ndarray, results: dict[str, np.ndarray]) -> None:
        """Add the results of a block to `out`, whose rows are the atoms (or frames) of the group."""
        for name, value in results.items():
            rows = slice(None) if name in self._content.model.output.per_frame else atoms[: len(value)]
            out[name][rows] += value.reshape(len(value), -1)  # no atom occurs twice in `atoms`

    def _count_outside(self, neighbours: PairList, start: float) -> None:
        """Count the pairs nearer than `start` (Angstrom), and warn of the first."""
        count = int(np.count_nonzero(neighbours.dist < start))
        if count and not self.outside:
            warnings.warn(
                f"{self.model_path}: two atoms are {neighbours.dist.min():.3f} Angstrom apart, nearer than the "
                f"expansions of the embedding nets reach ({start:.3f}): the nets themselves are evaluated, "
                "which takes longer",
                ExpansionWarning,
                stacklevel=4,
            )
        self.outside += count

    # -- checks -----------------------------------------------------------------------------------------------------

    def _frames(
        self, coords: Any, cells: Any, atom_types: Any, mixed_type: bool = False, **conditions: Any
    ) -> EvalInput:
        """Return the checked arguments of an evaluation."""
        types = check_types(atom_types, mixed_type, self.get_type_map())
        coord = check_coords(coords, types.shape[-1])
        count, natoms, _ = coord.shape
        if mixed_type and len(types) != count:
            raise InputError(
                f"atom_types: has shape {types.shape}, accepted: ({count}, {natoms}), "
                f"one row for each of the {count} frames of coords"
            )
        return EvalInput(
            coord=coord,
            cell=check_cells(cells, count),
            types=np.broadcast_to(types, (count, natoms)),
            conditions=check_conditions(self._content.model, self.model_path, count, natoms, conditions),
        )

    def close(self) -> None:
        """Release the memory of the backend; the model cannot be evaluated afterwards."""
        self._open = self._evaluate = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Share the model and its evaluator, which never change. Each copy has its own `outside` and `close`."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the model itself, because another process may find no file, or another file, in its place."""
        return object.__new__, (type(self),), {**vars(self), "_evaluate": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class DeepPot(EnergyUncertainty, DeepEval):
    """An interatomic potential; arguments as for `DeepEval`."""

    outputs = ("energy",)

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = False,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        charge_spin: Any = None,
        uncertainty: bool | str | os.PathLike[str] = False,
    ) -> tuple[np.ndarray, ...]:
        """Evaluate F frames of n atoms each.

        Parameters
        ----------
        coords : (F, n, 3) or (F, 3n), Angstrom
        cells : (F, 3, 3) or (F, 9), Angstrom, lattice vectors in rows; None for an open boundary
        atom_types : (n,) integers, positions in the type_map; (F, n) with `mixed_type`. A negative type is a virtual
            atom, which has no neighbours and is no neighbour
        atomic : return atomic energies and virials too
        fparam : (F, K) frame parameters, or (K,) for all frames
        aparam : (F, n, K) atomic parameters, or (n, K) for all frames, or (K,) for all atoms
        mixed_type : each frame has its own types
        charge_spin : (F, 2) total charge (in units of e) and spin of each frame, or (2,) for all; truncated to integers
        uncertainty : return standard deviations of energies too. True: from the file beside the model that
            `dp uncertainty fit` writes; a path: from this file (docs/theory/uncertainty.md)

        Returns
        -------
        energy (F, 1) in eV, force (F, n, 3) in eV/Angstrom, virial (F, 9) in eV (force component first), and with
        `atomic` the atomic energy (F, n, 1) and atomic virial (F, n, 9); all float64, zero for virtual atoms
        (docs/theory/conventions.md). With `uncertainty` then the standard deviation of the energy (F, 1) in eV, and
        with `atomic` that of the atomic energy (F, n, 1), infinite where the fit has seen no atom of an element
        """
        frames = self._frames(
            coords, cells, atom_types, mixed_type, fparam=fparam, aparam=aparam, charge_spin=charge_spin
        )
        out = self._run(frames, GLOBAL | ATOMIC if atomic else GLOBAL)
        result: tuple[np.ndarray, ...] = out["energy"], out["force"], out["virial"]
        if atomic:
            result += out["atom_energy"], out["atom_virial"]
        if uncertainty is not False:
            result += self._energy_std(frames, uncertainty)[: 2 if atomic else 1]
        return result


def _subclasses(cls: type) -> list[Any]:
    """Return all subclasses of a class, indirect ones included."""
    children: list[Any] = cls.__subclasses__()
    nested: list[list[Any]] = [[kind, *_subclasses(kind)] for kind in children]
    return [kind for kinds in nested for kind in kinds]


def _choose_plan(content: ModelFile, evaluation: str | None) -> Plan:
    """Return the plan for an option `evaluation`; warn if "spectral" was asked for and nets are evaluated directly."""
    if evaluation is not None and evaluation not in CHOICES:
        raise InputError(
            f"evaluation is {evaluation!r}; accepted: {', '.join(CHOICES)}.{nearest(str(evaluation), CHOICES)}"
        )
    plan, reason = plan_evaluation(content, evaluation)
    if reason and "spectral" in ([evaluation] if evaluation else evaluation_asked(content)):
        warnings.warn(f"the embedding nets are evaluated directly: {reason}", ExpansionWarning, stacklevel=3)
    return plan

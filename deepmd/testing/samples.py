"""Small test systems, their transformations, and `Subject`, a model that evaluates them on a backend."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from deepmd.adapters.contracts import Evaluator
from deepmd.array_model.components import descriptors_of, exchange_descriptors, fittings_of, in_precision, rebuild
from deepmd.array_model.conditions import CONDITIONS, Condition, Conditions
from deepmd.array_model.contracts import Model
from deepmd.array_model.namespace import PRECISIONS, Params
from deepmd.array_model.neighbours import spans
from deepmd.array_model.spectral import Plan
from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.data.packing import Packed, SelWarning, pack
from deepmd.host import plain
from deepmd.plan.expansions import ask_evaluation, choose_plan
from deepmd.plan.plans import direct_plan
from deepmd.testing import backends, strict

Results = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """One frame and its conditions, (K,) or, of atoms, (n, K), with more columns than models ask for."""

    structure: Structure
    conditions: dict[str, np.ndarray]

    def changed(self, **changes: Any) -> Sample:
        """Return the sample with other coordinates, another cell or other types."""
        return replace(self, structure=replace(self.structure, **changes))

    def selected(self, atoms: np.ndarray) -> Sample:
        """Return the sample with these atoms, in this order."""
        structure = self.structure
        conditions = {
            name: values[atoms] if CONDITIONS[name].per_atom else values for name, values in self.conditions.items()
        }
        return replace(self.changed(coord=structure.coord[atoms], types=structure.types[atoms]), conditions=conditions)

    def mapped(self, matrix: np.ndarray) -> Sample:
        """Return the sample with every vector r, lattice vectors included, replaced by matrix r."""
        cell = self.structure.cell
        return self.changed(coord=self.structure.coord @ matrix.T, cell=None if cell is None else cell @ matrix.T)

    def doubled(self) -> Sample:
        """Return the same crystal described by a cell twice as long along the first lattice vector."""
        twice = self.selected(np.tile(np.arange(self.natoms), 2))
        cell = self.cell
        coord = self.structure.coord
        return twice.changed(
            coord=np.concatenate([coord, coord + cell[0]]), cell=cell * np.array([[2.0], [1.0], [1.0]])
        )

    @property
    def natoms(self) -> int:
        """Number of atoms, virtual ones included."""
        return len(self.structure.types)

    @property
    def cell(self) -> np.ndarray:
        """Lattice vectors in rows."""
        assert self.structure.cell is not None
        return self.structure.cell


def make_sample(seed: int, natoms: int, cell: Any, ntypes: int, *, periodic: bool = True) -> Sample:
    """Return up to eight atoms near the points of a grid in a cell, of types 0, 1, ... in random order."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid([0.25, 0.75], [0.25, 0.75], [0.25, 0.75], indexing="ij"), axis=-1).reshape(8, 3)
    points = grid[rng.permutation(8)[:natoms]] + rng.uniform(-0.08, 0.08, (natoms, 3))
    cell = np.asarray(cell, dtype=np.float64)
    structure = Structure(points @ cell, cell if periodic else None, rng.permutation(np.arange(natoms) % ntypes))

    def draw(row: Condition) -> np.ndarray:
        if row.limits:
            return rng.integers([max(low, -4) for low, _ in row.limits.values()], 4).astype(np.float64)
        return rng.normal(size=(natoms, 4) if row.per_atom else 4)

    return Sample(structure, {name: draw(row) for name, row in CONDITIONS.items()})


def systems(rcut: float, ntypes: int) -> dict[str, list[Sample]]:
    """Return batches of frames of every kind; `rcut` is the cutoff of the model, Angstrom."""
    box = rcut * np.diag([1.2, 1.3, 1.4])
    skewed = rcut * np.array([[0.9, 0.1, 0.0], [-0.2, 0.95, 0.1], [0.3, 0.2, 1.0]])
    frame, small = make_sample(1, 7, box, ntypes), make_sample(2, 3, skewed, ntypes)
    cluster = make_sample(3, 6, box, ntypes, periodic=False)
    single = make_sample(4, 1, skewed, ntypes)
    with_virtual = frame.changed(types=np.where(np.arange(7) % 3 == 0, -1, frame.structure.types))
    far = make_sample(5, 3, 40.0 * box, ntypes, periodic=False)
    return {
        "one_frame": [frame],
        "several_frames": [small, make_sample(6, 7, 1.1 * skewed, ntypes), make_sample(7, 5, box, ntypes), cluster],
        "triclinic_small": [small],
        "left_handed": [make_sample(8, 3, skewed[[1, 0, 2]], ntypes)],
        "open": [cluster],
        "one_atom": [single.changed(cell=None)],
        "one_atom_periodic": [single],
        "no_neighbours": [far],
        "shuffled": [frame.selected(np.random.default_rng(9).permutation(7))],
        "virtual": [with_virtual, small],
    }


def in_float64(model: Model) -> Any:
    """Return the model with all its parts in float64."""
    return rebuild(model, lambda leaf: replace(leaf, precision="float64") if "precision" in vars(leaf) else leaf)


SYSTEMS = tuple(systems(1.0, 1))
"""Names of the systems."""


@dataclass(frozen=True)
class Subject:
    """A model under test on one backend.

    Called on samples, it returns results in the order of their atoms, zero for virtual atoms.

    A model whose `evaluation` is "spectral" is evaluated by expansions whose domain covers all of `systems`, with fixed
    coefficients if `stored`. `chosen` is another plan in place of this one.
    """

    model: Model
    params: Params
    backend: str
    stored: bool = True
    name: str = ""
    chosen: Plan | None = None

    @property
    def is_reference(self) -> bool:
        """Whether this evaluation is the one that `reference` makes."""
        return self.backend == "numpy" and self.precision == "float64" and not self.spectral

    @property
    def spectral(self) -> bool:
        """Whether expansions of the embedding nets are under test."""
        return any(part.evaluation == "spectral" for part in descriptors_of(self.model))

    @cached_property
    def closest(self) -> float:
        """Shortest distance of two atoms in `systems`, Angstrom."""
        structures = [sample.structure for samples in self.systems.values() for sample in samples]
        return float(find_neighbours(structures, self.model.layout().rcut).dist.min())

    @cached_property
    def plan(self) -> Plan:
        """Plan of the embedding nets; fails if an expansion is asked for and impossible."""
        if self.chosen is not None:
            return self.chosen
        if not self.spectral:
            return direct_plan(self.model)
        plan, reason = choose_plan(self.model, self.params, self.closest, stored=self.stored)
        assert any(plan), f"evaluated directly: {reason}"
        return plan

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluator of the backend, built once."""
        return backends.evaluator(self.backend, self.model, self.params, self.plan)

    @property
    def precision(self) -> str:
        """Lowest precision in which the model computes: a row of the table of tolerances."""
        used = {
            "float64",
            *(
                PRECISIONS[getattr(part, "precision", "float64")]
                for part in (*descriptors_of(self.model), *fittings_of(self.model))
            ),
        }
        return next(name for name in ("bfloat16", "float16", "float32", "float64") if name in used)

    @cached_property
    def wide(self) -> Subject:
        """The model in float64."""
        model = in_float64(self.model)
        return replace(self, model=model, params=in_precision(model, self.params, xp=plain))

    @cached_property
    def reference(self) -> Subject:
        """The model evaluated by NumPy in float64, with direct evaluation of its nets."""
        if self.is_reference and self.chosen is None:
            return self
        wide = self.wide
        direct = exchange_descriptors(
            wide.model, (ask_evaluation(part, "direct") for part in descriptors_of(wide.model))
        )
        return replace(wide, model=direct if self.spectral else wide.model, backend="numpy", chosen=None)

    @property
    def against_reference(self) -> str:
        """Row of the table of tolerances for all outputs against the reference; "" where each output has its own."""
        return "spectral" if self.spectral else ""

    @cached_property
    def systems(self) -> dict[str, list[Sample]]:
        """Systems for the model's cutoff and types."""
        return systems(self.model.layout().rcut, self.model.ntypes)

    @cached_property
    def _known(self) -> dict[str, Results]:
        return {}

    def results_of(self, system: str) -> Results:
        """Return the results for one of `systems`, evaluated once; their arrays are read-only."""
        if system not in self._known:
            self._known[system] = self(self.systems[system])
            for values in self._known[system].values():
                values.flags.writeable = False
        return self._known[system]

    def pack(self, samples: Sequence[Sample]) -> Packed:
        """Pack samples for the model, without warnings of overflow."""
        layout = self.model.layout()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelWarning)
            return pack(
                find_neighbours([sample.structure for sample in samples], layout.rcut), layout, self.model.ntypes
            )

    def conditions(self, samples: Sequence[Sample], packed: Packed) -> Conditions:
        """Return the conditions that the model asks for."""
        centres = packed.atoms[: len(packed.neighbours.type_N)]

        def values(name: str, size: int) -> np.ndarray:
            each = [sample.conditions[name] for sample in samples]
            out = np.concatenate(each)[centres] if CONDITIONS[name].per_atom else np.stack(each)
            return out[:, :size]

        return {name: values(name, size) for name, (size, _) in self.model.conditions.items() if size}

    def evaluate(self, packed: Packed, conditions: Conditions, wanted: frozenset[str] | None = None) -> Results:
        """Return results in the order of `packed`; all outputs of the model if `wanted` is None."""
        wanted = frozenset(self.model.output.names) if wanted is None else wanted
        if self.backend == "strict":
            return strict.evaluate(
                self.model, self.params, self.plan, packed.neighbours, conditions, packed.num_frames, wanted
            )
        return self.evaluator(packed.neighbours, conditions, len(packed.atoms), packed.num_frames, wanted)

    def __call__(
        self, samples: Sequence[Sample], wanted: frozenset[str] | None = None, packed: Packed | None = None
    ) -> Results:
        """Return results in the order of the samples' atoms; `packed` replaces the packing of the samples."""
        packed = self.pack(samples) if packed is None else packed
        natoms = sum(sample.natoms for sample in samples)
        out = {}
        for name, values in self.evaluate(packed, self.conditions(samples, packed), wanted).items():
            if name in self.model.output.per_frame:
                out[name] = values
            else:
                out[name] = np.zeros((natoms, *values.shape[1:]), dtype=values.dtype)
                out[name][packed.atoms[: len(values)]] = values
        return out


def with_columns(packed: Packed, columns: Sequence[np.ndarray], widths: Sequence[int], rcut: float) -> Packed:
    """Return a packing whose section t has the columns `columns[t]` (N, w) of the old one, then empty slots."""
    neighbours = packed.neighbours
    rows, parts = np.arange(len(neighbours.type_N))[:, None], []
    for chosen, width in zip(columns, widths, strict=True):
        empty = width - chosen.shape[1]
        far = np.broadcast_to([2.0 * rcut, 0.0, 0.0], (len(rows), empty, 3))
        none = np.zeros((len(rows), empty), dtype=np.int64)
        new = [
            (neighbours.disp_NM3[rows, chosen], far),
            (neighbours.mask_NM[rows, chosen], none.astype(bool)),
            (neighbours.index_NM[rows, chosen], none),
        ]
        if neighbours.type_NM.shape[1]:
            new.append((neighbours.type_NM[rows, chosen], none + neighbours.type_NM[:, -1:]))
        parts.append([np.concatenate(both, axis=1) for both in new])
    disp, mask, index, *kinds = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    changed = replace(
        neighbours,
        disp_NM3=disp,
        mask_NM=mask,
        index_NM=index,
        widths=tuple(widths),
        type_NM=(kinds or [neighbours.type_NM])[0],
    )
    return replace(packed, neighbours=changed)


def widened(packed: Packed, widths: Sequence[int], rcut: float) -> Packed:
    """Return the packing with more empty slots in its sections."""
    columns = [
        np.tile(np.arange(start, stop), (len(packed.neighbours.type_N), 1))
        for start, stop in spans(packed.neighbours.widths)
    ]
    return with_columns(packed, columns, widths, rcut)


def reordered(packed: Packed, seed: int, rcut: float) -> Packed:
    """Return the packing with the slots of every section shuffled for each atom, empty slots among them."""
    rng = np.random.default_rng(seed)
    rows, mixed = (
        (len(packed.neighbours.type_N), 1),
        int(packed.neighbours.type_NM.shape[1] > 0),
    )  # the last slot of a mixed row stays last and empty
    columns, sections = [], spans(packed.neighbours.widths)
    for start, stop in sections:
        fixed = mixed if (start, stop) == sections[-1] else 0
        moved = rng.permuted(np.tile(np.arange(start, stop - fixed), rows), axis=1)
        columns.append(np.concatenate([moved, np.full((rows[0], fixed), stop - 1)], axis=1))
    # inner lists are prefixes of sorted rows; in shuffled rows the prefix is the whole row
    packed = replace(
        packed,
        neighbours=replace(packed.neighbours, inner=(packed.neighbours.widths[-1] - 1,) * len(packed.neighbours.inner)),
    )
    return with_columns(packed, columns, packed.neighbours.widths, rcut)

"""`.pth`: TorchScript that runs without this package, in LAMMPS or in any program with torch (docs/layouts.md#pth).

Parts of the model are traced on a small example; the scripted shell around them is `shell.py`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from deepmd.adapters.getters import Getters, getters_of
from deepmd.adapters.torch.arrays import cast_bfloat16, params_to_torch
from deepmd.adapters.torch.energy_shell import EnergyShell
from deepmd.adapters.torch.namespace import xp
from deepmd.adapters.torch.shell import Border, NeighbourArrays, Shell
from deepmd.adapters.torch.tensor_shell import TensorShell
from deepmd.array_model import derivatives
from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.contracts import Model
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.neighbours import ARRAYS, SIZES, Layout, Neighbours, flatten_neighbours, unflatten_neighbours
from deepmd.array_model.spectral import Plan
from deepmd.array_model.tree import flatten, paths, replace_leaves
from deepmd.data import search
from deepmd.data.pack_candidates import PackedCandidates, pack_candidates
from deepmd.io.atomic import replacing
from deepmd.io.bounded import check_arrays
from deepmd.io.kit_table import from_kit
from deepmd.io.model_file import ModelFile, from_json, plan_evaluation, to_json
from deepmd.io.torch_archive import Module, attributes, read_archive
from deepmd.plan.plans import PLAN, direct_plan, domain_start, map_tables, tables_of, with_tables


def save_pth(path: Path, content: ModelFile) -> None:
    """Write a `.pth` file."""
    buffer = io.BytesIO()
    with _known_deprecation():
        torch.jit.save(scripted(content), buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_pth(path: Path) -> ModelFile:
    """Read a `.pth` file of this program or of DeePMD-kit. No code of the file is executed."""
    module = read_archive(path)
    if not isinstance(module, Module):
        raise InputError(
            f"{path}: not a TorchScript model, but other objects or a training checkpoint. "
            "Freeze the checkpoint with the program that wrote it, or give it the suffix .pt"
        )
    values = attributes(module)
    definition = values.get("definition")
    if not isinstance(definition, str):
        content: ModelFile = from_kit("read_pth")(values, path)
        return content
    prefix = "core."
    tensors = {
        name.removeprefix(prefix): leaf
        for name, leaf in values.items()
        if name.startswith(prefix) and isinstance(leaf, np.ndarray)
    }
    check_arrays((leaf.nbytes for leaf in tensors.values()), path)
    return from_json(definition, {_path_of(name): leaf for name, leaf in tensors.items()}, str(path))


@contextmanager
def _known_deprecation() -> Iterator[None]:
    """Silence torch's deprecation warning of TorchScript, because C++ programs read no other format yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.* is deprecated")
        yield


# -- names of buffers -----------------------------------------------------------------------------------------------


def _name_of(path: str) -> str:
    return path.replace("/", "__")


def _path_of(name: str) -> str:
    return name.replace("__", "/")


# -- parts that are traced --------------------------------------------------------------------------------------------


def _as_tuple(packed: PackedCandidates) -> tuple[torch.Tensor, ...]:
    """Return the fields of `NeighbourArrays`, sizes on the processor; traces return plain tuples.

    One copy fetches all sizes, because each one that the processor asked a device for would be a wait of its own.
    """
    arrays = flatten_neighbours(packed.neighbours, xp=xp)
    sizes = torch.cat([arrays[name] for name in SIZES]).cpu()
    lengths = [len(getattr(packed.neighbours, name)) for name in SIZES]
    arrays |= dict(zip(SIZES, sizes.split(lengths), strict=True))
    return tuple(NeighbourArrays(**arrays, row_N=packed.row_N, position_A=packed.position_A))


def _neighbours(arrays: tuple[torch.Tensor, ...]) -> Neighbours:
    """Return the neighbours in the fields of `NeighbourArrays`; traces get plain tuples."""
    return unflatten_neighbours(NeighbourArrays(*arrays)._asdict(), xp=xp)


class _OpenCell(torch.nn.Module):  # type: ignore[misc]
    """Cell that encloses atoms with an open boundary."""

    def __init__(self, rcut: float) -> None:
        super().__init__()
        self.rcut = rcut

    def forward(self, coord_A3: torch.Tensor) -> torch.Tensor:
        return search.enclosing_cell(coord_A3, self.rcut, xp=xp)


class _Find(torch.nn.Module):  # type: ignore[misc]
    """Neighbour search: atoms and cells to neighbours."""

    def __init__(self, layout: Layout, ntypes: int) -> None:
        super().__init__()
        self.layout, self.ntypes = layout, ntypes

    def forward(
        self,
        coord_A3: torch.Tensor,
        type_A: torch.Tensor,
        frame_A: torch.Tensor,
        cell_F33: torch.Tensor,
        periodic: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        found = search.candidates(coord_A3, type_A, frame_A, cell_F33, self.layout.rcut, periodic, xp=xp)
        return _as_tuple(pack_candidates(found, type_A, frame_A, self.layout, self.ntypes, xp=xp))


class _TakeListed(_Find):
    """Atoms and a neighbour list to neighbours. `owner_A`: the atom whose features each atom (an image, say) has."""

    def forward(  # type: ignore[override]
        self,
        coord_A3: torch.Tensor,
        type_A: torch.Tensor,
        frame_A: torch.Tensor,
        atom_N: torch.Tensor,
        index_NC: torch.Tensor,
        owner_A: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        found = search.listed(coord_A3, atom_N, index_NC, self.layout.rcut, xp=xp)
        if self.layout.needs_neighbour_features:
            found = replace(found, index_NC=owner_A[found.index_NC])
        return _as_tuple(pack_candidates(found, type_A, frame_A, self.layout, self.ntypes, xp=xp))


def _in_two_halves(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a b = a[:, :K/2] b[:K/2] + a[:, K/2:] b[K/2:] by one batched product; other products as they are."""
    if b.dim() != 2 or b.size(0) % 2 != 0:
        return torch.matmul(a, b)
    left = a.reshape(-1, 2, b.size(0) // 2).transpose(0, 1)
    product = torch.bmm(left, b.reshape(2, b.size(0) // 2, b.size(1))).sum(dim=0)
    return product.reshape(a.size()[:-1] + [b.size(1)])  # noqa: RUF005 (TorchScript)


@cache
def _traced_namespace() -> Any:
    """Return the namespace of traces: a product with one matrix is a batched product of two halves.

    LAMMPS brings an unoptimised `dgemm`, which replaces torch's in its process and makes a step three times as long
    (docs/interop.md#our-files-in-deepmd-kit-320). Batched products do not call `dgemm`. The product is compiled,
    because a trace cannot branch on sizes.
    """
    with _known_deprecation():
        return SimpleNamespace(**{**vars(xp), "matmul": torch.jit.script(_in_two_halves)})


_LIBRARY = torch.library.Library("deepmd", "FRAGMENT")
"""Place of the operator `border_op` where DeePMD-kit's library, which has the operator, is not loaded."""


def _halo_exchange(x_NK: torch.Tensor, row_N: torch.Tensor, position_A: torch.Tensor, border: Border) -> torch.Tensor:
    """Halo exchange: features of all atoms (A, K) from features of the centres (N, K); identity without other ranks."""
    send_list, send_proc, recv_proc, send_num, recv_num, communicator, own, foreign = border
    if communicator.numel() == 0:
        # a view, because the trace would identify the returned array with the argument
        return x_NK.view_as(x_NK)
    blank_AK = torch.zeros([position_A.size(0), x_NK.size(1)], dtype=torch.float64, device=x_NK.device)
    # from the order by type to the caller's, own atoms first, and back
    listed_AK = blank_AK.index_copy(0, row_N, x_NK.to(torch.float64))
    found = torch.ops.deepmd.border_op(
        send_list, send_proc, recv_proc, send_num, recv_num, listed_AK, communicator, own, foreign
    )
    return torch.zeros_like(blank_AK).index_copy(0, position_A, found[0]).to(x_NK.dtype)


@cache
def _compiled_halo_exchange() -> Any:
    """Return the compiled halo exchange.

    Its operator `deepmd::border_op` is DeePMD-kit's and is loaded by DeePMD-kit's C++ and Python. Here only its
    signature is declared, which is enough to compile.
    """
    if not hasattr(torch.ops.deepmd, "border_op"):
        _LIBRARY.define("border_op(" + ", ".join(f"Tensor _{k}" for k in range(9)) + ") -> Tensor[]")
    with _known_deprecation():
        return torch.jit.script(_halo_exchange)


class _CutBlock(torch.nn.Module):  # type: ignore[misc]
    """Neighbours of the centres start <= i < stop."""

    def forward(
        self, arrays: tuple[torch.Tensor, ...], start: torch.Tensor, stop: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        whole = NeighbourArrays(*arrays)
        rows = {name: getattr(whole, name)[start:stop] for name in ARRAYS}
        # centres of a type in the block: overlap of the run of the type with [start, stop)
        stops = whole.counts.cumsum(0)
        counts = torch.clamp(stops, start, stop) - torch.clamp(stops - whole.counts, start, stop)
        return tuple(whole._replace(**rows, counts=counts))


class _Core(torch.nn.Module):  # type: ignore[misc]
    """Neighbours to atomic values (N, d); parameters and plan are buffers named by their paths."""

    def __init__(self, model: Model, tensors: Params, plan: Plan) -> None:
        super().__init__()
        both = {**tensors, PLAN: tables_of(plan)}
        self.model, self.plan, self.names = model, plan, paths(both)
        for path, leaf in flatten(both).items():
            self.register_buffer(_name_of(path), leaf)

    def forward(
        self,
        disp_NM3: torch.Tensor,
        arrays: tuple[torch.Tensor, ...],
        conditions: dict[str, torch.Tensor],
        border: Border,
    ) -> torch.Tensor:
        """Return atomic values; `disp_NM3`, which is differentiated, replaces the displacements of `arrays`."""
        params = replace_leaves(
            self.names, {path: getattr(self, _name_of(path)) for path in flatten(self.names).values()}
        )
        plan = with_tables(self.plan, params.pop(PLAN))
        neighbours = replace(_neighbours(arrays), disp_NM3=disp_NM3)
        space = _traced_namespace()
        if self.model.layout().needs_neighbour_features:
            *_, row_N, position_A = arrays
            exchange = lambda x_NK: _compiled_halo_exchange()(x_NK, row_N, position_A, border)  # noqa: E731
            space = SimpleNamespace(**{**vars(space), "halo_exchange": exchange})
        return self.model.atomic_output(cast_bfloat16(self.model, params), neighbours, conditions, plan, xp=space)[0]


class _Derive(torch.nn.Module):  # type: ignore[misc]
    """dE/d(displacement) to forces, in the caller's order of atoms, and virials."""

    def forward(
        self, grad: torch.Tensor, arrays: tuple[torch.Tensor, ...], num_frames: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        neighbours, position_A = _neighbours(arrays), arrays[-1]
        force = derivatives.forces(grad, neighbours, xp.size(position_A, 0), xp=xp)
        return xp.take(force, position_A, axis=0), derivatives.virials(grad, neighbours, num_frames, xp=xp)


class _DeriveAtomic(torch.nn.Module):  # type: ignore[misc]
    """dE/d(displacement) to atomic virials in the caller's order of atoms; message passing also reads the moments."""

    def __init__(self, needs_neighbour_features: bool) -> None:
        super().__init__()
        self.needs_neighbour_features = needs_neighbour_features

    def forward(self, grad: torch.Tensor, moments: torch.Tensor, arrays: tuple[torch.Tensor, ...]) -> torch.Tensor:
        neighbours, position_A = _neighbours(arrays), arrays[-1]
        num_atoms = xp.size(position_A, 0)
        if self.needs_neighbour_features:
            virial = derivatives.atomic_virials_of_messages(grad, moments.unbind(), neighbours, num_atoms, xp=xp)
        else:
            virial = derivatives.atomic_virials(grad, neighbours, num_atoms, xp=xp)
        return xp.take(virial, position_A, axis=0)


# -- the whole model ------------------------------------------------------------------------------------------------


def _parts(content: ModelFile, plan: Plan) -> dict[str, tuple[torch.nn.Module, tuple[Any, ...]]]:
    """Return the parts of the program with the example that each is traced on: two frames of a dense gas."""
    model, layout = content.model, content.model.layout()
    generator = torch.Generator().manual_seed(0)
    atoms = 13  # primes, so that no two sizes agree by chance
    coord = layout.rcut * torch.rand((atoms, 3), generator=generator, dtype=torch.float64)
    types, frame = torch.arange(atoms) % model.ntypes, torch.arange(atoms) // 7
    cell = 1.1 * layout.rcut * torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    listed = (coord, types, frame, torch.arange(5), torch.arange(5 * 11).reshape(5, 11) % 7, torch.arange(atoms))
    conditions = {
        name: torch.ones((atoms if CONDITIONS[name].per_atom else 2, size), dtype=torch.float64)
        for name, (size, _) in model.conditions.items()
    }
    frames = (coord, types, frame, cell, torch.ones(1, dtype=torch.float64))
    find = _Find(layout, model.ntypes)
    arrays = find(*frames)
    disp, *_ = arrays
    moments = torch.stack([disp] * (3 if layout.needs_neighbour_features else 1))
    alone = (torch.empty(0, dtype=torch.int64),) * 8  # a `Border` without other ranks
    evaluated, tensors = (disp, arrays, conditions, alone), params_to_torch(content.params)
    parts: dict[str, tuple[torch.nn.Module, tuple[Any, ...]]] = {
        "open_cell": (_OpenCell(layout.rcut), (coord,)),
        "find": (find, frames),
        "take_listed": (_TakeListed(layout, model.ntypes), listed),
        "core": (_Core(model, tensors, map_tables(params_to_torch, plan)), evaluated),
        "cut_block": (_CutBlock(), (arrays, torch.tensor(3), torch.tensor(11))),
        "derive": (_Derive(), (disp, arrays, torch.tensor(2))),
        "derive_atomic": (_DeriveAtomic(layout.needs_neighbour_features), (disp, moments, arrays)),
    }
    if domain_start(plan) > 0.0:  # `nets` shares its tensors with `core`, and torch stores a shared tensor once
        parts["nets"] = _Core(model, tensors, direct_plan(model)), evaluated
    return parts


def scripted(content: ModelFile) -> Any:
    """Trace the parts and compile the shell around them."""
    plan, _ = plan_evaluation(content)
    parts = {name: _traced(part, inputs) for name, (part, inputs) in _parts(content, plan).items()}
    scripted = torch.jit.script(_shell(content, plan, parts))
    for name, (returned, _) in _getters(content).items():
        annotation = returned.__name__ if isinstance(returned, type) else str(returned)
        scripted.define(f"def {name}(self) -> {annotation}:\n    return self._{name}\n")
    return scripted


def _getters(content: ModelFile) -> Getters:
    return {name: each for name, each in getters_of(content).items() if not name.startswith("get_default_")}


def _shell(content: ModelFile, plan: Plan, parts: dict[str, torch.nn.Module]) -> Shell:
    """Return the shell around the parts."""
    model = content.model
    kind = EnergyShell if model.output.scalar else TensorShell
    shell: Shell = kind(
        definition=to_json(content, "torch"),
        getters=_getters(content),
        layout=model.layout(),
        output=model.output,
        excluded=list(model.atom_exclude_types),
        domain_start=domain_start(plan),
        conditions=model.conditions,
        # `nets` after `core`, because torch stores a shared tensor under its first owner
        parts={**parts, "nets": parts.get("nets", parts["core"])},
    )
    return shell.eval()  # type: ignore[no-any-return]


def _traced(part: torch.nn.Module, inputs: tuple[Any, ...]) -> Any:
    """Trace a part; a size that would be frozen into the trace is an error."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        return torch.jit.trace(part.eval(), inputs, check_trace=False)

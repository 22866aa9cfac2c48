"""TorchScript shell of a `.pth`: methods that LAMMPS and DeePMD-kit's Python call, around parts traced by `export.py`.

torch compiles the class from its source: only TorchScript's subset of Python, and no postponed annotations. Methods,
arguments and keys of results are DeePMD-kit's (docs/layouts.md#pth).
"""

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from deepmd.adapters.getters import Getters
from deepmd.array_model.conditions import CONDITIONS, Asked
from deepmd.array_model.neighbours import FIELDS, Layout
from deepmd.array_model.outputs import Output

BLOCK, DEVICE_BLOCK = 256, 4096
"""Centres per block on the processor, whose caches hold the intermediates, and on other devices, which 400,000
neighbours keep busy (an estimate). Memory does not grow with the atoms."""

if TYPE_CHECKING:  # TorchScript needs tuples with types, and mypy rejects computed ones
    NeighbourArrays = Any
    Border = Any
else:
    NeighbourArrays = NamedTuple("NeighbourArrays", [(name, torch.Tensor) for name in (*FIELDS, "row_N", "position_A")])
    """Flattened neighbours, and the maps from their order of atoms to the caller's (`PackedCandidates`)."""

    Border = tuple[(torch.Tensor,) * 8]
    """Arguments of `deepmd::border_op`, the halo exchange between MPI ranks: send_list, send_proc, recv_proc, send_num,
    recv_num, communicator (empty without other ranks), numbers of own and of ghost atoms."""


class Shell(torch.nn.Module):  # type: ignore[misc]
    """Complete model. Subclasses name its outputs (`_named`, `_common`).

    Parameters
    ----------
    definition : JSON from which the whole model is rebuilt, with the named buffers of `core` for arrays
    getters : their values become attributes `_NAME`; `export` defines the functions
    layout, output, excluded, conditions : of the model
    domain_start : start of the domain of the expansions of embedding nets, Angstrom
    parts : traced parts by name (`export.scripted`)
    """

    def __init__(
        self,
        definition: str,
        getters: Getters,
        layout: Layout,
        output: Output,
        excluded: list[int],
        domain_start: float,
        conditions: dict[str, Asked],
        parts: dict[str, torch.nn.Module],
    ) -> None:
        super().__init__()
        self.definition = definition
        for name, (kind, value) in getters.items():
            setattr(self, f"_{name}", torch.jit.Attribute(value, kind))
        self.ntypes: int = getters["get_ntypes"][1]
        self.domain_start = domain_start
        self.warned = False
        self.needs_features = layout.needs_neighbour_features
        # centres per block; one block for message passing, where centres read features of centres
        self.block_size, self.device_block_size = (2**31, 2**31) if self.needs_features else (BLOCK, DEVICE_BLOCK)
        self.dim = output.width
        self.differentiable = output.differentiable
        self.intensive = output.intensive
        self.excluded = torch.jit.Attribute(excluded, list[int])
        self.dims = torch.jit.Attribute({name: asked.dim for name, asked in conditions.items()}, dict[str, int])
        self.per_atom = torch.jit.Attribute({name: row.per_atom for name, row in CONDITIONS.items()}, dict[str, bool])
        limits = {name: [end for ends in row.limits.values() for end in ends] for name, row in CONDITIONS.items()}
        self.limits = torch.jit.Attribute(limits, dict[str, list[int]])
        # tensors: TorchScript rounds lists of numbers to float32 on the way to a tensor
        defaults = {name: torch.tensor(default or (), dtype=torch.float64) for name, (_, default) in conditions.items()}
        self.defaults = torch.jit.Attribute(defaults, dict[str, torch.Tensor])
        # `fparam` and `aparam` are ignored where the model does not ask, because programs pass them to every model
        unasked = {
            name: f"{name} is given, but this model does not depend on {' and '.join(CONDITIONS[name].limits) or name}"
            for name, (dim, _) in conditions.items()
            if dim == 0 and name not in ("fparam", "aparam")
        }
        self.unasked = torch.jit.Attribute(unasked, dict[str, str])
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        box: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
        charge_spin: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Find the neighbours of frames (F) of n atoms each, and evaluate.

        Parameters
        ----------
        coord : (F, n, 3) or (F, 3n), Angstrom
        atype : (F, n); a negative type is a virtual atom
        box : (F, 9) or (F, 3, 3), lattice vectors in rows, Angstrom; None for an open boundary
        fparam, aparam : (F, K), (F, n, K)
        do_atomic_virial : whether to return atomic virials
        charge_spin : (F, 2), or 2 values for all frames

        Returns
        -------
        what `_named` of the subclass says; eV and Angstrom
        """
        nf = coord.size(0)
        given: dict[str, torch.Tensor | None] = {"fparam": fparam, "aparam": aparam, "charge_spin": charge_spin}
        found = self._found(coord, atype, box)
        alone = self._border(None, 0, 0)
        out = self._evaluate(found, nf, atype.numel() // nf, given, do_atomic_virial, coord.dtype, alone)
        named: dict[str, torch.Tensor] = self._named(out, atype, False)
        return named

    @torch.jit.export
    def forward_lower(
        self,
        extended_coord: torch.Tensor,
        extended_atype: torch.Tensor,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
        comm_dict: dict[str, torch.Tensor] | None = None,
        charge_spin: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate with a neighbour list, as LAMMPS does: ghost atoms (images) follow the nloc centres.

        Parameters
        ----------
        extended_coord, extended_atype : (F, nall, 3) or (F, 3 nall), Angstrom; (F, nall)
        nlist : (F, nloc, W) neighbours in any order, also beyond the cutoff, -1 where empty
        mapping : (F, nall) owner of each atom among the centres; message passing needs it unless there is `comm_dict`.
            Derivatives by images are then added to their owners, and are zero for the images
        fparam, aparam : (F, K), (F, nloc, K)
        do_atomic_virial : whether to return atomic virials
        comm_dict : arguments of the halo exchange between MPI ranks; only message passing reads it
        charge_spin : (F, 2), or 2 values for all frames

        Returns
        -------
        what `_named` of the subclass says, derivatives for all nall atoms
        """
        nf, nloc = nlist.size(0), nlist.size(1)
        border = self._border(comm_dict, nloc, extended_atype.numel() // nf - nloc)
        found = self._listed(extended_coord, extended_atype, nlist, mapping, border[5].numel() > 0)
        given: dict[str, torch.Tensor | None] = {"fparam": fparam, "aparam": aparam, "charge_spin": charge_spin}
        out = self._evaluate(found, nf, nloc, given, do_atomic_virial, extended_coord.dtype, border)
        named: dict[str, torch.Tensor] = self._named(out, extended_atype[:, :nloc], True)
        return named

    @torch.jit.export
    def forward_common_lower(
        self,
        extended_coord: torch.Tensor,
        extended_atype: torch.Tensor,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
        comm_dict: dict[str, torch.Tensor] | None = None,
        extra_nlist_sort: bool = False,
        extended_coord_corr: torch.Tensor | None = None,
        charge_spin: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate as `forward_lower`, under the names that DeePMD-kit's Python asks for.

        `do_atomic_virial` is ignored, because the caller always sums atomic virials itself. `extra_nlist_sort` is
        ignored, because neighbours are always sorted, and `extended_coord_corr`, because there are no spins.
        """
        out = self.forward_lower(
            extended_coord, extended_atype, nlist, mapping, fparam, aparam, True, comm_dict, charge_spin
        )
        common: dict[str, torch.Tensor] = self._common(out, extended_atype[:, : nlist.size(1)])
        return common

    @torch.jit.export
    def get_definition(self) -> str:
        """Return the JSON from which the whole model is rebuilt."""
        return self.definition

    @torch.jit.export
    def get_default_chg_spin(self) -> torch.Tensor | None:
        """Return the default of charge and spin, None without a default."""
        default = self.defaults["charge_spin"]
        return default if default.numel() > 0 else None

    def _found(self, coord: torch.Tensor, atype: torch.Tensor, box: torch.Tensor | None) -> NeighbourArrays:
        """Find the neighbours of all atoms."""
        coord_A3, type_A, frame_A = self._atoms(coord, atype)
        with torch.no_grad():
            cell, periodic = self.open_cell(coord_A3), coord_A3.new_zeros([1])
            if box is not None and box.numel() > 0:
                cell, periodic = box.detach().reshape(-1, 3, 3).to(torch.float64), coord_A3.new_ones([1])
            cell_F33 = cell.expand(coord.size(0), 3, 3)
            return NeighbourArrays(*self.find(coord_A3, type_A, frame_A, cell_F33, periodic))

    def _listed(
        self, coord: torch.Tensor, atype: torch.Tensor, nlist: torch.Tensor, mapping: torch.Tensor | None, shared: bool
    ) -> NeighbourArrays:
        """Take the neighbours from lists.

        Message passing replaces images by their owners (`mapping`), unless ranks share the atoms (`shared`): then the
        halo exchange fetches features of images.
        """
        nf, nloc = nlist.size(0), nlist.size(1)
        coord_A3, type_A, frame_A = self._atoms(coord, atype)
        with torch.no_grad():
            nall = type_A.size(0) // nf
            frame_F11 = torch.arange(nf, device=nlist.device).reshape(nf, 1, 1)
            index_NC = torch.where(nlist < 0, -1, nlist.to(torch.int64) + frame_F11 * nall)
            index_NC = index_NC.reshape(nf * nloc, nlist.size(2))
            first_F1 = frame_F11.reshape(nf, 1) * nall
            atom_N = (torch.arange(nloc, device=nlist.device).reshape(1, nloc) + first_F1).reshape(-1)
            owner_A = torch.arange(nf * nall, device=nlist.device)
            if self.needs_features and not shared and nall > nloc:
                if mapping is None:
                    raise ValueError(
                        f"{nall - nloc} of {nall} atoms are images, and nothing says of which atoms: this model passes "
                        "messages between atoms and needs mapping. In LAMMPS: atom_modify map yes"
                    )
                owner_A = (mapping.reshape(nf, -1)[:, :nall].to(torch.int64) + first_F1).reshape(-1)
            return NeighbourArrays(*self.take_listed(coord_A3, type_A, frame_A, atom_N, index_NC, owner_A))

    def _border(self, comm_dict: dict[str, torch.Tensor] | None, nloc: int, nghost: int) -> Border:
        """Return the arguments of the halo exchange; tensors without elements if there is nothing to exchange."""
        if comm_dict is None or not self.needs_features:
            none = torch.empty(0, dtype=torch.int64)
            return none, none, none, none, none, none, none, none
        if "send_list" not in comm_dict or "communicator" not in comm_dict:
            raise ValueError("comm_dict needs send_list, send_proc, recv_proc, send_num, recv_num, communicator")
        own, foreign = torch.tensor(nloc, dtype=torch.int32), torch.tensor(nghost, dtype=torch.int32)
        lists, procs = comm_dict["send_list"], (comm_dict["send_proc"], comm_dict["recv_proc"])
        nums = comm_dict["send_num"], comm_dict["recv_num"]
        return lists, procs[0], procs[1], nums[0], nums[1], comm_dict["communicator"], own, foreign

    def _atoms(self, coord: torch.Tensor, atype: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Put the atoms of all frames on one axis: positions, types, frames."""
        nf = coord.size(0)
        coord_A3 = coord.detach().reshape(-1, 3).to(torch.float64)
        type_A = atype.reshape(-1).to(torch.int64)
        if type_A.size(0) != coord_A3.size(0):
            raise ValueError(f"coord has {coord_A3.size(0)} atoms in {nf} frames, atype has {type_A.size(0)}")
        if bool((type_A >= self.ntypes).any()):
            raise ValueError(f"atype has type {int(type_A.max())}; the model has {self.ntypes} types, counted from 0")
        if not bool(torch.isfinite(coord_A3).all()):
            raise ValueError("coord has a value that is not finite")
        frame_F1 = torch.arange(nf, device=type_A.device).reshape(nf, 1)
        return coord_A3, type_A, frame_F1.expand(nf, type_A.size(0) // nf).reshape(-1).contiguous()

    def _evaluate(
        self,
        found: NeighbourArrays,
        nf: int,
        nloc: int,
        given: dict[str, torch.Tensor | None],
        do_atomic_virial: bool,
        dtype: torch.dtype,
        border: Border,
    ) -> dict[str, torch.Tensor]:
        """Evaluate in the caller's order of atoms; derivatives in the caller's precision.

        Returns
        -------
        `total` (F, d), `atomic` (F, nloc, d) and of differentiable values `force` (F, nall, d, 3), `virial` (F, d, 9),
        and if wanted `atom_virial` (F, nall, d, 9)
        """
        outside_N = self._outside(found.disp_NM3, found.widths)
        any_outside = bool(outside_N.any())
        if any_outside and not self.warned:
            self.warned = True
            warnings.warn(
                "two atoms are nearer to each other than the expansions of the embedding nets reach "
                f"({self.domain_start} Angstrom): the nets themselves are evaluated, which takes longer",
                stacklevel=2,
            )
        conditions = self._conditions(given, nf, nloc, found)
        # message passing: atomic virials also need the derivatives of the moments sum_i E_i r_i,l, l = x, y, z
        moments = 3 if self.needs_features and do_atomic_virial and self.differentiable else 0
        each = self.dim * (1 + moments) if self.differentiable else 0
        blocks: list[torch.Tensor] = []
        grads: list[torch.Tensor] = []
        before = torch.is_grad_enabled()
        num_centres = found.centre_N.size(0)
        block_size = self.block_size if found.centre_N.device.type == "cpu" else self.device_block_size
        for start in range(0, max(num_centres, 1), block_size):
            a, b = start, min(start + block_size, num_centres)
            block = NeighbourArrays(*self.cut_block(found, torch.tensor(a), torch.tensor(b)))
            inside: dict[str, torch.Tensor] = {}
            for name, values in conditions.items():
                inside[name] = values[a:b] if self.per_atom[name] else values
            # the caller may be inside no_grad; TorchScript has no enable_grad
            torch.set_grad_enabled(self.differentiable)
            leaf = block.disp_NM3.detach().requires_grad_(self.differentiable)
            if any_outside and bool(outside_N[a:b].any()):
                value = self.nets(leaf, block, inside, border)
            else:
                value = self.core(leaf, block, inside, border)
            for number in range(each):
                # order: sums of the d components, then x, y, z moments of component 0, of component 1, ...
                component = number if number < self.dim else (number - self.dim) // 3
                column = value[:, component]
                summed = (column if number < self.dim else column * block.in_cell_N3[:, (number - self.dim) % 3]).sum()
                grad = torch.autograd.grad([summed], [leaf], retain_graph=number + 1 < each)[0]
                assert grad is not None
                grads.append(grad)
            torch.set_grad_enabled(before)
            blocks.append(value.detach())
        with torch.no_grad():
            value_Nd = torch.cat(blocks)
            total_Fd = value_Nd.new_zeros([nf, self.dim]).index_add(0, found.frame_N, value_Nd)
            if self.intensive:
                one_N = torch.ones_like(value_Nd[:, 0])
                for kind in self.excluded:
                    one_N = one_N * (found.type_N != kind).to(one_N.dtype)
                total_Fd = total_Fd / value_Nd.new_zeros([nf]).index_add(0, found.frame_N, one_N).clamp(
                    min=1.0
                ).unsqueeze(1)
            atomic_Ad = value_Nd.new_zeros([nf * nloc, self.dim]).index_add(0, found.row_N, value_Nd)
            out = {"total": total_Fd, "atomic": atomic_Ad.reshape(nf, nloc, self.dim)}
            if self.differentiable:
                whole = [torch.cat(grads[number::each]) for number in range(each)]
                out.update(self._derivatives(whole, found, nf, do_atomic_virial, dtype))
        return out

    def _derivatives(
        self, grads: list[torch.Tensor], found: NeighbourArrays, nf: int, do_atomic_virial: bool, dtype: torch.dtype
    ) -> dict[str, torch.Tensor]:
        """Return forces, virials and atomic virials of every component."""
        nall = found.position_A.size(0) // nf
        forces: list[torch.Tensor] = []
        virials: list[torch.Tensor] = []
        atomic: list[torch.Tensor] = []
        for k, grad in enumerate(grads[: self.dim]):
            force_A3, virial_F9 = self.derive(grad, found, torch.tensor(nf))
            forces.append(force_A3)
            virials.append(virial_F9)
            if do_atomic_virial:
                moments = grads[k : k + 1]
                if self.needs_features:
                    moments = grads[self.dim + 3 * k : self.dim + 3 * k + 3]
                atomic.append(self.derive_atomic(grad, torch.stack(moments), found))
        out = {
            "force": torch.stack(forces, dim=1).reshape(nf, nall, self.dim, 3).to(dtype),
            "virial": torch.stack(virials, dim=1).to(dtype),
        }
        if do_atomic_virial:
            out["atom_virial"] = torch.stack(atomic, dim=1).reshape(nf, nall, self.dim, 9).to(dtype)
        return out

    def _outside(self, disp: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
        """Return which centres (N,) have a neighbour outside of the domain of the expansions.

        Only the first slot of each section is read, because sections are sorted by distance.
        """
        if disp.numel() == 0:
            return torch.zeros([disp.size(0)], dtype=torch.bool, device=disp.device)
        first = torch.clamp(widths.cumsum(0) - widths, max=disp.size(1) - 1).to(disp.device)
        squares = disp.index_select(1, first).square().sum(dim=2)
        return (squares < self.domain_start * self.domain_start).any(dim=1)

    def _conditions(
        self, given: dict[str, torch.Tensor | None], nf: int, nloc: int, found: NeighbourArrays
    ) -> dict[str, torch.Tensor]:
        """Return conditions of frames (F, K) and of centres (N, K); K is 0 where the model does not ask for any."""
        out: dict[str, torch.Tensor] = {}
        for name, width in self.dims.items():
            values, rows = given[name], nloc if self.per_atom[name] else 1
            if width == 0:
                if values is not None and name in self.unasked:
                    raise ValueError(self.unasked[name])
                out[name] = found.disp_NM3.new_zeros([found.centre_N.size(0) if self.per_atom[name] else nf, 0])
                continue
            if values is None:
                values = self.defaults[name].to(found.disp_NM3.device)
                if values.numel() == 0:
                    each = "atom" if self.per_atom[name] else "frame"
                    raise ValueError(f"{name} is missing: the model needs {width} values for each {each}")
            values = values.detach().reshape(-1).to(torch.float64)
            if values.size(0) != rows * width and values.size(0) != nf * rows * width:
                needed = f"of {width} are needed, or one for all"
                if self.per_atom[name]:
                    needed = f"of {nloc} atoms with {width} each are needed"
                raise ValueError(f"{name} has {values.size(0)} values; {nf} frames {needed}")
            values = values.reshape(-1, rows, width).expand(nf, rows, width).reshape(nf * rows, width)
            limits = self.limits[name]
            for k in range(len(limits) // 2):
                low, high = limits[2 * k], limits[2 * k + 1]
                whole = values[:, k].trunc()
                outside = values[:, k][(whole < low) | (whole > high)]
                if outside.numel() > 0:
                    raise ValueError(f"{name} holds {float(outside[0])} in column {k}; accepted: {low} to {high}")
            out[name] = values.index_select(0, found.row_N) if self.per_atom[name] else values
        return out

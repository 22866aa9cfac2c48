"""The TorchScript around the traced parts of a `.pth`: what C++ and DeePMD-kit's Python ask of a model file.

torch compiles this class from its source, so it keeps to TorchScript's subset of Python; annotations must not be
postponed. The methods, their arguments and the keys of their results are those of DeePMD-kit (docs/layouts.md#pth).
"""

import warnings

import torch

from deepmd.adapters.torch.facts import Facts

Found = tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
]
"""disp_NM3, mask_NM, index_NM, centre_N, type_N, frame_N, counts, widths, inner, type_NM, place_N3, row_N, position_A
(see `deepmd.data.search.Packed`)."""

Border = tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
]
"""What `deepmd::border_op` wants to know to fetch features of atoms from other ranks: lists, processes and numbers of what is sent and
received, the communicator (empty without other ranks), numbers of own and of foreign atoms."""


class Shell(Facts):
    """A whole model. Subclasses know the names of what it predicts."""

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
        """Evaluate frames (F) of n atoms each; the neighbours are found here.

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
        found = self._found(coord, atype, box)
        nothing = self._border(None, 0, 0)
        out = self._evaluate(
            found, nf, atype.numel() // nf, fparam, aparam, do_atomic_virial, charge_spin, coord.dtype, nothing
        )
        return self._named(out, atype, False)

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
        """Evaluate with a neighbour list, as LAMMPS does: periodic images are atoms of their own, after the nloc centres.

        Parameters
        ----------
        extended_coord, extended_atype : (F, nall, 3) or (F, 3 nall), Angstrom; (F, nall)
        nlist : (F, nloc, W) neighbours in any order, also beyond the cutoff, -1 where empty
        mapping : (F, nall) owner of each atom among the centres; needed where messages are passed, unless there is `comm_dict`.
            Derivatives by images are then given to their owners, those of the images are zero
        fparam, aparam : (F, K), (F, nloc, K)
        do_atomic_virial : whether to return atomic virials
        comm_dict : how LAMMPS shares out atoms among several ranks; only read where messages are passed
        charge_spin : (F, 2), or 2 values for all frames

        Returns
        -------
        what `_named` of the subclass says, derivatives for all nall atoms
        """
        nf, nloc = nlist.size(0), nlist.size(1)
        border = self._border(comm_dict, nloc, extended_atype.numel() // nf - nloc)
        found = self._listed(extended_coord, extended_atype, nlist, mapping, border[5].numel() > 0)
        out = self._evaluate(
            found, nf, nloc, fparam, aparam, do_atomic_virial, charge_spin, extended_coord.dtype, border
        )
        return self._named(out, extended_atype[:, :nloc], True)

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

        `do_atomic_virial`, `extra_nlist_sort` and `extended_coord_corr` are accepted and have no meaning here: the
        caller sums atomic virials itself, whether it wants them or not, neighbours are sorted anyway, and there are no
        spins.
        """
        out = self.forward_lower(
            extended_coord, extended_atype, nlist, mapping, fparam, aparam, True, comm_dict, charge_spin
        )
        return self._common(out, extended_atype[:, : nlist.size(1)])

    def _found(self, coord: torch.Tensor, atype: torch.Tensor, box: torch.Tensor | None) -> Found:
        """Find the neighbours of all atoms."""
        coord_A3, type_A, frame_A = self._atoms(coord, atype)
        with torch.no_grad():
            cell, periodic = self.open_cell(coord_A3), torch.zeros(1, dtype=torch.float64)
            if box is not None and box.numel() > 0:
                cell, periodic = box.detach().reshape(-1, 3, 3).to(torch.float64), torch.ones(1, dtype=torch.float64)
            found: Found = self.find(
                coord_A3, type_A, frame_A, cell.expand(coord.size(0), 3, 3), periodic.to(coord_A3.device)
            )
        return found

    def _listed(
        self, coord: torch.Tensor, atype: torch.Tensor, nlist: torch.Tensor, mapping: torch.Tensor | None, shared: bool
    ) -> Found:
        """Take the neighbours from lists.

        Where messages are passed they are replaced by their owners, unless those are on other ranks.
        """
        nf, nloc = nlist.size(0), nlist.size(1)
        coord_A3, type_A, frame_A = self._atoms(coord, atype)
        with torch.no_grad():
            nall = type_A.size(0) // nf
            frame_F11 = torch.arange(nf, device=nlist.device).reshape(nf, 1, 1)
            index_NC = torch.where(nlist < 0, -1, nlist.to(torch.int64) + frame_F11 * nall).reshape(
                nf * nloc, nlist.size(2)
            )
            atom_N = (
                torch.arange(nloc, device=nlist.device).reshape(1, nloc) + frame_F11.reshape(nf, 1) * nall
            ).reshape(-1)
            owner_A = torch.arange(nf * nall, device=nlist.device)
            if self.messages and not shared and nall > nloc:
                if mapping is None:
                    raise ValueError(
                        f"{nall - nloc} of {nall} atoms are images, and nothing says of which atoms: this model passes messages between atoms and "
                        "needs mapping. In LAMMPS: atom_modify map yes"
                    )
                owner_A = (mapping.reshape(nf, -1)[:, :nall].to(torch.int64) + frame_F11.reshape(nf, 1) * nall).reshape(
                    -1
                )
            found: Found = self.take_listed(coord_A3, type_A, frame_A, atom_N, index_NC, owner_A)
        return found

    def _border(self, comm_dict: dict[str, torch.Tensor] | None, nloc: int, nghost: int) -> Border:
        """Return what is known of other ranks.

        Tensors without elements if there are none, or their atoms do not matter.
        """
        if comm_dict is None or not self.messages:
            none = torch.empty(0, dtype=torch.int64)
            return none, none, none, none, none, none, none, none
        if "send_list" not in comm_dict or "communicator" not in comm_dict:
            raise ValueError("comm_dict needs send_list, send_proc, recv_proc, send_num, recv_num, communicator")
        own, foreign = torch.tensor(nloc, dtype=torch.int32), torch.tensor(nghost, dtype=torch.int32)
        lists = (
            comm_dict["send_list"],
            comm_dict["send_proc"],
            comm_dict["recv_proc"],
            comm_dict["send_num"],
            comm_dict["recv_num"],
        )
        return lists[0], lists[1], lists[2], lists[3], lists[4], comm_dict["communicator"], own, foreign

    def _atoms(self, coord: torch.Tensor, atype: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Put the atoms of all frames on one axis: positions, types, frames."""
        nf = coord.size(0)
        coord_A3 = coord.detach().reshape(-1, 3).to(torch.float64)
        type_A = atype.reshape(-1).to(torch.int64)
        if type_A.size(0) != coord_A3.size(0):
            raise ValueError(f"coord has {coord_A3.size(0)} atoms in {nf} frames, atype has {type_A.size(0)}")
        if bool((type_A >= len(self.type_map)).any()):
            raise ValueError(
                f"atype has type {int(type_A.max())}; the model has {len(self.type_map)} types, counted from 0"
            )
        if not bool(torch.isfinite(coord_A3).all()):
            raise ValueError("coord has a value that is not finite")
        frame_A = (
            torch.arange(nf, device=type_A.device)
            .reshape(nf, 1)
            .expand(nf, type_A.size(0) // nf)
            .reshape(-1)
            .contiguous()
        )
        return coord_A3, type_A, frame_A

    def _evaluate(
        self,
        found: Found,
        nf: int,
        nloc: int,
        fparam: torch.Tensor | None,
        aparam: torch.Tensor | None,
        do_atomic_virial: bool,
        charge_spin: torch.Tensor | None,
        dtype: torch.dtype,
        border: Border,
    ) -> dict[str, torch.Tensor]:
        """Evaluate in the caller's order of atoms; derivatives in the caller's precision.

        Returns
        -------
        `total` (F, d), `atomic` (F, nloc, d) and of differentiable values `force` (F, nall, d, 3), `virial` (F, d, 9),
        and if wanted `atom_virial` (F, nall, d, 9)
        """
        disp, mask, index, centre, types, frame, counts, widths, inner, kinds, place, row, position = found
        outside_N = self._outside(disp, widths)
        any_outside = bool(outside_N.any())
        if any_outside and not self.warned:
            self.warned = True
            warnings.warn(
                f"two atoms are nearer to each other than the expansions of the embedding nets reach ({self.domain_start} Angstrom): "
                "the nets themselves are evaluated, which takes longer",
                stacklevel=2,
            )
        fparam_FK = self._of_frames("fparam", fparam, self.dim_fparam, self.default_fparam, nf, disp)
        charge_spin_F2 = self._charge_spin(charge_spin, nf, disp)
        aparam_NK = self._aparam(aparam, nf, nloc, disp).index_select(0, row)
        # with messages atomic virials need the derivatives of the values weighted with each coordinate of their atoms,
        # too
        moments = 3 if self.messages and do_atomic_virial and self.differentiable else 0
        each = self.dim * (1 + moments) if self.differentiable else 0
        stops = counts.cumsum(0)
        values: list[torch.Tensor] = []
        grads: list[torch.Tensor] = []
        before = torch.is_grad_enabled()
        # a block at a time: what is between stays in the processor's caches, and memory does not grow with the atoms
        for start in range(0, max(centre.size(0), 1), self.block):
            a, b = start, min(start + self.block, centre.size(0))
            inside = torch.clamp(stops, a, b) - torch.clamp(stops - counts, a, b)  # centres of each type
            torch.set_grad_enabled(
                self.differentiable
            )  # the caller may be inside no_grad; TorchScript has no enable_grad
            leaf = disp[a:b].detach().requires_grad_(self.differentiable)
            g = (mask[a:b], index[a:b], centre[a:b], types[a:b], frame[a:b])
            sizes, order = (inside, widths, inner), (row, position)
            given = (fparam_FK, aparam_NK[a:b], charge_spin_F2)
            pairs = (leaf, g[0], g[1], g[2], g[3], g[4], sizes[0], sizes[1], sizes[2], kinds[a:b])
            rest = (given[0], given[1], given[2], order[0], order[1], border)
            if any_outside and bool(outside_N[a:b].any()):
                value = self.nets(*pairs, *rest)
            else:
                value = self.core(*pairs, *rest)
            for number in range(each):
                # the sums over components come first, then their three moments one component after another
                component = number if number < self.dim else (number - self.dim) // 3
                column = value[:, component]
                summed = (column if number < self.dim else column * place[a:b, (number - self.dim) % 3]).sum()
                grad = torch.autograd.grad([summed], [leaf], retain_graph=number + 1 < each)[0]
                assert grad is not None
                grads.append(grad)
            torch.set_grad_enabled(before)
            values.append(value.detach())
        with torch.no_grad():
            value_Nd = torch.cat(values)
            total_Fd = value_Nd.new_zeros([nf, self.dim]).index_add(0, frame, value_Nd)
            if self.intensive:
                one_N = torch.ones_like(value_Nd[:, 0])
                for kind in self.excluded:
                    one_N = one_N * (types != kind).to(one_N.dtype)
                total_Fd = total_Fd / value_Nd.new_zeros([nf]).index_add(0, frame, one_N).clamp(min=1.0).unsqueeze(1)
            atomic_Ad = value_Nd.new_zeros([nf * nloc, self.dim]).index_add(0, row, value_Nd)
            out = {"total": total_Fd, "atomic": atomic_Ad.reshape(nf, nloc, self.dim)}
            if self.differentiable:
                whole = [torch.cat(grads[number::each]) for number in range(each)]
                out.update(self._derivatives(whole, found, nf, do_atomic_virial, dtype))
        return out

    def _derivatives(
        self, grads: list[torch.Tensor], found: Found, nf: int, do_atomic_virial: bool, dtype: torch.dtype
    ) -> dict[str, torch.Tensor]:
        """Return forces, virials and atomic virials of every component."""
        disp, index, centre, frame, place, position = found[0], found[2], found[3], found[5], found[10], found[12]
        nall = position.size(0) // nf
        forces: list[torch.Tensor] = []
        virials: list[torch.Tensor] = []
        atomic: list[torch.Tensor] = []
        for k in range(self.dim):
            force_A3, virial_F9 = self.derive(grads[k], disp, index, centre, frame, position, torch.tensor(nf))
            forces.append(force_A3)
            virials.append(virial_F9)
            if do_atomic_virial:
                moments = grads[k : k + 1]
                if self.messages:
                    first = self.dim + 3 * k
                    moments = grads[first : first + 3]
                atomic.append(self.derive_atomic(grads[k], torch.stack(moments), disp, index, centre, place, position))
        out = {
            "force": torch.stack(forces, dim=1).reshape(nf, nall, self.dim, 3).to(dtype),
            "virial": torch.stack(virials, dim=1).to(dtype),
        }
        if do_atomic_virial:
            out["atom_virial"] = torch.stack(atomic, dim=1).reshape(nf, nall, self.dim, 9).to(dtype)
        return out

    def _outside(self, disp: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
        """Return the centres (N,) with a neighbour nearer than the expansions reach.

        The nearest is the first of its section.
        """
        if disp.numel() == 0:
            return torch.zeros([disp.size(0)], dtype=torch.bool, device=disp.device)
        first = torch.clamp(widths.cumsum(0) - widths, max=disp.size(1) - 1)
        squares = disp.index_select(1, first).square().sum(dim=2)
        return (squares < self.domain_start * self.domain_start).any(dim=1)

    def _of_frames(
        self, name: str, given: torch.Tensor | None, width: int, default: torch.Tensor, nf: int, like: torch.Tensor
    ) -> torch.Tensor:
        """Values of the frames (F, width); without any, (F, 0), they are not looked at."""
        if width == 0:
            return like.new_zeros([nf, 0])
        if given is None:
            if default.numel() == 0:
                raise ValueError(f"{name} is missing: the model needs {width} values for each frame")
            given = default
        values = given.detach().reshape(-1).to(torch.float64)
        if values.size(0) != width and values.size(0) != nf * width:
            raise ValueError(f"{name} has {values.size(0)} values; {nf} frames of {width} are needed, or one for all")
        return values.reshape(-1, width).expand(nf, width)

    def _charge_spin(self, given: torch.Tensor | None, nf: int, like: torch.Tensor) -> torch.Tensor:
        """Charge and spin of the frames (F, 2), or (F, 0) for a model that does not depend on them."""
        if given is not None and self.dim_chg_spin == 0:
            raise ValueError("charge_spin is given, but this model does not depend on charge and spin")
        values = self._of_frames("charge_spin", given, self.dim_chg_spin, self.default_chg_spin, nf, like)
        for k in range(self.dim_chg_spin):
            low, high = self.limits_chg_spin[2 * k], self.limits_chg_spin[2 * k + 1]
            whole = values[:, k].trunc()
            outside = values[:, k][(whole < low) | (whole > high)]
            if outside.numel() > 0:
                raise ValueError(f"charge_spin holds {float(outside[0])} in column {k}; accepted: {low} to {high}")
        return values

    def _aparam(self, aparam: torch.Tensor | None, nf: int, nloc: int, like: torch.Tensor) -> torch.Tensor:
        """Atomic parameters (F * nloc, K), K = 0 for a model without."""
        if self.dim_aparam == 0:
            return like.new_zeros([nf * nloc, 0])
        if aparam is None:
            raise ValueError(f"aparam is missing: the model needs {self.dim_aparam} values for each atom")
        aparam = aparam.detach().reshape(-1).to(torch.float64)
        values = nloc * self.dim_aparam
        if aparam.size(0) != values and aparam.size(0) != nf * values:
            raise ValueError(
                f"aparam has {aparam.size(0)} values; {nf} frames of {nloc} atoms with {self.dim_aparam} each are needed"
            )
        return (
            aparam.reshape(-1, nloc, self.dim_aparam)
            .expand(nf, nloc, self.dim_aparam)
            .reshape(nf * nloc, self.dim_aparam)
        )

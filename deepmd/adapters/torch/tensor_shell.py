"""The TorchScript shell of models of other quantities than energies (see `shell.py`, whose rules hold here too)."""

import torch

from deepmd.adapters.torch.shell import Found, Shell
from deepmd.array_model.outputs import Output


class TensorShell(Shell):
    """A whole model of d components for each atom. Call `describe` before it is compiled."""

    chosen: list[int]
    excluded: list[int]
    shape: list[int]

    def describe(self, output: Output, excluded: tuple[int, ...], ntypes: int) -> None:
        """Take what is predicted, and the types that have no output."""
        tensor = output.name in ("dipole", "polar")
        self.output = output.label if output.name == "property" else output.name
        self.total_key = f"global_{self.output}" if tensor else self.output
        self.atomic_key = self.output if tensor else f"atom_{self.output}"
        self.dim = output.width
        self.shape = [3, 3] if output.name == "polar" else [output.width]
        self.differentiable = output.differentiable
        self.intensive = output.intensive
        self.excluded = list(excluded)
        self.chosen = [kind for kind in range(ntypes) if kind not in excluded] if excluded else []

    @torch.jit.export
    def get_sel_type(self) -> list[int]:
        """Types with an output of their own; none stands for all."""
        return self.chosen

    @torch.jit.export
    def model_output_type(self) -> list[str]:
        """Names of the outputs."""
        return [self.output]

    @torch.jit.export
    def get_task_dim(self) -> int:
        """Return the number of components."""
        return self.dim

    @torch.jit.export
    def get_numb_dos(self) -> int:
        """Return the number of components."""
        return self.dim

    @torch.jit.export
    def get_var_name(self) -> str:
        """Return the name of the output."""
        return self.output

    @torch.jit.export
    def get_intensive(self) -> bool:
        """Whether the total is the mean over atoms."""
        return self.intensive

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
        """Evaluate frames (F) of n atoms each; arguments as for `Shell.forward`.

        Returns
        -------
        the total (F, ...) and the atomic values (F, n, ...) under DeePMD-kit's names, `mask` (F, n), and of dipoles `force`
        (F, n, 3, 3), the component before the direction, `virial` (F, 3, 9) and `atom_virial` (F, n, 3, 9)
        """
        nf = coord.size(0)
        found = self._found(coord, atype, box)
        out = self._tensors(found, nf, atype.numel() // nf, fparam, aparam, do_atomic_virial, charge_spin, coord.dtype)
        return self._named(out, atype, "force", "atom_virial")

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
        charge_spin: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate with a neighbour list; arguments as for `Shell.forward_lower`, results as for `forward`."""
        nf, nloc = nlist.size(0), nlist.size(1)
        found = self._listed(extended_coord, extended_atype, nlist)
        out = self._tensors(found, nf, nloc, fparam, aparam, do_atomic_virial, charge_spin, extended_coord.dtype)
        return self._named(out, extended_atype[:, :nloc], "extended_force", "extended_virial")

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
        """Evaluate as `forward_lower`, under the names that DeePMD-kit's Python asks for."""
        out = self.forward_lower(extended_coord, extended_atype, nlist, mapping, fparam, aparam, True, charge_spin)
        result = {self.output: out[self.atomic_key], self.output + "_redu": out[self.total_key], "mask": out["mask"]}
        if self.differentiable:
            result[self.output + "_derv_r"] = out["extended_force"]
            result[self.output + "_derv_c"] = out["extended_virial"]
            result[self.output + "_derv_c_redu"] = out["virial"]
        return result

    def _named(self, out: dict[str, torch.Tensor], atype: torch.Tensor, force: str, atomic_virial: str) -> dict[str, torch.Tensor]:
        mask = atype >= 0
        for kind in self.excluded:
            mask = mask & (atype != kind)
        result = {self.total_key: out["total"], self.atomic_key: out["atomic"], "mask": mask.to(torch.int32)}
        if self.differentiable:
            result[force], result["virial"] = out["force"], out["virial"]
            if "atom_virial" in out:
                result[atomic_virial] = out["atom_virial"]
        return result

    def _tensors(
        self,
        found: Found,
        nf: int,
        nloc: int,
        fparam: torch.Tensor | None,
        aparam: torch.Tensor | None,
        do_atomic_virial: bool,
        charge_spin: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> dict[str, torch.Tensor]:
        """Values and derivatives in the caller's order of atoms, derivatives in the caller's precision."""
        if charge_spin is not None:
            raise ValueError("charge_spin is given, but this model does not depend on charge and spin")
        disp, mask, index, centre, types, frame, counts, widths, kinds, row, _ = found
        self._warn(disp, widths)
        fparam_FK = self._fparam(fparam, nf, disp)
        aparam_NK = self._aparam(aparam, nf, nloc, disp).index_select(0, row)
        stops = counts.cumsum(0)
        values: list[torch.Tensor] = []
        grads: list[torch.Tensor] = []
        before = torch.is_grad_enabled()
        for start in range(0, max(centre.size(0), 1), self.block):
            a, b = start, min(start + self.block, centre.size(0))
            inside = torch.clamp(stops, a, b) - torch.clamp(stops - counts, a, b)  # centres of each type
            torch.set_grad_enabled(self.differentiable)  # the caller may be inside no_grad; TorchScript has no enable_grad
            leaf = disp[a:b].detach().requires_grad_(self.differentiable)
            g = (mask[a:b], index[a:b], centre[a:b], types[a:b], frame[a:b])
            value = self.core(leaf, g[0], g[1], g[2], g[3], g[4], inside, widths, kinds[a:b], fparam_FK, aparam_NK[a:b])
            if self.differentiable:
                each: list[torch.Tensor] = []
                for component in range(self.dim):
                    grad = torch.autograd.grad([value[:, component].sum()], [leaf], retain_graph=True)[0]
                    assert grad is not None
                    each.append(grad)
                grads.append(torch.stack(each))
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
            out = {
                "total": total_Fd.reshape([nf] + self.shape),  # noqa: RUF005 - TorchScript unpacks no lists
                "atomic": value_Nd.new_zeros([nf * nloc, self.dim]).index_add(0, row, value_Nd).reshape([nf, nloc] + self.shape),  # noqa: RUF005
            }
            if self.differentiable:
                out.update(self._derivatives(torch.cat(grads, dim=1), found, nf, do_atomic_virial, dtype))
        return out

    def _derivatives(self, grad_dNM3: torch.Tensor, found: Found, nf: int, do_atomic_virial: bool, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return forces, virials and atomic virials of every component."""
        disp, index, centre, frame, position = found[0], found[2], found[3], found[5], found[10]
        nall = position.size(0) // nf
        forces: list[torch.Tensor] = []
        virials: list[torch.Tensor] = []
        atomic: list[torch.Tensor] = []
        for component in range(self.dim):
            force_A3, virial_F9 = self.derive(grad_dNM3[component], disp, index, centre, frame, position, torch.tensor(nf))
            forces.append(force_A3)
            virials.append(virial_F9)
            if do_atomic_virial:
                atomic.append(self.derive_atomic(grad_dNM3[component], disp, index, position))
        out = {"force": torch.stack(forces, dim=1).reshape(nf, nall, self.dim, 3).to(dtype), "virial": torch.stack(virials, dim=1).to(dtype)}
        if do_atomic_virial:
            out["atom_virial"] = torch.stack(atomic, dim=1).reshape(nf, nall, self.dim, 9).to(dtype)
        return out

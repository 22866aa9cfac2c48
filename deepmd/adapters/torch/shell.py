"""The TorchScript around the traced parts of a `.pth`: what C++ and DeePMD-kit's Python ask of a model file.

torch compiles this class from its source, so it keeps to TorchScript's subset of Python; annotations must not be postponed.
The methods, their arguments and the keys of their results are those of DeePMD-kit (spec formats, section 7.3).
"""

import warnings

import torch

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
]
"""disp_NM3, mask_NM, index_NM, centre_N, type_N, frame_N, counts, widths, type_NM, row_N, position_A (see `deepmd.data.search.Packed`)."""

BLOCK = 256
"""Centres that are evaluated at once."""


class Shell(torch.nn.Module):  # type: ignore[misc]
    """A whole model; the arguments are its facts and its traced parts."""

    definition: str
    model_def_script: str
    type_map: list[str]
    sel: list[int]
    no_types: list[int]
    default_fparam: torch.Tensor

    def __init__(
        self,
        definition: str,
        model_def_script: str,
        type_map: list[str],
        rcut: float,
        domain_start: float,
        sel: list[int],
        mixed: bool,
        dim_fparam: int,
        dim_aparam: int,
        default_fparam: list[float],
        parts: dict[str, torch.nn.Module],
    ) -> None:
        super().__init__()
        self.definition = definition
        self.model_def_script = model_def_script
        self.type_map = type_map
        self.rcut = rcut
        self.domain_start = domain_start
        self.warned = False
        self.block = BLOCK
        self.sel = sel
        self.mixed = mixed
        self.dim_fparam = dim_fparam
        self.dim_aparam = dim_aparam
        # no list: TorchScript rounds lists of numbers to float32 on the way to a tensor
        self.register_buffer("default_fparam", torch.tensor(default_fparam, dtype=torch.float64))
        self.no_types = []
        self.open_cell = parts["open_cell"]
        self.find = parts["find"]
        self.take_listed = parts["take_listed"]
        self.core = parts["core"]
        self.derive = parts["derive"]
        self.derive_atomic = parts["derive_atomic"]

    # -- what the file says about itself --------------------------------------------------------------------------------

    @torch.jit.export
    def get_definition(self) -> str:
        """JSON from which the whole model is rebuilt, with the named buffers of `core` for arrays."""
        return self.definition

    @torch.jit.export
    def get_model_def_script(self) -> str:
        """JSON of the model section of the training input."""
        return self.model_def_script

    @torch.jit.export
    def get_type_map(self) -> list[str]:
        """Element names."""
        return self.type_map

    @torch.jit.export
    def get_ntypes(self) -> int:
        """Return the number of types."""
        return len(self.type_map)

    @torch.jit.export
    def get_rcut(self) -> float:
        """Cutoff, Angstrom."""
        return self.rcut

    @torch.jit.export
    def get_sel(self) -> list[int]:
        """Slots of each section."""
        return self.sel

    @torch.jit.export
    def get_nnei(self) -> int:
        """Slots of all sections."""
        return sum(self.sel)

    @torch.jit.export
    def get_nsel(self) -> int:
        """Slots of all sections."""
        return sum(self.sel)

    @torch.jit.export
    def get_sel_type(self) -> list[int]:
        """Types with an output of their own; none stands for all."""
        return self.no_types

    @torch.jit.export
    def model_output_type(self) -> list[str]:
        """Names of the outputs."""
        return ["energy"]

    @torch.jit.export
    def mixed_types(self) -> bool:
        """Whether all neighbour types share one section."""
        return self.mixed

    @torch.jit.export
    def has_message_passing(self) -> bool:
        """Whether ghost atoms need features of their own."""
        return False

    @torch.jit.export
    def has_spin(self) -> bool:
        """Whether atoms have spins."""
        return False

    @torch.jit.export
    def get_dim_fparam(self) -> int:
        """Return the number of frame parameters."""
        return self.dim_fparam

    @torch.jit.export
    def has_default_fparam(self) -> bool:
        """Whether frame parameters may be left out."""
        return self.default_fparam.numel() > 0

    @torch.jit.export
    def get_dim_aparam(self) -> int:
        """Return the number of atomic parameters."""
        return self.dim_aparam

    @torch.jit.export
    def is_aparam_nall(self) -> bool:
        """Whether ghost atoms have atomic parameters too."""
        return False

    @torch.jit.export
    def get_dim_chg_spin(self) -> int:
        """Return the number of charge and spin inputs."""
        return 0

    # -- evaluation -----------------------------------------------------------------------------------------------------

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
        do_atomic_virial : whether to return `atom_virial`
        charge_spin : must be None; models with it are not supported

        Returns
        -------
        `energy` (F, 1), `atom_energy` (F, n, 1), `force` (F, n, 3), `virial` (F, 9), `atom_virial` (F, n, 9); eV and Angstrom
        """
        nf = coord.size(0)
        found = self._found(coord, atype, box)
        out = self._evaluate(found, nf, atype.numel() // nf, fparam, aparam, do_atomic_virial, charge_spin, coord.dtype)
        result = {"energy": out["energy"], "atom_energy": out["atom_energy"], "force": out["force"], "virial": out["virial"]}
        if do_atomic_virial:
            result["atom_virial"] = out["atom_virial"]
        return result

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
        """Evaluate with a neighbour list, as LAMMPS does: periodic images are atoms of their own, after the nloc centres.

        Parameters
        ----------
        extended_coord, extended_atype : (F, nall, 3) or (F, 3 nall), Angstrom; (F, nall)
        nlist : (F, nloc, W) neighbours in any order, also beyond the cutoff, -1 where empty
        mapping : owner of each atom; not needed
        fparam, aparam : (F, K), (F, nloc, K)
        do_atomic_virial : whether to return `extended_virial`
        charge_spin : must be None; models with it are not supported

        Returns
        -------
        `energy` (F, 1), `atom_energy` (F, nloc, 1), `extended_force` (F, nall, 3), `virial` (F, 9), `extended_virial` (F, nall, 9)
        """
        nf, nloc = nlist.size(0), nlist.size(1)
        found = self._listed(extended_coord, extended_atype, nlist)
        out = self._evaluate(found, nf, nloc, fparam, aparam, do_atomic_virial, charge_spin, extended_coord.dtype)
        result = {"energy": out["energy"], "atom_energy": out["atom_energy"], "extended_force": out["force"], "virial": out["virial"]}
        if do_atomic_virial:
            result["extended_virial"] = out["atom_virial"]
        return result

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

        `do_atomic_virial`, `comm_dict`, `extra_nlist_sort` and `extended_coord_corr` are accepted and have no meaning here: atoms
        need no features of others, neighbours are sorted anyway, and there are no spins.
        """
        # the caller sums atomic virials itself, whether it wants them or not
        out = self.forward_lower(extended_coord, extended_atype, nlist, mapping, fparam, aparam, True, charge_spin)
        return {
            "energy": out["atom_energy"],
            "mask": (extended_atype[:, : nlist.size(1)] >= 0).to(torch.int32),
            "energy_redu": out["energy"],
            "energy_derv_r": out["extended_force"].unsqueeze(2),
            "energy_derv_c": out["extended_virial"].unsqueeze(2),
            "energy_derv_c_redu": out["virial"].unsqueeze(1),
        }

    def _found(self, coord: torch.Tensor, atype: torch.Tensor, box: torch.Tensor | None) -> Found:
        """Find the neighbours of all atoms."""
        coord_A3, type_A, frame_A = self._atoms(coord, atype)
        with torch.no_grad():
            cell = self.open_cell(coord_A3)
            if box is not None and box.numel() > 0:
                cell = box.detach().reshape(-1, 3, 3).to(torch.float64)
                solid = torch.linalg.det(cell).abs() > 1e-8 * cell.abs().amax(dim=2).amax(dim=1) ** 3
                if not bool(solid.all()):
                    raise ValueError("box has no volume: give three independent lattice vectors in rows, or None for an open boundary")
            found: Found = self.find(coord_A3, type_A, frame_A, cell.expand(coord.size(0), 3, 3))
        return found

    def _listed(self, coord: torch.Tensor, atype: torch.Tensor, nlist: torch.Tensor) -> Found:
        """Take the neighbours from lists."""
        nf, nloc = nlist.size(0), nlist.size(1)
        coord_A3, type_A, frame_A = self._atoms(coord, atype)
        with torch.no_grad():
            nall = type_A.size(0) // nf
            frame_F11 = torch.arange(nf, device=nlist.device).reshape(nf, 1, 1)
            index_NC = torch.where(nlist < 0, -1, nlist.to(torch.int64) + frame_F11 * nall).reshape(nf * nloc, nlist.size(2))
            atom_N = (torch.arange(nloc, device=nlist.device).reshape(1, nloc) + frame_F11.reshape(nf, 1) * nall).reshape(-1)
            found: Found = self.take_listed(coord_A3, type_A, frame_A, atom_N, index_NC)
        return found

    def _atoms(self, coord: torch.Tensor, atype: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Put the atoms of all frames on one axis: positions, types, frames."""
        nf = coord.size(0)
        coord_A3 = coord.detach().reshape(-1, 3).to(torch.float64)
        type_A = atype.reshape(-1).to(torch.int64)
        if type_A.size(0) != coord_A3.size(0):
            raise ValueError(f"coord has {coord_A3.size(0)} atoms in {nf} frames, atype has {type_A.size(0)}")
        if bool((type_A >= len(self.type_map)).any()):
            raise ValueError(f"atype has type {int(type_A.max())}; the model has {len(self.type_map)} types, counted from 0")
        if not bool(torch.isfinite(coord_A3).all()):
            raise ValueError("coord has a value that is not finite")
        frame_A = torch.arange(nf, device=type_A.device).reshape(nf, 1).expand(nf, type_A.size(0) // nf).reshape(-1)
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
    ) -> dict[str, torch.Tensor]:
        """Energies and derivatives, in the caller's order of atoms and, but for the energies, in the caller's precision."""
        if charge_spin is not None:
            raise ValueError("charge_spin is given, but this model does not depend on charge and spin")
        disp, mask, index, centre, types, frame, counts, widths, kinds, row, position = found
        self._warn(disp, widths)
        fparam_FK = self._fparam(fparam, nf, disp)
        aparam_NK = self._aparam(aparam, nf, nloc, disp).index_select(0, row)
        stops = counts.cumsum(0)
        energies: list[torch.Tensor] = []
        grads: list[torch.Tensor] = []
        before = torch.is_grad_enabled()
        # a block at a time: what is between stays in the processor's caches, and memory does not grow with the atoms
        for start in range(0, max(centre.size(0), 1), self.block):
            a, b = start, min(start + self.block, centre.size(0))
            inside = torch.clamp(stops, a, b) - torch.clamp(stops - counts, a, b)  # centres of each type
            torch.set_grad_enabled(True)  # the caller may be inside no_grad; TorchScript has no enable_grad
            leaf = disp[a:b].detach().requires_grad_(True)
            g = (mask[a:b], index[a:b], centre[a:b], types[a:b], frame[a:b])
            energy = self.core(leaf, g[0], g[1], g[2], g[3], g[4], inside, widths, kinds[a:b], fparam_FK, aparam_NK[a:b])
            grad = torch.autograd.grad([energy.sum()], [leaf])[0]
            torch.set_grad_enabled(before)
            assert grad is not None
            energies.append(energy.detach())
            grads.append(grad)
        with torch.no_grad():
            energy_N, grad_NM3 = torch.cat(energies), torch.cat(grads)
            nall = position.size(0) // nf
            force_A3, virial_F9 = self.derive(grad_NM3, disp, index, centre, frame, position, torch.tensor(nf))
            out = {
                "energy": energy_N.new_zeros([nf]).index_add(0, frame, energy_N).reshape(nf, 1),
                "atom_energy": energy_N.new_zeros([nf * nloc]).index_add(0, row, energy_N).reshape(nf, nloc, 1),
                "force": force_A3.reshape(nf, nall, 3).to(dtype),
                "virial": virial_F9.to(dtype),
            }
            if do_atomic_virial:
                out["atom_virial"] = self.derive_atomic(grad_NM3, disp, index, position).reshape(nf, nall, 9).to(dtype)
        return out

    def _warn(self, disp: torch.Tensor, widths: torch.Tensor) -> None:
        """Warn once of atoms that are nearer than expansions reach; the nearest neighbour is the first of its section."""
        if self.warned or disp.numel() == 0:
            return
        first = torch.clamp(widths.cumsum(0) - widths, max=disp.size(1) - 1)
        closest = float(disp.index_select(1, first).square().sum(dim=2).min().sqrt())
        if closest < self.domain_start:
            self.warned = True
            warnings.warn(
                f"two atoms are {closest} Angstrom apart, nearer than the expansions of the embedding nets reach ({self.domain_start}): "
                "they are continued linearly",
                stacklevel=2,
            )

    def _fparam(self, fparam: torch.Tensor | None, nf: int, like: torch.Tensor) -> torch.Tensor:
        """Frame parameters (F, K), K = 0 for a model without."""
        if self.dim_fparam == 0:
            return like.new_zeros([nf, 0])
        if fparam is None:
            if self.default_fparam.numel() == 0:
                raise ValueError(f"fparam is missing: the model needs {self.dim_fparam} values for each frame")
            fparam = self.default_fparam
        fparam = fparam.detach().reshape(-1).to(torch.float64)
        if fparam.size(0) != self.dim_fparam and fparam.size(0) != nf * self.dim_fparam:
            raise ValueError(f"fparam has {fparam.size(0)} values; {nf} frames of {self.dim_fparam} are needed, or one for all")
        return fparam.reshape(-1, self.dim_fparam).expand(nf, self.dim_fparam)

    def _aparam(self, aparam: torch.Tensor | None, nf: int, nloc: int, like: torch.Tensor) -> torch.Tensor:
        """Atomic parameters (F * nloc, K), K = 0 for a model without."""
        if self.dim_aparam == 0:
            return like.new_zeros([nf * nloc, 0])
        if aparam is None:
            raise ValueError(f"aparam is missing: the model needs {self.dim_aparam} values for each atom")
        aparam = aparam.detach().reshape(-1).to(torch.float64)
        values = nloc * self.dim_aparam
        if aparam.size(0) != values and aparam.size(0) != nf * values:
            raise ValueError(f"aparam has {aparam.size(0)} values; {nf} frames of {nloc} atoms with {self.dim_aparam} each are needed")
        return aparam.reshape(-1, nloc, self.dim_aparam).expand(nf, nloc, self.dim_aparam).reshape(nf * nloc, self.dim_aparam)

"""The TorchScript shell of models of other quantities than energies (see `shell.py`, whose rules hold here too)."""

from typing import Any

import torch

from deepmd.adapters.torch.shell import Shell
from deepmd.array_model.outputs import Output


class TensorShell(Shell):
    """A whole model of d components for each atom."""

    # TorchScript sees the annotations of one class only, so those of lists that may be empty are repeated
    chosen: list[int]
    excluded: list[int]
    no_types: list[int]
    shape: list[int]

    def __init__(self, output: Output, **facts: Any) -> None:
        super().__init__(output=output, **facts)
        tensor = output.name in ("dipole", "polar")
        self.output = output.label if output.name == "property" else output.name
        self.total_key = f"global_{self.output}" if tensor else self.output
        self.atomic_key = self.output if tensor else f"atom_{self.output}"
        self.shape = [3, 3] if output.name == "polar" else [output.width]
        self.chosen = [kind for kind in range(len(self.type_map)) if kind not in self.excluded] if self.excluded else []

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

    def _named(self, out: dict[str, torch.Tensor], atype: torch.Tensor, extended: bool) -> dict[str, torch.Tensor]:
        """Return the total (F, ...) and the atomic values (F, n, ...) under DeePMD-kit's names, and `mask` (F, n).

        Of dipoles also `force` (F, n, 3, 3), the component before the direction, `virial` (F, 3, 9) and `atom_virial`
        (F, n, 3, 9); with images `extended_force` and `extended_virial` in place of the first and the last.
        """
        mask = atype >= 0
        for kind in self.excluded:
            mask = mask & (atype != kind)
        nf, nloc = atype.size(0), atype.size(1)
        result = {
            self.total_key: out["total"].reshape([nf] + self.shape),  # noqa: RUF005 - TorchScript unpacks no lists
            self.atomic_key: out["atomic"].reshape([nf, nloc] + self.shape),  # noqa: RUF005
            "mask": mask.to(torch.int32),
        }
        if self.differentiable:
            result["extended_force" if extended else "force"], result["virial"] = out["force"], out["virial"]
            if "atom_virial" in out:
                result["extended_virial" if extended else "atom_virial"] = out["atom_virial"]
        return result

    def _common(self, out: dict[str, torch.Tensor], atype: torch.Tensor) -> dict[str, torch.Tensor]:
        result = {self.output: out[self.atomic_key], self.output + "_redu": out[self.total_key], "mask": out["mask"]}
        if self.differentiable:
            result[self.output + "_derv_r"] = out["extended_force"]
            result[self.output + "_derv_c"] = out["extended_virial"]
            result[self.output + "_derv_c_redu"] = out["virial"]
        return result

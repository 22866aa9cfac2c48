"""TorchScript shell of models of dipoles, polarizabilities, densities of states and properties.

Only TorchScript's subset of Python, as in `shell.py`.
"""

from typing import Any

import torch

from deepmd.adapters.getters import kit_name
from deepmd.adapters.torch.shell import Shell
from deepmd.array_model.outputs import Output


class TensorShell(Shell):
    """Complete model with d components per atom."""

    def __init__(self, output: Output, **rest: Any) -> None:
        super().__init__(output=output, **rest)
        tensor = output.name in ("dipole", "polar")
        self.kit_name = kit_name(output)
        self.total_key = f"global_{self.kit_name}" if tensor else self.kit_name
        self.atomic_key = self.kit_name if tensor else f"atom_{self.kit_name}"
        self.shape = [3, 3] if output.name == "polar" else [output.width]

    def _named(self, out: dict[str, torch.Tensor], atype: torch.Tensor, extended: bool) -> dict[str, torch.Tensor]:
        """Return the total (F, ...) and the atomic values (F, n, ...) under DeePMD-kit's names, and `mask` (F, n).

        Dipoles also have `force` (F, n, 3 components, 3 directions), `virial` (F, 3, 9) and `atom_virial` (F, n, 3, 9).
        If `extended`, `force` is named `extended_force` and `atom_virial` `extended_virial`.
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
        """Return outputs of `_named` under the names of `forward_common_lower`."""
        result = {
            self.kit_name: out[self.atomic_key],
            self.kit_name + "_redu": out[self.total_key],
            "mask": out["mask"],
        }
        if self.differentiable:
            result[self.kit_name + "_derv_r"] = out["extended_force"]
            result[self.kit_name + "_derv_c"] = out["extended_virial"]
            result[self.kit_name + "_derv_c_redu"] = out["virial"]
        return result

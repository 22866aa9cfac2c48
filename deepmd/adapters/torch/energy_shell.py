"""TorchScript shell of models of energies. Only TorchScript's subset of Python, as in `shell.py`."""

import torch

from deepmd.adapters.torch.shell import Shell


class EnergyShell(Shell):
    """Complete model of energies."""

    def _named(self, out: dict[str, torch.Tensor], atype: torch.Tensor, extended: bool) -> dict[str, torch.Tensor]:
        """Return `energy` (F, 1), `atom_energy` (F, n, 1), `force` (F, n, 3), `virial` (F, 9), `atom_virial` (F, n, 9).

        If `extended`, `force` is named `extended_force` and `atom_virial` `extended_virial`.
        """
        result = {"energy": out["total"], "atom_energy": out["atomic"], "virial": out["virial"].squeeze(1)}
        result["extended_force" if extended else "force"] = out["force"].squeeze(2)
        if "atom_virial" in out:
            result["extended_virial" if extended else "atom_virial"] = out["atom_virial"].squeeze(2)
        return result

    def _common(self, out: dict[str, torch.Tensor], atype: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return outputs of `_named` under the names of `forward_common_lower`."""
        return {
            "energy": out["atom_energy"],
            "mask": (atype >= 0).to(torch.int32),
            "energy_redu": out["energy"],
            "energy_derv_r": out["extended_force"].unsqueeze(2),
            "energy_derv_c": out["extended_virial"].unsqueeze(2),
            "energy_derv_c_redu": out["virial"].unsqueeze(1),
        }

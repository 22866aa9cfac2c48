"""What a `.pth` says about itself (see `shell.py`, whose rules hold here too)."""

import torch

from deepmd.array_model.charge_spin import LIMITS
from deepmd.array_model.outputs import Output
from deepmd.array_model.pairs import Layout

BLOCK = 256
"""Centres that are evaluated at once."""


class Facts(torch.nn.Module):  # type: ignore[misc]
    """What a model is; the arguments are its facts and its traced parts."""

    definition: str
    model_def_script: str
    type_map: list[str]
    sel: list[int]
    no_types: list[int]
    excluded: list[int]
    limits_chg_spin: list[int]
    default_fparam: torch.Tensor
    default_chg_spin: torch.Tensor

    def __init__(
        self,
        definition: str,
        model_def_script: str,
        type_map: list[str],
        layout: Layout,
        output: Output,
        excluded: list[int],
        domain_start: float,
        conditions: dict[str, tuple[int, list[float]]],
        parts: dict[str, torch.nn.Module],
    ) -> None:
        super().__init__()
        self.definition = definition
        self.model_def_script = model_def_script
        self.type_map = type_map
        self.rcut = float(layout.rcut)
        self.domain_start = domain_start
        self.warned = False
        self.block = (
            2**31 if layout.messages else BLOCK
        )  # where features of neighbours are read, atoms cannot be evaluated by parts
        self.sel = list(layout.sel)
        self.mixed = layout.mixed
        self.messages = layout.messages
        self.dim = output.width
        self.differentiable = output.differentiable
        self.intensive = output.intensive
        self.excluded = excluded
        self.dim_fparam, default_fparam = conditions["fparam"]
        self.dim_aparam, _ = conditions["aparam"]
        self.dim_chg_spin, default_chg_spin = conditions["charge_spin"]
        self.limits_chg_spin = [end for limits in LIMITS.values() for end in limits]
        # no list: TorchScript rounds lists of numbers to float32 on the way to a tensor
        self.register_buffer("default_fparam", torch.tensor(default_fparam, dtype=torch.float64))
        self.register_buffer("default_chg_spin", torch.tensor(default_chg_spin, dtype=torch.float64))
        self.no_types = []
        self.open_cell = parts["open_cell"]
        self.find = parts["find"]
        self.take_listed = parts["take_listed"]
        self.core = parts["core"]
        self.nets = parts["nets"]
        self.derive = parts["derive"]
        self.derive_atomic = parts["derive_atomic"]

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
    def mixed_types(self) -> bool:
        """Whether all neighbour types share one section."""
        return self.mixed

    @torch.jit.export
    def has_message_passing(self) -> bool:
        """Whether features of neighbours are read, so that ghost atoms need those of their owners."""
        return self.messages

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
        """Return how many numbers say charge and spin of a frame: 2, or 0 where these do not matter."""
        return self.dim_chg_spin

    @torch.jit.export
    def has_chg_spin_ebd(self) -> bool:
        """Whether the model depends on charge and spin of a frame."""
        return self.dim_chg_spin > 0

    @torch.jit.export
    def has_default_chg_spin(self) -> bool:
        """Whether charge and spin may be left out."""
        return self.default_chg_spin.numel() > 0

    @torch.jit.export
    def get_default_chg_spin(self) -> torch.Tensor | None:
        """Return charge and spin where they are left out."""
        return self.default_chg_spin if self.default_chg_spin.numel() > 0 else None

"""A descriptor of a plug-in that has what the contract asks and nothing more: neither `sel` nor `exclude_types`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from support import require
from train.small_training import run, small_input

from deepmd import DeepPot
from deepmd.array_model import registry
from deepmd.array_model.contracts import Features, Widths
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.neighbours import Layout


@dataclass(frozen=True)
class Gaussians(Descriptor):
    """D_ik = sum_j s_ij^2 exp(-(s_ij - k / 4)^2), whatever the types of the neighbours."""

    slots_by_type: Any = "auto"
    rcut: float = 4.0
    rcut_smth: float = 1.0
    precision: str = "float64"
    trainable: bool = True
    seed: int | None = None

    @property
    def widths(self):
        return Widths(3, 0)

    @property
    def part_slots(self):
        return (sum(self.slots_by_type),)

    def layout(self):
        return Layout(self.rcut, tuple(self.slots_by_type))

    def slot_options(self):
        return {"slots_by_type": (self.rcut, self.slots_by_type)}

    def init(self, type_map, draw, *, xp):
        return {"shift": xp.zeros_like(draw([0]).normal(size=(1, 1)))}

    def raw_rows(self, neighbours, *, xp):
        return [environment_rows(neighbours.disp_NM3, self.rcut_smth, self.rcut, 0.0, xp=xp)]

    def with_statistics(self, params, statistics, *, xp):
        return params

    def apply(self, params, neighbours, *, xp):
        s_NM = environment_rows(neighbours.disp_NM3, self.rcut_smth, self.rcut, 0.0, xp=xp)[:, :, 0] + params["shift"]
        columns = [xp.sum(s_NM * s_NM * xp.exp(-xp.square(s_NM - 0.25 * k)), axis=1, keepdims=True) for k in range(3)]
        return Features(xp.concat(columns, axis=1), None)


def test_it_trains_and_its_checkpoint_is_read(tmp_path, monkeypatch):
    require("torch")
    monkeypatch.setattr(registry, "KINDS", {role: dict(known) for role, known in registry.KINDS.items()})
    registry.register("descriptor", "gaussians")(Gaussians)
    tree = small_input(numb_steps=2)
    tree["model"]["descriptor"] = {"type": "gaussians"}
    run(tmp_path, tree, "torch", skip_neighbor_stat=False)
    coord = 1.2 * np.random.default_rng(0).normal(size=(1, 6, 3))
    torch, numpy = (
        DeepPot(tmp_path / "model.ckpt.pt", backend=backend).eval(coord, None, [0, 1, 1, 0, 1, 1])
        for backend in ("torch", "numpy")
    )
    for ours, reference in zip(torch, numpy, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-10, atol=1e-12)

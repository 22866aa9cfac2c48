"""Recipes of `dp init`: what sizes and descriptors mean in keys of the input. Every recipe trains on both backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RCUT = 6.0
"""Cutoff, Angstrom: two shells of neighbours in liquids and solids; DeePMD-kit's examples use the same."""

INNER_RCUT = 4.0
"""Cutoff of angles and messages (dpa2, dpa3), Angstrom: the first shell."""


@dataclass(frozen=True)
class Size:
    """Size of a model and length of its training.

    `small` is the recipe of examples/water/demo.py, whose errors and times are measured there.

    Attributes
    ----------
    meaning : what it is for
    neuron, axis_neuron, fitting : embedding net, axes, fitting net
    precision : of nets and features
    steps, start_lr, stop_lr : training
    width, layers : features and layers of descriptors that pass messages
    attn_layer : attention layers of dpa1
    """

    meaning: str
    neuron: tuple[int, ...]
    axis_neuron: int
    fitting: tuple[int, ...]
    precision: str
    steps: int
    start_lr: float
    stop_lr: float
    width: int
    layers: int
    attn_layer: int


SIZES = {
    "small": Size("a first model", (16, 32, 64), 8, (64,) * 3, "float32", 10_000, 4e-3, 1e-6, 32, 2, 0),
    "medium": Size("a model to work with", (25, 50, 100), 12, (120,) * 3, "float32", 100_000, 2e-3, 1e-6, 64, 4, 0),
    "large": Size("a model to publish", (25, 50, 100), 16, (240,) * 3, "float64", 1_000_000, 1e-3, 1e-8, 128, 6, 2),
}

Section = dict[str, Any]


def _se_e2_a(size: Size) -> Section:
    return {
        "type": "se_e2_a",
        "sel": "auto",
        "rcut": RCUT,
        "rcut_smth": 0.5,
        "neuron": list(size.neuron),
        "axis_neuron": size.axis_neuron,
        "type_one_side": True,
        "precision": size.precision,
        "seed": 1,
    }


def _se_e2_r(size: Size) -> Section:
    section = {**_se_e2_a(size), "type": "se_e2_r"}
    del section["axis_neuron"]
    return section


def _dpa1(size: Size) -> Section:
    return {**_se_e2_a(size), "type": "dpa1", "attn_layer": size.attn_layer, "tebd_input_mode": "strip"}


def _dpa2(size: Size) -> Section:
    return {
        "type": "dpa2",
        "repinit": {
            "nsel": "auto",
            "rcut": RCUT,
            "rcut_smth": 0.5,
            "neuron": list(size.neuron),
            "axis_neuron": size.axis_neuron,
            "tebd_input_mode": "strip",
        },
        "repformer": {
            "nsel": "auto",
            "rcut": INNER_RCUT,
            "rcut_smth": 3.5,
            "nlayers": size.layers,
            "g1_dim": size.width,
            "g2_dim": size.width // 4,
            "axis_neuron": 4,
            "update_g1_has_attn": False,
            "update_g2_has_attn": False,
            "update_style": "res_residual",
        },
        "precision": size.precision,
        "seed": 1,
    }


def _dpa3(size: Size) -> Section:
    return {
        "type": "dpa3",
        "repflow": {
            "e_sel": "auto",
            "e_rcut": RCUT,
            "e_rcut_smth": 5.3,
            "a_sel": "auto",
            "a_rcut": INNER_RCUT,
            "a_rcut_smth": 3.5,
            "n_dim": size.width,
            "e_dim": size.width // 2,
            "a_dim": size.width // 4,
            "nlayers": size.layers,
            "smooth_edge_update": True,
        },
        "precision": size.precision,
        "seed": 1,
    }


@dataclass(frozen=True)
class Recipe:
    """A descriptor of `dp init`.

    Attributes
    ----------
    section : section `descriptor` of a size, with `sel` "auto"
    meaning : what the descriptor is for
    messages : whether atoms pass messages, which asks for a lower learning rate
    """

    section: Callable[[Size], Section]
    meaning: str
    messages: bool = False


RECIPES = {
    "se_e2_a": Recipe(_se_e2_a, "the classic: fastest, for up to about four elements"),
    "se_e2_r": Recipe(_se_e2_r, "distances only: for pair-like interactions, less accurate"),
    "dpa1": Recipe(_dpa1, "one net for all pairs of types: for many elements"),
    "dpa2": Recipe(_dpa2, "messages between near atoms: more accurate, slower", messages=True),
    "dpa3": Recipe(_dpa3, "messages between atoms, edges and angles: most accurate, slowest", messages=True),
}

MESSAGES_START_LR = 1e-3
"""Largest learning rate of descriptors that pass messages, as in DeePMD-kit's examples of dpa2 and dpa3."""

PREFACTORS = {"e": (0.02, 50.0), "f": (1000.0, 5.0), "v": (0.02, 5.0)}
"""Start and limit of the prefactors of the loss by term; the limits are those of examples/water/demo.py."""

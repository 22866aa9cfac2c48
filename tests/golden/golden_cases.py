"""The stored cases that DeePMD-kit 3.2 has computed, their frames, and the ways of files that they go."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepmd.array_model.conditions import CONDITIONS
from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.io import load_model
from deepmd.testing.samples import Sample

MESSAGES = (
    *("dpa2_all_residual_norm", "dpa2_three_excluded", "dpa2_not_smooth_no_sqrt"),
    *("dpa3_compress_2", "dpa3_sequential_smooth", "dpa3_use_dist_exp_switch", "dpa3_charge_spin"),
)
"""Options of dpa2 and dpa3."""

CASES = {
    # case: row of the table of tolerances
    "se_e2_a": "float64",
    "se_e2_a_two_side": "float64",
    "se_e2_a_options": "float64",
    "se_e2_a_fparam": "float64",
    "se_e2_a_sel_overflow": "float64",
    "se_e2_a_float32": "float32",
    "se_e2_r": "float64",
    "se_e3": "float64",
    "se_atten": "float64",
    "se_atten_attn": "float64",
    "se_atten_strip": "float64",
    "se_atten_masked": "float64",  # not smooth, with excluded types
    "se_atten_one_side": "float64",  # strip, with time steps and attention
    "se_atten_scaled": "float64",  # temperature, ln_eps, bias of the type embedding
    "dipole": "float64",
    "polar": "float64",
    "dos": "float64",
    "property": "float64",
    "hybrid": "float64",
    "se_e3_tebd": "float64",
    "loc_frame": "float64",
    "loc_frame_rule": "float64",
    "dpa2": "float64",
    "dpa3": "float64",
    **dict.fromkeys(MESSAGES, "float64"),
}

OPTIONS = (
    *("polar_full", "polar_shift_scale", "dipole_some", "dipole_dpa3", "property_extensive", "property_one_net"),
    *("ener_aparam_mask", "excluded", "se_atten_econf", "se_e3_tebd_strip", "se_e3_tebd_strip_rough"),
    *("dpa2_rough_sqrt", "dpa2_ln_eps", "dpa2_direct_dist", "dpa2_res_incr", "dpa2_res_avg", "dpa3_compress_split"),
)
"""Cases of single options, by NumPy in float64: physics is written once, and the cases above compare backends."""

DIRECT = (
    *MESSAGES,
    *(f"se_atten{ending}" for ending in ("_attn", "_masked", "_one_side", "_scaled")),
    *("dpa2", "dpa3", "se_e3_tebd", "loc_frame", "loc_frame_rule", "property"),
)
"""Cases without expansions."""

OVERFLOW = ("se_e2_a_sel_overflow", "loc_frame", "loc_frame_rule")
"""Cases with more neighbours than slots."""

FITTINGS = ("dipole", "polar", "dos", "property")
"""Cases of other outputs than energies, tested like these but not with larger nets."""

DIPOLE = {
    "dipole": ("dipole_redu", (1, 3)),
    "atom_dipole": ("dipole", (-1, 3)),
    "force": (
        "dipole_derv_r",
        (-1, 3, 3),
    ),  # stored in the order atom, component, direction, whatever the shape there says
    "virial": ("dipole_derv_c_redu", (1, 3, 9)),
    "atom_virial": ("dipole_derv_c", (-1, 3, 9)),
}

POLAR = {"polar": ("polar_redu", (1, 9)), "atom_polar": ("polar", (-1, 9))}
STORED: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
    **dict.fromkeys(("dipole", "dipole_some", "dipole_dpa3"), DIPOLE),
    **dict.fromkeys(("polar", "polar_full", "polar_shift_scale"), POLAR),
    "dos": {"dos": ("dos_redu", (1, 5)), "atom_dos": ("dos", (-1, 5))},
    **{
        case: {"property": ("property", (1, width)), "atom_property": ("atom_property", (-1, width))}
        for case, width in (("property", 3), ("property_extensive", 2), ("property_one_net", 2))
    },
}
"""Where the outputs of a case are stored, and in which shape they are compared.

The others are stored under their names.
"""

MODEL_CASES = ("pairtab", "linear_tables", "zbl_tables", "linear", "linear_pairtab", "zbl")
"""Combinations of models and pair tables."""
BOUNDARIES = ("pbc", "nopbc")


def stored_in(case):
    return dict(np.load(Path(__file__).parent / case / "expected.npz"))


def content_of(case):
    return load_model(Path(__file__).parent / case / "model.dp")


def sample_of(stored, boundary):
    """The frame of a boundary, and what is stored for it."""
    expected = {
        name.removeprefix(f"{boundary}/"): value for name, value in stored.items() if name.startswith(f"{boundary}/")
    }
    structure = Structure(expected["coord"], expected.get("cell"), expected["type"])
    rows = {name: (len(expected["type"]), -1) if row.per_atom else -1 for name, row in CONDITIONS.items()}
    conditions = {name: expected[name].reshape(shape) for name, shape in rows.items() if name in expected}
    return Sample(structure, conditions), expected


def shortest(case):
    """Shortest distance of the stored frames, Angstrom."""
    stored, rcut = stored_in(case), content_of(case).model.layout().rcut
    return min(find_neighbours([sample_of(stored, boundary)[0].structure], rcut).dist.min() for boundary in BOUNDARIES)


COMPRESSED = (
    *("se_e2_a", "typed_se_e2_a", "se_e2_r", "se_e3", "se_atten", "se_atten_strip", "hybrid"),
    *("dipole", "polar", "dos", "property"),
    *("linear", "linear_pairtab", "zbl"),
)


WALK = [f".{name}" for name in ("dp", "yaml", "dp", "pth", "dp", "pb", "yaml", "pth", "yaml", "pb", "pth", "pb", "dp")]
"""A closed way along which every format is converted into every other exactly once."""

LONG_WALK = [
    f".{name}"
    for name in (
        *("savedmodel", "dp", "yaml", "savedmodel", "yaml", "dp", "pth", "savedmodel", "pth", "dp", "pb"),
        *("savedmodel", "pb", "yaml", "pth", "yaml", "pb", "pth", "pb", "dp", "savedmodel"),
    )
]
"""The same with the format that holds energy models only."""

DETOUR = [*WALK, ".savedmodel", ".dp"]
"""Formats that take seconds to write. Most kinds go there once, because the source does not matter."""

WALKS = (
    "dipole",
    "polar",
    "dos",
    "property",
    "dpa2",
    "dpa3",
)  # tests/unit/test_savedmodel.py has the rest of the last two

DETOURS = (
    *("se_e2_r", "se_e3", "se_atten_strip", "se_atten_attn", "se_e3_tebd", "hybrid", "loc_frame_rule"),
    *("pairtab", "linear", "linear_pairtab", "zbl", "dpa3_charge_spin"),
)

LONG_WALKS = ("se_e2_a_fparam",)

FILES = (
    *((case, ".pth") for case in ("se_e2_r", "se_atten_strip", "se_atten_attn", "hybrid", "loc_frame_rule")),
    *((case, suffix) for case in ("property", "zbl") for suffix in (".pth", ".pb")),
    ("dipole", ".pth"),  # .pb: tests/train/test_other_training.py
)
"""Native files of quick tests: every branch of the writers, together with those of tests/unit/test_native_files.py
(parameters of frames and atoms, charge and spin) and of tests/unit/test_message_files.py."""

KINDS = {**dict.fromkeys(WALKS, WALK), **dict.fromkeys(DETOURS, DETOUR), **dict.fromkeys(LONG_WALKS, LONG_WALK)}
"""Way of each case."""

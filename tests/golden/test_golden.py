"""Models whose outputs DeePMD-kit 3.2 has computed: pbc and open boundary, on every backend, by nets and by their expansions."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support import FRAMEWORKS
from tolerances import assert_close

from deepmd.array_model.tree import map_leaves
from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.data.packing import SelWarning, pack
from deepmd.io import load_model
from deepmd.plan.expansions import evaluation_of, expanded, with_evaluation
from deepmd.testing.samples import Sample, Subject

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
"""Cases of single options, evaluated by NumPy in float64: physics is written once, and the cases above compare backends."""

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
STORED = {
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

EVALUATED = [
    (case, backend, how)
    for case, backend, how in product(CASES, FRAMEWORKS, ("direct", "spectral"))
    if how == "direct" or case not in DIRECT
] + [(case, "numpy", "direct") for case in OPTIONS]
EXPANDED = [
    case for case in CASES if case not in (*DIRECT, *FITTINGS, "hybrid")
]  # the members of the hybrid are tested alone
BOUNDARIES = ("pbc", "nopbc")

FACTORS = (1.0, 2.0, 4.0)
"""What the weights of the embedding nets are multiplied with: they grow in training, and with them the number of terms."""

IMPOSSIBLE = {("se_e2_a", 4.0), ("se_e2_a_two_side", 4.0), ("se_e2_a_fparam", 4.0), ("se_e2_a_sel_overflow", 4.0)}
"""Cases and factors that have no expansion from the shortest distance that is assumed if none is known.

From their own they have one.
"""

NEVER = {("se_e2_r", 4.0), ("se_e3", 2.0), ("se_e3", 4.0)}
"""Cases and factors that need more terms than are allowed from any distance."""

GROWN = [
    (*each, backend)
    for each in product(EXPANDED, FACTORS)
    for backend in FRAMEWORKS
    if each not in NEVER and (backend != "tf" or each not in IMPOSSIBLE)
]
"""Graphs of more than 300 terms take TensorFlow ten seconds each, and show nothing that those of 200 do not."""


def stored_in(case):
    return dict(np.load(Path(__file__).parent / case / "expected.npz"))


def content_of(case):
    return load_model(Path(__file__).parent / case / "model.dp")


def sample_of(stored, boundary):
    """The frame of a boundary, and what is stored for it."""
    expected = {
        name.removeprefix(f"{boundary}/"): value for name, value in stored.items() if name.startswith(f"{boundary}/")
    }
    natoms = len(expected["type"])
    structure = Structure(expected["coord"], expected.get("cell"), expected["type"])
    parameters = (
        expected.get("fparam", np.zeros(0)).reshape(-1),
        expected.get("aparam", np.zeros((natoms, 0))).reshape(natoms, -1),
    )
    return Sample(structure, *parameters, expected.get("charge_spin", np.zeros(0))), expected


def shortest(case):
    """Shortest distance of the stored frames, Angstrom."""
    stored, rcut = stored_in(case), content_of(case).model.layout().rcut
    return min(find_neighbours([sample_of(stored, boundary)[0].structure], rcut).dist.min() for boundary in BOUNDARIES)


def in_terms(content, params, closest=None):
    """Model and parameters with an expansion, if there is one, and the reason if not."""
    return expanded(with_evaluation(content.model, "spectral"), params, closest, stored=True)


@pytest.fixture(scope="module", params=EVALUATED, ids="-".join)
def golden(request):
    case, backend, evaluation = request.param
    content = content_of(case)
    model, params = content.model, content.params
    if evaluation == "spectral":
        model, params, reason = in_terms(content, params)
        assert isinstance(evaluation_of(model), int), reason
    return case, Subject(model, params, backend), stored_in(case)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_equals_deepmd_kit(golden, boundary):
    case, subject, stored = golden
    sample, expected = sample_of(stored, boundary)
    results = subject([sample])
    assert set(results) == set(subject.model.output.names)
    for name, values in results.items():
        if case in STORED and name == "descriptor":
            continue
        key, shape = STORED.get(case, {}).get(name, (name, values.shape))
        assert_close(values, expected[key].reshape(shape), "golden", CASES.get(case, "float64"), floor=0.0, what=name)


def test_overflow_is_told(golden):
    case, subject, stored = golden
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SelWarning)
        layout = subject.model.layout()
        pack(
            find_neighbours([Structure(stored["pbc/coord"], stored["pbc/cell"], stored["pbc/type"])], layout.rcut),
            layout,
            2,
        )
    assert bool(caught) == (case in OVERFLOW)


def grown(content, factor):
    """The parameters with larger weights of the embedding nets."""
    nets = map_leaves(lambda leaf: factor * leaf, content.params["descriptor"]["embeddings"])
    return {**content.params, "descriptor": {**content.params["descriptor"], "embeddings": nets}}


@pytest.mark.parametrize(("case", "factor"), sorted(NEVER))
def test_nets_without_expansion_are_evaluated_directly(case, factor):
    content = content_of(case)
    model, params, reason = in_terms(content, grown(content, factor), shortest(case))
    assert (evaluation_of(model), reason) == ("direct", "the embedding nets need more than 512 terms")
    assert "tables" not in params["descriptor"]


@pytest.mark.parametrize(("case", "factor", "backend"), GROWN)
def test_expansion_equals_nets(case, factor, backend):
    content = content_of(case)
    params = grown(content, factor)
    model, with_tables, reason = in_terms(content, params)
    if (case, factor) in IMPOSSIBLE:
        assert (evaluation_of(model), reason) == ("direct", "the embedding nets need more than 512 terms")
        assert "tables" not in with_tables["descriptor"]
        model, with_tables, reason = in_terms(content, params, shortest(case))
    assert isinstance(evaluation_of(model), int), reason
    spectral, direct = Subject(model, with_tables, backend), Subject(content.model, params, backend)
    for boundary in BOUNDARIES:
        sample, _ = sample_of(stored_in(case), boundary)
        results, expected = spectral([sample]), direct([sample])
        for name in ("energy", "force", "virial", "descriptor"):
            assert_close(results[name], expected[name], "spectral", CASES[case], floor=0.0, what=f"{boundary}: {name}")


def test_tables_have_no_stale_rows():
    assert {case for case, _ in IMPOSSIBLE | NEVER} <= set(CASES)
    assert {factor for _, factor in IMPOSSIBLE | NEVER} <= set(FACTORS)

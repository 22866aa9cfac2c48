"""Models whose outputs DeePMD-kit 3.2 has computed: pbc and open boundary, on every backend."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from support import FRAMEWORKS
from tolerances import assert_close

from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.data.packing import SelWarning, pack
from deepmd.io import load_model
from deepmd.testing.samples import Sample, Subject

CASES = {
    # case: row of the table of tolerances
    "se_e2_a": "float64",
    "se_e2_a_two_side": "float64",
    "se_e2_a_options": "float64",
    "se_e2_a_fparam": "float64",
    "se_e2_a_sel_overflow": "float64",
    "se_e2_a_float32": "float32",
}
OUTPUTS = ("energy", "atom_energy", "force", "virial", "atom_virial", "descriptor")


@pytest.fixture(scope="module", params=[(case, backend) for case in CASES for backend in FRAMEWORKS], ids="-".join)
def golden(request):
    case, backend = request.param
    folder = Path(__file__).parent / case
    content = load_model(folder / "model.dp")
    return case, Subject(content.model, content.params, backend), dict(np.load(folder / "expected.npz"))


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
def test_equals_deepmd_kit(golden, boundary):
    case, subject, stored = golden
    expected = {name.removeprefix(f"{boundary}/"): value for name, value in stored.items() if name.startswith(f"{boundary}/")}
    natoms = len(expected["type"])
    structure = Structure(expected["coord"], expected.get("cell"), expected["type"])
    sample = Sample(structure, expected.get("fparam", np.zeros(0)).reshape(-1), expected.get("aparam", np.zeros((natoms, 0))).reshape(natoms, -1))
    results = subject([sample])
    assert set(results) == set(OUTPUTS)
    for name, values in results.items():
        assert_close(values.reshape(expected[name].shape), expected[name], "golden", CASES[case], floor=0.0, what=name)


def test_overflow_is_told(golden):
    case, subject, stored = golden
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SelWarning)
        layout = subject.model.layout()
        pack(find_neighbours([Structure(stored["pbc/coord"], stored["pbc/cell"], stored["pbc/type"])], layout.rcut), layout, 2)
    assert bool(caught) == (case == "se_e2_a_sel_overflow")

"""DPA-2 and DPA-3 in every option: models that DeePMD-kit has built are read, evaluated and written as it does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from interop.dpa_options import SECTIONS
from interop.golden_files import GOLDEN, golden_frame
from support import differences, stored_tree
from tolerances import assert_close

from deepmd.array_model.tree import flatten
from deepmd.data.neighbours import Structure
from deepmd.data.packing import SelWarning
from deepmd.io import load_model
from deepmd.io.model_file import to_tree
from deepmd.testing.samples import Sample, Subject

NOT_COMPILED = ("dpa3_avg", "dpa3_incr_heads")
"""Options that DeePMD-kit's torch trains but cannot freeze: there TorchScript stops at its own code."""

BOUNDARIES = ("pbc", "nopbc")


def structures():
    """18 atoms in a skewed cell, and 11 in the open of which the first is alone."""
    rng = np.random.default_rng(11)
    cell = np.array([[6.2, 0.3, 0.0], [-0.4, 6.0, 0.2], [0.1, 0.5, 6.6]])
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3.0] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    coord = (grid[rng.permutation(27)[:18]] + rng.uniform(-0.08, 0.08, (18, 3))) @ cell
    cluster = (grid[rng.permutation(27)[:11]] + rng.uniform(-0.08, 0.08, (11, 3))) @ cell
    cluster[0] += 40.0
    types = rng.integers(0, 6, 29)
    return {
        "pbc/coord": coord,
        "pbc/cell": cell,
        "pbc/type": types[:18],
        "nopbc/coord": cluster,
        "nopbc/type": types[18:],
    }


@pytest.fixture(scope="module")
def built(kit, tmp_path_factory):
    """A folder with `model.dp` and `expected.npz` of every section; DeePMD-kit makes all in one process."""
    folder = tmp_path_factory.mktemp("dpa")
    np.savez(folder / "structures.npz", **structures())
    (folder / "sections.json").write_text(json.dumps(SECTIONS))
    kit.run(["python", Path(__file__).parent / "dpa_wheel.py"], folder)
    return folder


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.filterwarnings(f"ignore::{SelWarning.__module__}.{SelWarning.__name__}")
def test_equals_deepmd_kit(built, name):
    content, stored = load_model(built / name / "model.dp"), np.load(built / name / "expected.npz")
    subject = Subject(content.model, content.params, "numpy")
    for boundary in BOUNDARIES:
        expected = {
            key.removeprefix(f"{boundary}/"): stored[key] for key in stored.files if key.startswith(f"{boundary}/")
        }
        structure = Structure(expected["coord"], expected.get("cell"), expected["type"])
        conditions = {name: expected[name] for name in ("charge_spin",) if name in expected}
        results = subject([Sample(structure, conditions)])
        for key, values in results.items():
            assert_close(
                values, expected[key].reshape(values.shape), "golden", "float64", floor=0.0, what=f"{boundary}: {key}"
            )


@pytest.mark.parametrize("name", SECTIONS)
def test_written_as_it_was_read(built, name):
    path = built / name / "model.dp"
    assert differences(to_tree(load_model(path), "numpy")["model"], stored_tree(path)["model"]) == []


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("file", ["model.pt", "frozen.pth", "undefined.pth"])
def test_torch_files_hold_the_same(built, name, file):
    """The model of the `.dp`, whose values the test above compares: its options, and its parameters bit by bit."""
    path, expected = built / name / file, load_model(built / name / "model.dp")
    if file != "model.pt" and name in NOT_COMPILED:
        assert (built / name / "not_frozen.txt").exists()
        return
    found = load_model(path)
    assert found.model == expected.model
    arrays = flatten(found.params)
    assert arrays.keys() == flatten(expected.params).keys()
    for place, array in flatten(expected.params).items():
        np.testing.assert_array_equal(arrays[place], array, err_msg=place)


GOLDENS = sorted(path.name for path in GOLDEN.glob("dpa*"))


def test_theirs_reads_ours(kit, files, tmp_path):
    """DeePMD-kit gives for our `.dp` what it has given for its own."""
    jobs = {
        f"{case} {boundary}": (files[case, "model.dp"], golden_frame(case, boundary))
        for case in GOLDENS
        for boundary in BOUNDARIES
    }
    found = kit.evaluate(jobs, tmp_path)
    for job in jobs:
        case, boundary = job.split()
        stored = np.load(GOLDEN / case / "expected.npz")
        for name in ("energy", "atom_energy"):  # its NumPy knows no derivatives
            expected = stored[f"{boundary}/{name}"]
            assert_close(found[job][name].reshape(expected.shape), expected, "golden", what=f"{job}: {name}")

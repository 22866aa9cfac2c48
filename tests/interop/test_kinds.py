"""Models of every kind that DeePMD-kit's torch trains: its `.pth`, `.pt` and `.dp` are read here."""

from __future__ import annotations

import numpy as np
import pytest
from interop.other_kinds import KINDS, train_all
from interop.our_results import evaluate
from tolerances import assert_close

# models of mixed neighbours with a mean depend on the first atom, here as there
pytestmark = pytest.mark.filterwarnings("ignore::deepmd.infer.inputs.OrderWarning")

FILES = ("frozen.pth", "model.ckpt-2.pt", "theirs.dp")
CASES = [(name, file) for name in KINDS for file in FILES if file != "theirs.dp" or not name.startswith("linear")]
"""DeePMD-kit cannot convert its frozen sums."""


@pytest.fixture(scope="module")
def folder(kit, place, given):
    """Where all models are."""
    train_all(kit, place / "kinds", given)
    return place / "kinds"


@pytest.mark.parametrize(("name", "file"), CASES)
def test_its_files_are_read(folder, given, name, file):
    expected = dict(np.load(folder / name / "expected.npz"))
    for key, values in evaluate(folder / name / file, KINDS[name][1]["type"], given).items():
        assert_close(values, expected[key].reshape(values.shape), "golden", floor=0.0, what=key)

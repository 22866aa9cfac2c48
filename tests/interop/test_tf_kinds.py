"""Kinds that DeePMD-kit's TensorFlow trains: its `.pb` and checkpoints are read, or refused with the reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
from interop.our_results import evaluate
from interop.tf_kinds import KINDS, REFUSED, train_all
from tolerances import assert_close

from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io import convert, load_model
from deepmd.io.train_input import parse_input

FILES = ("frozen.pb", "model.ckpt-2")


@pytest.fixture(scope="module")
def folder(kit, place, given):
    """Where all models are."""
    train_all(kit, place / "tf_kinds", given)
    return place / "tf_kinds"


def assert_equals_theirs(path, folder, name, given):
    expected = dict(np.load(folder / name / "expected.npz"))
    for boundary, frame in (("pbc", given), ("nopbc", {**given, "cell": None})):
        for key, values in evaluate(path, KINDS[name][1]["type"], frame).items():
            assert_close(
                values,
                expected[f"{boundary}/{key}"].reshape(values.shape),
                "golden",
                floor=0.0,
                what=f"{boundary} {key}",
            )


@pytest.mark.parametrize("name", [name for name in KINDS if name not in REFUSED])
@pytest.mark.parametrize("file", FILES)
def test_its_files_are_read(folder, given, name, file):
    assert_equals_theirs(folder / name / file, folder, name, given)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("file", FILES)
def test_what_has_no_equal_is_refused(folder, name, file):
    with pytest.raises(InputError, match=REFUSED[name]):
        load_model(folder / name / file)


@pytest.mark.parametrize(
    "name",
    ["dipole_first", "polar", "dos_mixed", "hybrid_mixed", "hybrid_typed", "se_atten_attention", "typed_distances"],
)
def test_conversions_keep_the_numbers(folder, given, tmp_path, name):
    convert(folder / name / "frozen.pb", tmp_path / "ours.dp")
    assert_equals_theirs(tmp_path / "ours.dp", folder, name, given)


@pytest.mark.parametrize("name", ["hybrid", "hybrid_typed", "hybrid_typed_distances", "typed", "typed_two_side"])
def test_its_input_describes_its_model(folder, name):
    """Training here goes on from its file with its input."""
    tree = json.loads((folder / name / "input.json").read_text())
    wanted = parse_input({**tree, "training": {**tree["training"], "numb_steps": 0}}).model.init(
        np.random.default_rng, xp=plain
    )
    found = flatten(load_model(folder / name / "frozen.pb").params)
    assert {path: leaf.shape for path, leaf in flatten(wanted).items()} == {
        path: leaf.shape for path, leaf in found.items()
    }

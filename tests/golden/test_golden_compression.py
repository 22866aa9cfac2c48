"""`dp compress` of every kind: equal numbers where nets are stored as expansions, elsewhere an error with reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from golden.golden_cases import BOUNDARIES, COMPRESSED, content_of, sample_of, shortest, stored_in
from tolerances import assert_close

from deepmd.array_model.errors import InputError
from deepmd.infer.compress import compress_model
from deepmd.io import load_model, save_model
from deepmd.testing.samples import Subject

REFUSED = {
    **dict.fromkeys(("se_e3_tebd", "dpa2", "dpa3"), "are not stored as expansions"),
    "se_atten_attn": "attention layers need the nets of every neighbour",
    "pairtab": "a model of type pairtab has no nets to expand",
}


def stored_with_distance(case, path):
    save_model(path, replace(content_of(case), min_nbor_dist=shortest(case)))


@pytest.mark.parametrize("case", COMPRESSED)
def test_compressed_gives_the_numbers_of_the_nets(tmp_path, case):
    stored_with_distance(case, tmp_path / "model.dp")
    compress_model(tmp_path / "model.dp", tmp_path / "compressed.dp")
    content = load_model(tmp_path / "compressed.dp")
    assert content.plan is not None
    for boundary in BOUNDARIES:
        sample, _ = sample_of(stored_in(case), boundary)
        expected = Subject(content.model, content.params, "numpy")([sample])
        for name, values in Subject(content.model, content.params, "numpy", chosen=content.plan)([sample]).items():
            assert_close(values, expected[name], "spectral", floor=0.0, what=f"{boundary}: {name}")


@pytest.mark.parametrize("case", REFUSED)
def test_others_say_why_not(tmp_path, case):
    stored_with_distance(case, tmp_path / "model.dp")
    with pytest.raises(InputError, match=REFUSED[case]):
        compress_model(tmp_path / "model.dp", tmp_path / "compressed.dp")
    assert not (tmp_path / "compressed.dp").exists()

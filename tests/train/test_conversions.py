"""Every ordered conversion between the formats, from checkpoints too, and back: nothing changes."""

from functools import cache

import numpy as np
import pytest
from support import mark_slow
from tolerances import assert_close
from train.conversions import CHECKPOINTS, FORMATS, PAIRS, same_file
from train.small_training import WATER, run, small_input

from deepmd import DeepPot
from deepmd.data.systems import load_system
from deepmd.infer.compress import compress_model
from deepmd.io import convert, load_model
from deepmd.plan.plans import count_terms

UNCHANGED = 1e-12


@pytest.fixture(scope="module")
def source_of(tmp_path_factory):
    """Return the trained model in a format, compressed or not, or as a checkpoint of a backend; written once."""
    folder = tmp_path_factory.mktemp("sources")

    @cache
    def source_of(name):
        path = folder / f"model{name}"
        if name in CHECKPOINTS:
            tree = small_input(numb_steps=3)
            del tree["training"]["validation_data"]
            run(folder / name, tree, name)
            return folder / name / CHECKPOINTS[name]
        if name == "compressed.dp":
            compress_model(source_of(".dp"), path, training_script=source_of("torch").with_name("input.json"))
        else:
            convert(source_of("compressed.dp" if name.startswith("compressed") else "torch"), path)
        return path

    return source_of


@pytest.fixture(scope="module")
def frames():
    """Two frames of water."""
    system = load_system(WATER / "water_330b", ["O", "H"])
    return system.coord[:2], system.cell[:2], system.types


@pytest.fixture(scope="module")
def expected(source_of, frames):
    """Energy, force and virial of the reference."""
    return DeepPot(source_of(".dp")).eval(*frames)


def test_there_are_twenty_two_conversions():
    assert len(PAIRS) == 22


STAR = [pair for pair in PAIRS if pair[0] == ".dp" or (pair[0] in CHECKPOINTS and pair[1] == ".dp")]
"""Quick: a conversion reads a model and writes it, so ways there and back from one format show what each one keeps."""


@pytest.mark.parametrize(("source", "target"), mark_slow(PAIRS, STAR))
def test_conversion_and_back(source_of, frames, expected, tmp_path, source, target):
    there, back = tmp_path / f"there{target}", tmp_path / f"back{source if source in FORMATS else '.dp'}"
    convert(source_of(source), there)
    convert(there, back)
    if source != "tf":  # the TensorFlow checkpoint is another training, equal up to rounding
        same_file(there, source_of(".dp"))
    same_file(back, there)
    for file in (there, back):
        for value, reference in zip(DeepPot(file).eval(*frames), expected, strict=True):
            assert np.abs(value - reference).max() <= UNCHANGED * np.abs(reference).max()


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_conversion_of_a_compressed_model_and_back(source_of, frames, expected, tmp_path, source, target):
    there, back = tmp_path / f"there{target}", tmp_path / f"back{source}"
    convert(source_of(f"compressed{source}"), there)
    convert(there, back)
    for file in (there, back):
        same_file(file, source_of("compressed.dp"))
    potential = DeepPot(there)
    assert (potential.evaluation,) == count_terms(load_model(there).plan)
    for value, reference in zip(potential.eval(*frames), expected, strict=True):
        assert_close(value, reference, "spectral")

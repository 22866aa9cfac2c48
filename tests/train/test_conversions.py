"""Every ordered conversion between the formats, from checkpoints too, and back: nothing changes."""

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
def sources(tmp_path_factory):
    """One trained model in every format and as a checkpoint of each backend."""
    folder = tmp_path_factory.mktemp("sources")
    files = {}
    for backend, name in CHECKPOINTS.items():
        run(folder / backend, small_input(numb_steps=3), backend)
        files[backend] = folder / backend / name
    for suffix in FORMATS:
        files[suffix] = folder / f"model{suffix}"
        convert(files["torch"], files[suffix])
    compressed = {suffix: folder / f"compressed{suffix}" for suffix in FORMATS}
    compress_model(files[".dp"], compressed[".dp"], training_script=folder / "torch" / "input.json")
    for suffix in FORMATS[1:]:
        convert(compressed[".dp"], compressed[suffix])
    return {**files, **{f"compressed{suffix}": path for suffix, path in compressed.items()}}


@pytest.fixture(scope="module")
def frames():
    """Two frames of water."""
    system = load_system(WATER / "water_330b", ["O", "H"])
    return system.coord[:2], system.cell[:2], system.types


@pytest.fixture(scope="module")
def expected(sources, frames):
    """Energy, force and virial of the reference."""
    return DeepPot(sources[".dp"]).eval(*frames)


def test_there_are_twenty_two_conversions():
    assert len(PAIRS) == 22


STAR = [pair for pair in PAIRS if ".dp" in pair] + [("torch", ".pb"), ("tf", ".pth"), ("torch", ".savedmodel")]
"""Quick: a conversion reads a model and writes it, so pairs with one format in common show what each format keeps."""


@pytest.mark.parametrize(("source", "target"), mark_slow(PAIRS, STAR))
def test_conversion_and_back(sources, frames, expected, tmp_path, source, target):
    there, back = tmp_path / f"there{target}", tmp_path / f"back{source if source in FORMATS else '.dp'}"
    convert(sources[source], there)
    convert(there, back)
    if source != "tf":  # the TensorFlow checkpoint is another training, equal up to rounding
        same_file(there, sources[".dp"])
    same_file(back, there)
    for file in (there, back):
        for value, reference in zip(DeepPot(file).eval(*frames), expected, strict=True):
            assert np.abs(value - reference).max() <= UNCHANGED * np.abs(reference).max()


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_conversion_of_a_compressed_model_and_back(sources, frames, expected, tmp_path, source, target):
    there, back = tmp_path / f"there{target}", tmp_path / f"back{source}"
    convert(sources[f"compressed{source}"], there)
    convert(there, back)
    for file in (there, back):
        same_file(file, sources["compressed.dp"])
    potential = DeepPot(there)
    assert (potential.evaluation,) == count_terms(load_model(there).plan)
    for value, reference in zip(potential.eval(*frames), expected, strict=True):
        assert_close(value, reference, "spectral")

"""Every ordered conversion between the formats, from checkpoints too, and back: nothing changes."""

import numpy as np
import pytest
from small_training import WATER, run, small_input

from deepmd import DeepPot
from deepmd.array_model.tree import flatten
from deepmd.data.systems import load_system
from deepmd.io import convert, load_model

FORMATS = [".dp", ".yaml", ".pth", ".pb"]
CHECKPOINTS = {"torch": "model.ckpt-3.pt", "tf": "model.ckpt-3.index"}
UNCHANGED = 1e-12
PAIRS = [(a, b) for a in [*FORMATS, *CHECKPOINTS] for b in FORMATS if a != b]


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
    return files


@pytest.fixture(scope="module")
def frames():
    """Two frames of water."""
    system = load_system(WATER / "water_330b", ["O", "H"])
    return system.coord[:2], system.cell[:2], system.types


@pytest.fixture(scope="module")
def expected(sources, frames):
    """Energy, force and virial of the reference."""
    return DeepPot(sources[".dp"]).eval(*frames)


def test_there_are_twenty_conversions():
    assert len(PAIRS) == 20


def same_file(path, other):
    a, b = load_model(path), load_model(other)
    assert a.model == b.model
    assert a.definition == b.definition
    assert a.min_nbor_dist == b.min_nbor_dist
    for name, array in flatten(a.params).items():
        np.testing.assert_array_equal(array, flatten(b.params)[name], err_msg=name)
        assert array.dtype == flatten(b.params)[name].dtype


@pytest.mark.parametrize(("source", "target"), PAIRS)
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

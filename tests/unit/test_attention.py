"""Parts of attention by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.attention import presence, unit

DIRECTION = np.array([[0.6, -0.8, 0.0]])


@pytest.mark.parametrize("norm", [3.0, 1e-6, 2e-12])
def test_vectors_get_length_one(run, norm):
    assert_close(run(lambda x, *, xp: unit(x, "float64", xp=xp), norm * DIRECTION), DIRECTION, "function")


@pytest.mark.parametrize("norm", [1e-12, 1e-13, 3e-16])
def test_directions_of_the_shortest_fade_out(run, norm):
    """As of a neighbour just within the cutoff, whose row the switch makes as short."""
    assert_close(
        run(lambda x, *, xp: unit(x, "float64", xp=xp), norm * DIRECTION), norm / 1e-12 * DIRECTION, "function"
    )


@pytest.mark.parametrize("precision", ["float64", "float32", "float16", "bfloat16"])
def test_no_vector_has_no_direction(run, precision):
    def function(x, *, xp):
        return xp.astype(unit(xp.astype(x, getattr(xp, precision)), precision, xp=xp), xp.float64)

    found = run(function, np.zeros((2, 3)))
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_entries_count_as_often_as_they_are_present(run):
    rng = np.random.default_rng(2)
    logits, counts = rng.uniform(-20.0, 8.0, (3, 4, 5)), rng.integers(0, 3, (3, 1, 5)).astype(np.float64)
    counts[:, :, 0] = 37.0
    raised = counts * np.exp(logits)
    found = run(lambda x, y, *, xp: xp.softmax(x + presence(y, xp=xp)), logits, counts)
    assert_close(found, raised / raised.sum(axis=-1, keepdims=True), "function")


def test_nothing_present_gives_finite_weights(run):
    """As of an atom without neighbours: they are multiplied by gates of zero."""
    logits, counts = np.random.default_rng(2).uniform(-20.0, 8.0, (1, 4, 5)), np.zeros((1, 1, 5))
    assert np.all(np.isfinite(run(lambda x, y, *, xp: xp.softmax(x + presence(y, xp=xp)), logits, counts)))

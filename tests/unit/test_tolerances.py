"""How values are compared."""

import numpy as np
import pytest

from deepmd.testing.tolerances import TOLERANCES, assert_close

EXPECTED = np.array([[1.0, 0.05], [-0.8, 0.03]])


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_each_component_is_compared_at_its_own_scale(dtype, column):
    """A wrong small feature, or entry of a virial, shows beside a large one."""
    allowed = TOLERANCES[dtype]["virial"] * EXPECTED[0, column]
    for factor, right in ((0.9, True), (1.1, False)):
        values = EXPECTED.copy()
        values[1, column] += factor * allowed
        if right:
            assert_close(values, EXPECTED, "virial", dtype)
        else:
            with pytest.raises(AssertionError, match=rf"differs by .* at \(1, {column}\)"):
                assert_close(values, EXPECTED, "virial", dtype)


def test_what_cancels_is_compared_with_the_rest():
    """An entry that is zero but for rounding has no scale of its own."""
    expected = np.array([[1.0, 0.0]])
    assert_close(np.array([[1.0, 1e-14]]), expected, "virial", floor=0.0)
    with pytest.raises(AssertionError, match="differs"):
        assert_close(np.array([[1.0, 1e-12]]), expected, "virial", floor=0.0)


def test_infinite_expected_values_hide_nothing():
    with pytest.raises(AssertionError, match="expected values are not finite"):
        assert_close(np.array([1.0, 2.0, 99.0]), np.array([np.inf, 2.0, 3.0]), "function")

"""Pair tables of files that have the splines alone."""

from __future__ import annotations

import numpy as np
import pytest

from deepmd.array_model.errors import InputError
from deepmd.io.pair_table import of_splines, read_table

TYPES = ("O", "H")


@pytest.fixture
def table(tmp_path):
    """A table that ends before the cutoff."""
    distances = np.linspace(0.5, 2.0, 16)[:, None]
    np.savetxt(
        tmp_path / "table.txt", np.concatenate([distances, np.random.default_rng(0).normal(size=(16, 3))], axis=1)
    )
    return read_table(tmp_path / "table.txt", 3.1, 20, TYPES, "model")


def test_rows_come_back_from_splines(table):
    model, params = table
    found, values = of_splines(params["tab_info"], params["tab_data"].reshape(2, 2, -1, 4), 3.1, 20, TYPES)
    assert (found.start, found.intervals, found.rcut, found.sel) == (
        model.start,
        model.intervals,
        model.rcut,
        model.sel,
    )
    assert found.step == pytest.approx(model.step, rel=1e-12)
    for name in ("vdata", "tab_info", "tab_data"):
        np.testing.assert_allclose(values[name], params[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("number", "value"), [(1, 0.0), (2, 3.0), (3, 3.0)])
def test_numbers_that_do_not_fit(table, number, value):
    info = table[1]["tab_info"].copy()
    info[number] = value
    with pytest.raises(InputError, match="a table of"):
        of_splines(info, table[1]["tab_data"], 3.1, 20, TYPES)

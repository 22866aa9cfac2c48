"""Numbers of threads come from the environment, in both frameworks by the same names."""

import os
import subprocess
import sys

import pytest

from deepmd import process
from deepmd.array_model.errors import InputError
from deepmd.process import INTER, INTRA

TORCH = """
import torch
from deepmd.adapters.torch.evaluate import honour_threads
honour_threads()
honour_threads()
print(torch.get_num_threads(), torch.get_num_interop_threads())
"""


@pytest.mark.parametrize(("given", "number"), [(None, 0), ("", 0), ("3", 3), (" 2 ", 2), ("4,1", 4)])
def test_number(monkeypatch, given, number):
    monkeypatch.delenv(INTRA, raising=False)
    if given is not None:
        monkeypatch.setenv(INTRA, given)
    assert process.threads(INTRA) == number


@pytest.mark.parametrize("given", ["two", "-1", "1.5"])
def test_no_number_names_the_variable_and_what_it_holds(monkeypatch, given):
    monkeypatch.setenv(INTRA, given)
    with pytest.raises(InputError, match=INTRA) as error:
        process.threads(INTRA)
    assert repr(given) in str(error.value)


def test_torch():
    pytest.importorskip("torch")
    variables = {**os.environ, INTRA: "5", INTER: "7"}
    out = subprocess.run(
        [sys.executable, "-c", TORCH], env=variables, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == ["5", "7"]


@pytest.mark.parametrize(
    ("own", "blocks", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, False, (3, 0)),
        ({"OMP_NUM_THREADS": "3", INTRA: "5", INTER: "7"}, False, (5, 7)),
        ({INTRA: "5"}, True, (1, 5)),
        ({INTRA: "5", INTER: "2"}, True, (1, 2)),
        ({}, True, (0, 0)),
    ],
)
def test_tensorflow(monkeypatch, own, blocks, expected):
    tf = pytest.importorskip("tensorflow")
    from deepmd.adapters.tf.graph import session

    for name in ("OMP_NUM_THREADS", INTRA, INTER):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    config = session(tf.Graph(), blocks=blocks)._config
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == expected

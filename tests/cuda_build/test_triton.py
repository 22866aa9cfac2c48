"""A build of torch for CUDA, which brings triton, beside TensorFlow: make test-cuda-build."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
GOLDEN = Path(__file__).parents[1] / "golden"

EVALUATE_THEN_TRAIN = """
import sys
import numpy as np
from deepmd import DeepPot
from deepmd.io import convert
convert(sys.argv[1], "m.pb")
DeepPot("m.pb").eval(np.eye(3), None, [0, 1, 1])
import torch
weight = torch.ones(2, requires_grad=True)
optimizer = torch.optim.Adam([weight])
weight.sum().backward()
optimizer.step()
print("alive")
"""


def run(folder, code, *words):
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_torch_trains_after_tensorflow_has_evaluated(tmp_path):
    done = run(tmp_path, EVALUATE_THEN_TRAIN, GOLDEN / "se_e2_a" / "model.dp")
    assert done.stdout == "alive\n", f"exit code {done.returncode}: {done.stderr[-2000:]}"


def test_tensorflow_may_be_there_before(tmp_path):
    """A program that imports TensorFlow first can evaluate, though not train with torch afterwards."""
    code = EVALUATE_THEN_TRAIN.partition("import torch")[0] + 'print("alive")'
    done = run(tmp_path, f"import tensorflow\n{code}", GOLDEN / "se_e2_a" / "model.dp")
    assert done.stdout == "alive\n", f"exit code {done.returncode}: {done.stderr[-2000:]}"


def test_the_order_still_matters(tmp_path):
    """If this fails, TensorFlow and triton agree in any order, and `deepmd.process.load_triton` is not needed."""
    assert run(tmp_path, "import tensorflow, triton").returncode < 0

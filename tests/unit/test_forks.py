"""A forked process works, or says at once what to do instead; it never waits for threads that stayed behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import FRAMEWORKS, mark_slow, require
from tolerances import assert_close

from deepmd.process import INTRA

MODEL = Path(__file__).parents[1] / "golden" / "se_e2_a" / "model.dp"

SIZES = (100, 600)
"""Numbers of atoms: of one block, evaluated on two threads, and of several, evaluated on one thread each."""

SCRIPT = f"""
import importlib, json, multiprocessing, sys
from pathlib import Path
import numpy as np
from deepmd import DeepPot

SIZES = {SIZES}
model, backend, framework = sys.argv[1:]
fork = multiprocessing.get_context("fork")

def inherited(size):
    return energy(potential, size)

def fresh(size):
    return energy(DeepPot(model, backend=backend), size)

def energy(potential, size):
    coords = np.random.default_rng(size).uniform(0.0, 30.0, (size, 3))
    return potential.eval(coords, 30.0 * np.eye(3), [0, 1] * (size // 2))[0].item()

def told(function):
    with fork.Pool(1) as workers:
        try:
            return workers.map_async(function, SIZES).get(timeout=60)
        except ValueError as error:
            return str(error)

def after_the_framework():
    package.matmul(package.ones((500, 500)), package.ones((500, 500)))
    return told(fresh)

def has_named_threads():
    package.matmul(package.ones((500, 500)), package.ones((500, 500)))
    return any(path.read_text().startswith("tf_") for path in Path("/proc/self/task").glob("*/comm"))

def aside(function):
    receiver, sender = fork.Pipe()
    process = fork.Process(target=lambda: sender.send(function()))
    process.start()
    out = receiver.recv() if receiver.poll(60) else "no answer"
    process.join()
    return out

out = []
if framework:
    package = importlib.import_module(framework)
    if backend == "tf" and not aside(has_named_threads):
        print("no names")
        sys.exit()
    # TensorFlow's threads would show in all that follows; torch counts as soon as it is loaded
    out += [aside(after_the_framework) if backend == "tf" else after_the_framework()]
potential = DeepPot(model, backend=backend)
before = [told(inherited), told(fresh)]
here = [inherited(size) for size in SIZES]
out += [told(inherited), told(fresh), *before, here]
print(json.dumps(out))
"""

FRAMEWORK = {"numpy": "", "torch": "torch", "tf": "tensorflow"}


@pytest.fixture(scope="module")
def energies():
    """What the frames of the script give in a process that nobody forked."""
    from deepmd import DeepPot

    coords = [np.random.default_rng(size).uniform(0.0, 30.0, (size, 3)) for size in SIZES]
    return [DeepPot(MODEL).eval(coord, 30.0 * np.eye(3), [0, 1] * (len(coord) // 2))[0].item() for coord in coords]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
# slow: TensorFlow takes 13 s; with torch one run of 80 still waits in MKL, under load (deepmd/forks.py)
@pytest.mark.parametrize("backend", mark_slow(FRAMEWORKS, ["numpy"]))
@pytest.mark.filterwarnings("ignore::deepmd.infer.deep_pot.ExpansionWarning")
def test_a_forked_process(backend, energies):
    """After the framework has been used by itself, after and before the model has been evaluated.

    Two threads, and settings that ask for two threads once more in the new process.
    """
    if FRAMEWORK[backend]:
        require(FRAMEWORK[backend])
    variables = {**os.environ, "OMP_NUM_THREADS": "2", INTRA: "2"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(MODEL), backend, FRAMEWORK[backend]]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout == "no names\n":
        pytest.skip("this TensorFlow gives its threads no names, by which its forks are recognised")
    found = json.loads(done.stdout.splitlines()[-1])
    stopped = 3 if backend == "tf" else 0
    for text in found[:stopped]:
        assert "Start processes by 'spawn': multiprocessing.get_context('spawn')" in text
    for values in found[stopped:]:
        assert_close(values, energies, "energy")

"""Files that version 0.1 wrote: each loads with the numbers of then, and each checkpoint goes on as it did.

`tests/files_of_older_versions/KIND` holds a model after two steps on the water of the examples (input.json) in every
format, and in expected.json what that version evaluated (energy eV, force eV/Angstrom, virial eV, of the first frame)
and the rows of the learning curve of four steps, the last two after a restart.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from train.small_training import WATER, run

from deepmd import DeepPot
from deepmd.testing.tolerances import assert_close

FOLDER = Path(__file__).parents[1] / "files_of_older_versions"
MODELS = [
    pytest.param(path, id=f"{path.parent.name}/{path.name}", marks=pytest.mark.slow if graph else [])
    for path in sorted(FOLDER.glob("*/*"))
    if path.suffix in (".dp", ".pth", ".pb", ".pt", ".index")
    for graph in [path.parent.name == "dpa3" and path.suffix not in (".dp", ".pth")]  # seconds to build it
]
RESTARTS = [
    pytest.param(kind, backend, marks=[] if kind == "se_e2_a" else pytest.mark.slow)
    for kind in ("se_e2_a", "se_atten", "dpa3")
    for backend in ("torch", "tf")
]


@pytest.mark.parametrize("path", MODELS)
def test_predictions(path):
    frame = WATER / "water_330b"
    coord, box = (np.load(frame / "set.000" / f"{name}.npy")[:1] for name in ("coord", "box"))
    expected = json.loads((path.parent / "expected.json").read_text())
    values = DeepPot(path).eval(coord, box, np.loadtxt(frame / "type.raw", dtype=int))
    for value, name in zip(values, ("energy", "force", "virial"), strict=False):
        assert_close(value, np.reshape(expected[name], value.shape), name)


@pytest.mark.parametrize(("kind", "backend"), RESTARTS)
def test_restart(kind, backend, tmp_path):
    for path in (FOLDER / kind).glob("model.ckpt-2.*"):
        if (path.suffix == ".pt") == (backend == "torch"):
            shutil.copy(path, tmp_path)
    tree = json.loads((FOLDER / kind / "input.json").read_text())
    for section in ("training_data", "validation_data"):
        tree["training"][section]["systems"] = [str(WATER / "water_330b")]
    run(tmp_path, tree, backend, restart="model.ckpt-2")
    rows = [line.split() for line in (tmp_path / "lcurve.out").read_text().splitlines() if not line.startswith("#")]
    assert rows == json.loads((FOLDER / kind / "expected.json").read_text())["lcurve"][backend][2:]

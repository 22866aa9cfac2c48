"""Models trained by DeePMD-kit: read here in each of its formats, and read there again after a conversion."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from interop.trained import SUFFIXES, VARIANTS, evaluate, frame, program, train
from tolerances import assert_close

from deepmd import DeepPot
from deepmd.io import convert

KEYS = ("energy", "force", "virial", "atom_energy", "atom_virial")
STEPS = {"plain": 100}
CASES = [(name, backend) for name, row in VARIANTS.items() for backend in row[3].split()]

pytestmark = [
    pytest.mark.skipif(
        "DEEPMD_KIT_ENV" not in os.environ, reason="DEEPMD_KIT_ENV does not name an environment with DeePMD-kit"
    ),
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"),
]


@pytest.fixture(scope="module")
def kit():
    return Path(os.environ["DEEPMD_KIT_ENV"])


@pytest.fixture(scope="module")
def folders(kit, tmp_path_factory):
    """Trained and frozen models by (variant, backend), and what DeePMD-kit computes with them.

    All in one go, since its start takes long.
    """
    root = tmp_path_factory.mktemp("kit")
    out, jobs = {}, []
    for name, backend in CASES:
        folder = out[name, backend] = root / f"{name}-{backend}"
        train(kit, folder, name, backend, STEPS.get(name, 20))
        np.savez(folder / "given.npz", **frame(name))
        jobs.append((frozen(folder), folder / "given.npz", folder / "expected.npz"))
    for (name, backend), suffix in product([("plain", "tf"), ("plain", "pt")], (".dp", ".pth", ".pb")):
        folder = out[name, backend]
        model = folder / f"ours{suffix}"
        convert(frozen(folder), model)
        if suffix == ".dp":  # its NumPy has no forces
            model = folder / "from_dp.pth"
            program(kit, "dp", "convert-backend", f"ours{suffix}", model.name, cwd=folder)
        jobs.append((model, folder / "given.npz", folder / f"ours{suffix}.npz"))
    evaluate(kit, [tuple(map(str, job)) for job in jobs], root)
    return out


def frozen(folder):
    return next(folder.glob("frozen.*"))


def assert_equals_theirs(path, folder, dtype):
    given, expected = dict(np.load(folder / "given.npz")), np.load(folder / "expected.npz")
    values = DeepPot(path).eval(given.pop("coord"), given.pop("cell"), given.pop("type"), atomic=True, **given)
    for key, value in zip(KEYS, values, strict=True):
        assert_close(value, expected[key], "golden", dtype, floor=0.0, what=key)


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_frozen_models_and_checkpoints(folders, name, backend):
    folder, dtype = folders[name, backend], "float32" if name == "float32" else "float64"
    checkpoint = f"model.ckpt-{STEPS.get(name, 20)}{SUFFIXES[backend][1]}"
    for path in (frozen(folder), folder / checkpoint):
        assert_equals_theirs(path, folder, dtype)


@pytest.mark.parametrize("backend", ["tf", "pt"])
@pytest.mark.parametrize("suffix", [".dp", ".pth", ".pb"])
def test_there_and_back(folders, backend, suffix):
    folder = folders["plain", backend]
    before, after = np.load(folder / "expected.npz"), np.load(folder / f"ours{suffix}.npz")
    for key in ("energy", "force", "virial"):
        assert_close(after[key], before[key], "golden", floor=0.0, what=key)

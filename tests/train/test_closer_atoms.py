"""Trainings that go on with data whose atoms come closer than before: expansions stay equal to the nets."""

import warnings
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import TF_LATER
from tolerances import assert_close
from train.small_training import largest_difference, run

from deepmd.data.systems import load_system
from deepmd.infer import DeepPot
from deepmd.infer.deep_pot import ExpansionWarning
from deepmd.io import load_model, save_model
from deepmd.train.main import freeze
from deepmd.train.validating import full_errors

GOLDEN = Path(__file__).parents[1] / "golden"

LATTICE = np.array(
    [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0], [0.0, 2.2, 0.0], [0.0, 0.0, 2.2], [2.2, 2.2, 0.0], [2.2, 0.0, 2.2]]
)
TYPES = [0, 1, 1, 0, 1, 1]
CELL = 6.0 * np.eye(3)
WAYS = ("init_model", "restart", "finetune", "init_frz_model")
NATIVE = {"torch": ".pth", "tf": ".pb"}
NAMES = ("energy", "force", "virial", "atom_energy", "atom_virial")


def write_system(folder, seed, closest):
    """Write three frames; in the last one two atoms are `closest` (Angstrom) apart."""
    generator = np.random.default_rng(seed)
    coord = LATTICE + 0.05 * generator.normal(size=(3, 6, 3))
    direction = -1.0 + 0.2 * generator.normal(size=3)  # away from the others
    coord[2, 1] = coord[2, 0] + closest * direction / np.linalg.norm(direction)
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text(" ".join(map(str, TYPES)))
    labels = {
        "energy": generator.normal(size=3),
        "force": generator.normal(size=(3, 18)),
        "virial": generator.normal(size=(3, 9)),
    }
    for name, array in {"coord": coord.reshape(3, -1), "box": np.tile(CELL.reshape(-1), (3, 1)), **labels}.items():
        np.save(folder / "set.000" / f"{name}.npy", array)
    return coord


def input_of(systems, steps, evaluation):
    """A tiny model; the learning rate is large, so that its nets bend."""
    descriptor = {
        "type": "se_e2_a",
        "sel": [12, 24],
        "rcut": 4.0,
        "rcut_smth": 1.0,
        "neuron": [2, 4],
        "axis_neuron": 2,
        "seed": 1,
    }
    return {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {**descriptor, "evaluation": evaluation},
            "fitting_net": {"neuron": [4, 4], "seed": 2},
        },
        "learning_rate": {"start_lr": 1e-2, "stop_lr": 1e-3},
        "loss": {"start_pref_v": 0.1, "limit_pref_v": 1.0},
        "training": {
            "numb_steps": steps,
            "seed": 5,
            "disp_freq": 1,
            "save_freq": 100,
            "training_data": {"systems": systems, "batch_size": 1},
        },
    }


def start(folder, backend, seed, closest):
    """Train on the old data; return the file to start from for each way."""
    write_system(folder / "old", seed, closest)
    run(folder / "first", input_of([str(folder / "old")], 2, "auto"), backend, skip_neighbor_stat=False)
    with chdir(folder / "first"):
        frozen = freeze(output="frozen", backend=backend)
    source = dict.fromkeys(WAYS, folder / "first" / "model.ckpt")
    return {**source, "init_frz_model": folder / "first" / frozen}


def go_on(folder, backend, way, source, evaluation="auto", *, skip):
    """Train on old and new data; return the rows and the model."""
    systems = [str(folder / "old"), str(folder / "new")]
    place = folder / f"{way}-{evaluation}-{skip}"
    steps = 10 if way == "restart" else 8
    rows = run(place, input_of(systems, steps, evaluation), backend, skip_neighbor_stat=skip, **{way: str(source[way])})
    return rows, load_model(next(place.glob(f"model.ckpt-{steps}.{'pt' if backend == 'torch' else 'index'}")))


def assert_files_equal_nets(folder, content, coord, endings):
    """What is evaluated by default equals the nets, for each native file."""
    for ending in endings:
        path = folder / f"model{ending}"
        save_model(path, content)
        default, nets = DeepPot(path), DeepPot(path, evaluation="direct")
        assert default.evaluation != "direct"
        each = (
            potential.eval(coord, np.tile(CELL, (len(coord), 1, 1)), TYPES, atomic=True)
            for potential in (default, nets)
        )
        for name, actual, expected in zip(NAMES, *each, strict=True):
            assert_close(actual, expected, "spectral", what=f"{ending} {name}")
        assert default.outside == 0


@pytest.mark.parametrize(
    ("backend", "ways", "skip"),
    [
        pytest.param("torch", WAYS, False, marks=pytest.mark.slow),
        ("torch", WAYS[:2], True),
        pytest.param("tf", ("restart",), True, marks=pytest.mark.slow),
    ],
)
def test_expansions_follow_closer_atoms(tmp_path, backend, ways, skip):
    """The curve is that of a training that evaluates the nets themselves, and so is the file."""
    source = start(tmp_path, backend, 7, 1.4)
    assert load_model(source["init_frz_model"]).min_nbor_dist == pytest.approx(1.4)
    coord = write_system(tmp_path / "new", 8, 0.84)
    for way in ways:
        rows, content = go_on(tmp_path, backend, way, source, skip=skip)
        assert content.min_nbor_dist == pytest.approx(0.84)
        assert_files_equal_nets(tmp_path, content, coord, [NATIVE[backend] if way == ways[0] else ".dp"])
        assert largest_difference(rows, go_on(tmp_path, backend, way, source, "direct", skip=skip)[0]) < 1e-7


def test_the_distance_of_the_file_counts_too(tmp_path):
    """The old data are gone: frames like theirs are within the domain all the same."""
    coord = write_system(tmp_path / "new", 8, 1.4)
    source = start(tmp_path, "torch", 7, 0.84)
    close = write_system(tmp_path / "close", 7, 0.84)
    tree = input_of([str(tmp_path / "new")], 4, "auto")
    run(tmp_path / "more", tree, "torch", skip_neighbor_stat=False, init_model=str(source["init_model"]))
    content = load_model(tmp_path / "more" / "model.ckpt-4.pt")
    assert content.min_nbor_dist == pytest.approx(0.84)
    assert_files_equal_nets(tmp_path, content, np.concatenate([coord, close]), [".dp"])


def test_a_restart_goes_on_as_if_unbroken_with_closer_atoms(tmp_path):
    """The domain was extended on the way; the checkpoint knows it."""
    write_system(tmp_path / "old", 7, 1.4)
    write_system(tmp_path / "new", 8, 0.4)
    tree = input_of([str(tmp_path / "old"), str(tmp_path / "new")], 16, "auto")
    tree["training"]["save_freq"] = 8
    whole = run(tmp_path / "whole", tree, "torch")
    assert load_model(tmp_path / "whole" / "model.ckpt-8.pt").min_nbor_dist == pytest.approx(0.4)
    for path in (tmp_path / "whole").glob("model.ckpt-16*"):
        path.unlink()
    rest = run(tmp_path / "whole", tree, "torch", restart="model.ckpt-8.pt")
    assert rest == whole[8:]


@pytest.mark.parametrize("backend", ["numpy", *TF_LATER])
def test_full_validation_is_that_of_the_nets(tmp_path, backend):
    """Of frames with atoms nearer than those of the training."""
    write_system(tmp_path / "near", 8, 0.84)
    system = load_system(str(tmp_path / "near"), ["O", "H"])
    content = replace(load_model(GOLDEN / "se_e2_a" / "model.dp"), min_nbor_dist=1.4)
    direct = replace(content, definition={"descriptor": {"evaluation": "direct"}})
    errors, expected = (full_errors(each, backend, [system], "EF") for each in (content, direct))
    assert_close(list(errors.values()), list(expected.values()), "spectral")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", list(NATIVE))
def test_files_equal_nets_after_every_start(tmp_path_factory, backend, way):
    """Twenty random pairs of data sets, the second with atoms closer by up to 40 %, every native file."""

    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=[Phase.generate],
    )
    @given(seed=st.integers(0, 10**6), closest=st.floats(0.8, 1.8), factor=st.floats(0.6, 1.0), skip=st.booleans())
    def check(seed, closest, factor, skip):
        folder = tmp_path_factory.mktemp("pair")
        source = start(folder, backend, seed, closest)
        coord = np.concatenate(
            [
                write_system(folder / "new", seed + 1, factor * closest),
                np.load(folder / "old/set.000/coord.npy").reshape(-1, 6, 3),
            ]
        )
        _, content = go_on(folder, backend, way, source, skip=skip)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ExpansionWarning)
            assert_files_equal_nets(folder, content, coord, [".dp", ".pth", ".pb"])

    check()

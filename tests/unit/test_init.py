"""`dp init`: the input it writes trains as it stands, and says why each number is there."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from support import require

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.errors import InputError
from deepmd.cli import main
from deepmd.io.train_input import parse_input, read_input
from deepmd.plan import slots
from deepmd.train.draft import draft_input, write_draft
from deepmd.train.recipes import RECIPES, SIZES

WATER = Path(__file__).parents[2] / "examples" / "water" / "data"
TRAIN, HELD_OUT = str(WATER / "water_600"), str(WATER / "water_330b")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Four frames of water without virials."""
    folder = tmp_path_factory.mktemp("few") / "water"
    (folder / "set.000").mkdir(parents=True)
    for name in ("type.raw", "type_map.raw"):
        (folder / name).write_bytes((WATER / "water_600" / name).read_bytes())
    for name in ("coord", "box", "energy", "force"):
        np.save(folder / f"set.000/{name}.npy", np.load(WATER / f"water_600/set.000/{name}.npy")[:4])
    return str(folder)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_input_with_numbers_for_sel(few, name, size):
    tree = draft_input(few, descriptor=name, size=size).tree
    options = parse_input(tree)
    assert slots.find_automatic(options.model) == ()
    assert options.training.numb_steps == SIZES[size].steps
    (part,) = descriptors_of(options.model)
    most = sum(part.layout().sel)
    assert 1.09 * 110 <= most <= 1.1 * 110 + 8, "37 O and 73 H within 6 Angstrom, a tenth more"
    assert (tree["loss"]["start_pref_v"], tree["loss"]["limit_pref_v"]) == (0.0, 0.0), "the data have no virials"


def test_what_is_written_is_what_is_told(few, tmp_path, caplog):
    with caplog.at_level("INFO", logger="deepmd"), chdir(tmp_path):
        tree = write_draft([few], validation=[HELD_OUT], size="small", steps=200)
        assert json.loads(Path("input.json").read_text()) == tree
        assert parse_input(read_input("input.json")[0]).model.layout().sel == tuple(tree["model"]["descriptor"]["sel"])
        with pytest.raises(InputError, match="is there already; accepted: another name"):
            write_draft([few])
    descriptor = tree["model"]["descriptor"]
    assert list(descriptor).index("_sel") == list(descriptor).index("sel") - 1
    assert f"model/descriptor/sel = {descriptor['sel']}: {descriptor['_sel']}" in caplog.messages
    assert "none of virial" in tree["loss"]["_comment"]
    assert caplog.messages[-1] == "wrote input.json. Next: dp train input.json"


def test_validation_data_are_not_trained_on():
    tree = draft_input(str(WATER), validation=[HELD_OUT]).tree["training"]
    assert HELD_OUT not in tree["training_data"]["systems"]
    assert TRAIN in tree["training_data"]["systems"]
    with pytest.raises(InputError, match="none are left"):
        draft_input(TRAIN, validation=TRAIN)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"descriptor": "dpa4"}, "descriptor is 'dpa4'; accepted: se_e2_a.*Did you mean 'dpa"),
        ({"size": "huge"}, "size is 'huge'; accepted: small, medium, large"),
        ({"steps": 0}, "steps is 0; accepted: a positive number"),
        ({"validation": 1.0}, "validation is 1.0; accepted: a share from 0 to below 1"),
    ],
)
def test_wrong_choices(few, choices, text):
    with pytest.raises(InputError, match=text):
        draft_input(few, **choices)


def cases():
    for backend in ("torch", "tf"):
        for name in RECIPES:
            quick = name == "se_e2_a" and backend == "torch"
            yield pytest.param(name, backend, marks=() if quick else pytest.mark.slow, id=f"{name}-{backend}")


@pytest.mark.parametrize(("name", "backend"), list(cases()))
def test_the_input_trains_at_once(tmp_path, monkeypatch, few, name, backend):
    require({"torch": "torch", "tf": "tensorflow"}[backend])
    monkeypatch.chdir(tmp_path)
    words = ["init", few, "--size", "small", "--steps", "2", "--descriptor", name, "--validation", HELD_OUT]
    assert main(words) == 0
    assert main(["train", "input.json", "--backend", backend]) == 0
    assert np.isfinite(np.loadtxt("lcurve.out")[:, 1]).all()


def test_labels_of_a_file_that_ase_reads(tmp_path, monkeypatch):
    """Several candidates are named; a key of the command is a key of the input."""
    require("ase")
    from ase import Atoms
    from ase.io import write

    monkeypatch.chdir(tmp_path)
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(4)]
    for k, atoms in enumerate(frames):
        atoms.info.update(REF_energy=-1.0 - k, dft_energy=-2.0 - k)
    write("h2.extxyz", frames)
    with pytest.raises(InputError, match="energy_key"):
        draft_input("h2.extxyz")
    assert main(["init", "h2.extxyz", "--energy-key", "dft_energy", "--validation", "0"]) == 0
    training = parse_input(read_input("input.json")[0]).data
    assert (training.energy_key, training.validation_fraction) == ("dft_energy", 0.0)

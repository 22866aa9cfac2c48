"""Training, files and automatic `sel` of each kind of descriptor besides se_e2_a, whose tests look closer."""

import json
from contextlib import chdir

import numpy as np
import pytest
from support import mark_slow, options, require
from tolerances import assert_close
from train.small_descriptors import DISTANCES, KINDS, SMALL, TYPED
from train.small_training import WATER, largest_difference, run, small_input

from deepmd import DeepPot
from deepmd.array_model.components import descriptors_of
from deepmd.data.systems import load_system
from deepmd.io import convert, load_model
from deepmd.train.main import train

SAME = 1e-8
SOME, ALL = (".yaml", ".dp"), (".pth", ".yaml", ".pb", ".dp")


def input_of(kind, **training):
    tree = small_input(numb_steps=5, disp_freq=2, save_freq=5, **training)
    tree["model"]["descriptor"], tree["model"]["data_stat_nbatch"] = KINDS[kind], 1
    del tree["training"]["validation_data"]
    tree["training"]["training_data"]["systems"] = [str(WATER / "water_330a")]
    return tree


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """A kind, where torch trained it, and the rows of its learning curve."""
    require("torch")
    folder = tmp_path_factory.mktemp("kind")
    return request.param, folder, run(folder, input_of(request.param), "torch")


@pytest.mark.parametrize("trained", mark_slow(KINDS, ["hybrid"]), indirect=True)
def test_both_backends_walk_the_same_path(trained, tmp_path):
    require("tensorflow")
    kind, _, rows = trained
    assert largest_difference(rows, run(tmp_path, input_of(kind), "tf")) < SAME


@pytest.mark.parametrize(
    ("trained", "suffixes"),
    mark_slow(
        [(kind, suffixes) for kind in KINDS for suffixes in (SOME, ALL)],
        [(kind, SOME) for kind in ("loc_frame", "se_atten", "hybrid")],
    ),
    indirect=["trained"],
)
def test_files_are_equal(trained, tmp_path, suffixes):
    """Native files of the others hold what DeePMD-kit has computed: tests/golden."""
    _, folder, _ = trained
    source = folder / "model.ckpt.pt"
    system = load_system(WATER / "water_330b", ("O", "H"), ())
    frame = system.coord[:1], system.cell[:1], system.types
    expected = DeepPot(str(source)).eval(*frame, atomic=True)
    previous = source
    for suffix in suffixes:  # each from the one before
        target = tmp_path / f"model{suffix}"
        convert(previous, target)
        for name, value, other in zip("efvav", expected, DeepPot(str(target)).eval(*frame, atomic=True), strict=False):
            assert_close(other, value, "force", what=f"{suffix}: {name}")
        previous = target
    assert load_model(previous).model == load_model(source).model


def test_automatic_sel(tmp_path):
    """Sections count each type, a mixed descriptor all of them, and each member of a hybrid within its own cutoff."""
    members = [{**DISTANCES, "sel": "auto:1.2"}, {**TYPED, "sel": "auto"}, {"type": "se_e3", **SMALL}]
    tree = input_of("se_e2_r")
    tree["model"]["descriptor"] = {"type": "hybrid", "list": members}
    tree["training"]["numb_steps"] = 1
    (tmp_path / "input.json").write_text(json.dumps(tree))
    with chdir(tmp_path):
        train("input.json", backend="torch")
    sectioned, mixed, angles = map(options, descriptors_of(load_model(tmp_path / "model.ckpt.pt").model))
    assert len(sectioned.sel) == len(angles.sel) == 2
    assert len(mixed.sel) == 1
    assert all(sel % 4 == 0 for sel in (*sectioned.sel, *mixed.sel, *angles.sel))
    assert sum(sectioned.sel) > mixed.sel[0] - 8 > 0
    written = json.loads((tmp_path / "out.json").read_text())["model"]["descriptor"]["list"]
    assert [np.ravel(item["sel"]).tolist() for item in written] == [
        list(part.sel) for part in (sectioned, mixed, angles)
    ]
    assert [item["type"] for item in written] == ["se_e2_r", "se_e3_tebd", "se_e3"]

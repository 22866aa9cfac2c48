"""Inputs both ways: old ones are taken as DeePMD-kit takes them, it takes our completed input, and deviations agree."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from interop.kit import ROOT

from deepmd.array_model.tree import map_leaves
from deepmd.infer.model_devi import make_model_devi
from deepmd.io import load_model, save_model
from deepmd.kit.old_input import upgrade_old_input
from deepmd.train.main import train

WATER = ROOT / "examples" / "water" / "data"

FLAT = {
    **{
        "use_smooth": True,
        "sel_a": [24, 40],
        "rcut_smth": 1.0,
        "rcut": 4.0,
        "filter_neuron": [3, 6],
        "filter_resnet_dt": False,
    },
    **{
        "n_axis_neuron": 2,
        "n_neuron": [6],
        "resnet_dt": True,
        "coord_norm": True,
        "type_fitting_net": False,
        "seed": 1,
    },
    **{
        "systems": [str(WATER / "water_330b")],
        "set_prefix": "set",
        "stop_batch": 2,
        "batch_size": 1,
        "start_lr": 0.005,
        "decay_steps": 5000,
    },
    **{
        "decay_rate": 0.95,
        "start_pref_e": 0.02,
        "limit_pref_e": 1,
        "start_pref_f": 1000,
        "limit_pref_f": 1,
        "start_pref_v": 0,
    },
    **{
        "limit_pref_v": 0,
        "disp_file": "lcurve.out",
        "disp_freq": 1,
        "numb_test": 1,
        "save_freq": 1000,
        "save_ckpt": "model.ckpt",
    },
    **{
        "load_ckpt": "model.ckpt",
        "disp_training": True,
        "time_training": True,
        "profiling": False,
        "profiling_file": "timeline.json",
    },
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    """A training of two steps from a flat input, by us."""
    folder = tmp_path_factory.mktemp("ours")
    (folder / "input.json").write_text(json.dumps(FLAT))
    with chdir(folder):
        train("input.json", backend="torch", skip_neighbor_stat=True)
    return folder


def test_an_old_input_means_the_same(kit, tmp_path):
    (tmp_path / "input.json").write_text(json.dumps(FLAT))
    kit.run(["dp", "--tf", "train", "--skip-neighbor-stat", "input.json"], tmp_path)
    theirs, (tree, _) = json.loads((tmp_path / "input_v2_compat.json").read_text()), upgrade_old_input(FLAT)
    theirs["model"]["descriptor"]["type"] = "se_e2_a"  # se_a
    assert theirs["learning_rate"].pop("stop_lr") == pytest.approx(tree["learning_rate"].pop("stop_lr"))
    theirs["training"].pop("profiling_file", None), tree["training"].pop("profiling_file", None)
    assert theirs == tree


@pytest.mark.parametrize("backend", ["pt", "tf"])
@pytest.mark.parametrize("name", ["out.json", "input_v2_compat.json"])
def test_it_trains_with_our_completed_input(kit, ours, tmp_path, backend, name):
    kit.run(["dp", f"--{backend}", "train", "--skip-neighbor-stat", str(ours / name)], tmp_path)
    assert len((tmp_path / "lcurve.out").read_text().splitlines()) >= 3


def test_model_deviations_agree(kit, ours, tmp_path):
    content = load_model(ours / "model.ckpt.pt")
    save_model(tmp_path / "a.pth", content)
    save_model(tmp_path / "b.pth", content.with_params(map_leaves(lambda leaf: 1.01 * leaf, content.params)))
    for options, given in (
        ([], {}),
        (["--real_error"], {"real_error": True}),
        (["--relative", "1.0"], {"relative": 1.0}),
    ):
        kit.run(
            [
                "dp",
                "--pt",
                "model-devi",
                "-m",
                "a.pth",
                "b.pth",
                "-s",
                str(WATER / "water_330b"),
                "-o",
                "theirs.out",
                *options,
            ],
            tmp_path,
        )
        with chdir(tmp_path):
            make_model_devi(["a.pth", "b.pth"], system=str(WATER / "water_330b"), output="ours.out", **given)
        np.testing.assert_allclose(
            np.loadtxt(tmp_path / "ours.out"), np.loadtxt(tmp_path / "theirs.out"), rtol=1e-5, atol=1e-12
        )
        (tmp_path / "theirs.out").unlink()

"""What DP-GEN, dpgen2 and ai2-kit type, and the files that they fetch and read afterwards."""

import json
import shlex
from contextlib import chdir

import numpy as np
import pytest
from support import TF_LATER, require
from train.small_training import few_frames, small_input

from deepmd import cli
from deepmd.infer import DeepPot

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")

SIDES = {
    "torch": ("torch", "dp --pt", ".pth", ("model.ckpt.pt",)),
    "tf": ("tensorflow", "dp", ".pb", ("model.ckpt.meta", "model.ckpt.index", "model.ckpt.data-00000-of-00001")),
}
"""Package, how a line begins, suffix of model files, and the files of a checkpoint."""


def dp(*lines):
    """Run lines as a shell would."""
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, line


def set_steps(number):
    """Write the input that they write: a list of systems, and blocks of `auto_prob`."""
    tree = small_input(numb_steps=number, disp_freq=1, save_freq=1)
    del tree["training"]["validation_data"]
    tree["training"]["training_data"] = {"systems": ["data"], "batch_size": 1, "auto_prob": "prob_sys_size; 0:1:1.0"}
    with open("input.json", "w") as file:  # noqa: PTH123
        json.dump(tree, file)


@pytest.fixture(scope="module")
def task(request, tmp_path_factory):
    """The folder of a training of two steps, and the row of `SIDES`."""
    side = SIDES[request.param]
    require(side[0])
    folder = tmp_path_factory.mktemp(request.param)
    few_frames(folder / "data", "water_330a", 2)
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.delenv("DP_BACKEND", raising=False)
        set_steps(2)
        dp(f"{side[1]} train input.json")
        yield folder, side


@pytest.mark.parametrize("task", SIDES, indirect=True)
def test_files_have_the_names_that_are_fetched(task):
    """DP-GEN names no file: those are the backend's. ai2-kit draws columns of lcurve.out."""
    folder, (_, start, suffix, checkpoint) = task
    assert {"lcurve.out", "checkpoint", *checkpoint} <= {path.name for path in folder.iterdir()}
    assert np.loadtxt("lcurve.out")[:, [0, 2, 3]].shape == (2, 3)
    dp(f"{start} freeze")
    assert (folder / f"frozen_model{suffix}").is_file()


@pytest.mark.parametrize("task", TF_LATER, indirect=True)
def test_a_training_goes_on(task):
    """DP-GEN and ai2-kit name the prefix, dpgen2 a file of torch."""
    _, (_, start, _, checkpoint) = task
    lines = [f"{start} train input.json --restart model.ckpt", "dp train --restart model.ckpt input.json"]
    if checkpoint == ("model.ckpt.pt",):
        lines += ["dp --pt train --restart model.ckpt-4.pt input.json"]
    for steps, line in enumerate(lines, start=3):
        set_steps(steps)
        dp(line)
        assert np.loadtxt("lcurve.out")[:, 0].tolist() == list(range(1, steps + 1))


@pytest.mark.parametrize("task", TF_LATER, indirect=True)
def test_models_of_a_training_are_tested(task):
    """Lines of ai2-kit and of `dpgen simplify`, which reads the line of a system and the names of columns."""
    folder, (_, start, suffix, _) = task
    dp(f"dp freeze -o graph.000{suffix}", f"{start} freeze", f"{start} compress")
    (folder / f"frozen_model_compressed{suffix}").rename(folder / f"graph.001{suffix}")
    energies = [DeepPot(f"graph.00{number}{suffix}").eval(np.eye(3), None, [0, 1, 1])[0] for number in (0, 1)]
    assert abs(energies[0] - energies[1]) < 1e-9
    (folder / "list").write_text("data\n")
    (folder / "D").mkdir()
    dp(f"dp test -m graph.000{suffix} -f list --detail-file D/test")
    assert np.loadtxt("D/test.f.out").shape == (2 * 96, 6)
    dp(f"dp model-devi -m graph.000{suffix} graph.001{suffix} -s data -o F")
    lines = (folder / "F").read_text().splitlines()
    assert lines[0] == "# data"
    assert lines[1].split()[5:8] == ["max_devi_f", "min_devi_f", "avg_devi_f"]


@pytest.mark.parametrize("task", ["torch"], indirect=True)
def test_a_training_starts_from_a_model(task):
    """Lines of dpgen2, one after the other; those of DP-GEN with a model file follow the file."""
    folder, _ = task
    set_steps(1)
    dp(
        "dp --pt freeze -c model.ckpt.pt -o model.000.pth",
        "dp --pt train --init-model model.ckpt.pt --skip-neighbor-stat input.json",
        "dp --pt train --finetune model.000.pth input.json",
        "dp train --init-frz-model model.000.pth input.json --mpi-log=workers",
    )
    assert len(list(folder.glob("model.ckpt.bak-*"))) == 3
    assert json.loads((folder / "out.json").read_text())["training"]["numb_steps"] == 1

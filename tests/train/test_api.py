"""`deepmd.train`: one call from data or an input to a result."""

from __future__ import annotations

import inspect
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from support import require
from train.small_training import WATER, few_frames, small_input

import deepmd
from deepmd import api
from deepmd.array_model.errors import InputError
from deepmd.infer import DeepPot, measure_errors
from deepmd.train.main import train as train_of_main

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A training of two steps on four frames, from data alone."""
    require("torch")
    folder = tmp_path_factory.mktemp("data")
    train, held_out = (few_frames(folder / name, name, 4) for name in ("water_600", "water_330b"))
    return deepmd.train(data=train, validation=held_out, steps=2, backend="torch", folder=folder / "here", quiet=True)


def test_the_result_has_model_curve_and_errors(result):
    assert (result.folder / "input.json").is_file()
    assert result.lcurve.step.tolist() == [1, 2]
    assert {"rmse_f_val", "rmse_e_trn", "lr"} <= set(result.lcurve.dtype.names)
    assert isinstance(result.model, DeepPot)
    assert result.model.get_type_map() == ["O", "H"]
    system = result.input["training"]["validation_data"]["systems"]
    expected = measure_errors(result.checkpoint, system=system)
    for name, (mae, rmse) in expected.items():
        assert result.errors[name] == {"mae": mae, "rmse": rmse}
    assert {"energy/natoms", "force", "virial/natoms"} <= set(result.errors)
    assert not result.interrupted


def test_model_files_and_pictures(result, tmp_path):
    require("matplotlib")
    assert result.freeze(tmp_path / "model.dp") == tmp_path / "model.dp"
    assert result.plot().read_bytes()[:4] == b"\x89PNG"


def test_the_module_is_the_function():
    """`deepmd.train` is called, and has modules."""
    assert list(inspect.signature(deepmd.train).parameters)[:2] == ["input", "data"]
    assert deepmd.train.main.train is train_of_main  # type: ignore[attr-defined]


@pytest.mark.slow
def test_interrupted_and_continued(tmp_path, monkeypatch):
    """Ctrl-C gives the result of the steps that were made, and the training goes on from there."""
    require("torch")
    monkeypatch.chdir(tmp_path)
    Path("input.json").write_text(json.dumps(small_input(numb_steps=40, disp_freq=1, save_freq=100)))
    tick, ticks = train_of_main, []

    def interrupt(*args, **kwargs):
        def after_row(step, *_):
            ticks.append(step)
            if step == 3:
                os.kill(os.getpid(), signal.SIGINT)

        return tick(*args, **kwargs, on_row=after_row)

    monkeypatch.setattr(api, "run_training", interrupt)
    first = deepmd.train("input.json", backend="torch", quiet=True)
    assert first.interrupted
    assert first.lcurve.step[-1] == 3
    assert first.checkpoint.resolve().name == "model.ckpt-3.pt"
    second = deepmd.train("input.json", backend="torch", restart="auto", quiet=True)
    assert not second.interrupted
    assert second.lcurve.step.tolist() == list(range(1, 41))
    assert np.isfinite(second.errors["force"]["rmse"])


def test_wrong_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="one of the two"):
        deepmd.train()
    with pytest.raises(InputError, match="size is 'big'"):
        deepmd.train(data=str(WATER / "water_600"), size="big", quiet=True)
    assert list(tmp_path.iterdir()) == [], "no folder is left behind"

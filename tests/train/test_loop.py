"""What the loop itself decides: learning rates, prefactors, batches for validation, which checkpoints stay.

The backends share the loop, so their agreement shows none of this. Here a trainer that learns nothing writes down what
it is given, and answers with the labels.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support import require
from train.small_training import run

from deepmd.data.systems import load_system
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.train.checkpoints import announce
from deepmd.train.validating import full_errors

START, STOP, EVERY = 1e-3, 1e-4, 2
"""Of the learning rate: first and last, and steps after which it falls."""
MODEL = Path(__file__).parents[1] / "golden" / "se_e2_a" / "model.dp"


def write_system(folder, natoms, frames, first, labels=("energy", "force")):
    """Write atoms on a line, with energies that count the frames from `first`."""
    rng = np.random.default_rng(first)
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n" * natoms)
    (folder / "type_map.raw").write_text("O\n")
    arrays = {
        "coord": np.arange(natoms)[:, None] * np.array([1.5, 0.0, 0.0]) + rng.uniform(0.0, 0.2, (frames, natoms, 3)),
        "box": np.tile(20.0 * np.eye(3), (frames, 1, 1)),
        "energy": first + np.arange(frames, dtype=np.float64),
        "force": rng.normal(size=(frames, natoms, 3)),
    }
    for name in ("coord", "box", *labels):
        np.save(folder / "set.000" / f"{name}.npy", arrays[name].reshape(frames, -1))
    return str(folder)


class Recorder:
    """A trainer without a model. `updates`: (lr, prefactors); `seen`: (prefactors, energy, atoms) per evaluation."""

    def __init__(self, task, params, plan):
        self._params = params
        self.updates, self.seen = [], []

    def step(self, batch, lr, prefactors, number):
        assert number == len(self.updates) + 1
        self.updates.append((lr, prefactors))

    def failure(self):
        return None

    def errors(self, batch, prefactors):
        energy = float(batch.labels["energy"].mean())
        self.seen.append((prefactors, energy, float(batch.natoms_F.mean())))
        return {"loss": 0.0, **dict.fromkeys(prefactors, energy)}

    def params(self):
        return self._params

    def moments(self):
        return {}

    def save(self, prefix, content, progress):
        path = prefix.with_name(f"{prefix.name}-{progress.step}.pt")
        path.write_text("")
        return path.name


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """Run an input with such a trainer; return it and the rows."""
    require("torch")

    def record(training, validation, numb_steps, **options):
        made: list[Recorder] = []

        def make(*given):
            made.append(Recorder(*given))
            return made[-1]

        monkeypatch.setattr("deepmd.adapters.torch.trainer.trainer", make)
        tree = {
            "model": {
                "type_map": ["O"],
                "descriptor": {"type": "se_e2_a", "sel": [8], "rcut": 4.0, "neuron": [4], "evaluation": "direct"},
                "fitting_net": {"neuron": [2]},
            },
            "learning_rate": {"start_lr": START, "stop_lr": STOP, "decay_steps": EVERY},
            "loss": {"start_pref_e": 0.5, "limit_pref_e": 2.0, "start_pref_f": 9.0, "loss_func": "mae"},
            "training": {
                "numb_steps": numb_steps,
                "seed": 3,
                "disp_freq": 2,
                "training_data": {"systems": training, "batch_size": 1},
                "validation_data": {"systems": validation, "batch_size": 1, "numb_btch": 2},
                **options,
            },
        }
        rows = run(tmp_path / "run", tree, "torch")
        return made[-1], rows

    return record


def test_the_update_after_t_steps_has_the_rate_and_the_prefactors_of_t(recorded, tmp_path):
    water = write_system(tmp_path / "a", 3, 4, first=1)
    trainer, rows = recorded([water], [water], numb_steps=6)
    rates = [START * (STOP / START) ** (t // EVERY * EVERY / 6) for t in range(6)]
    for (lr, prefactors), expected in zip(trainer.updates, rates, strict=True):
        assert lr == pytest.approx(expected, rel=1e-12)
        share = expected / START
        assert prefactors == pytest.approx({"e": 2.0 - 1.5 * share, "f": 1.0 + 8.0 * share}, rel=1e-12)
    assert [(step, lr) for step, _, _, lr in rows] == [(step, trainer.updates[step - 1][0]) for step in (1, 2, 4, 6)]


def test_what_a_batch_has_no_label_for_has_no_prefactor(recorded, tmp_path):
    system = write_system(tmp_path / "a", 3, 4, first=1, labels=("energy",))
    trainer, rows = recorded([system], [system], numb_steps=2)
    for _, prefactors in trainer.updates:
        assert prefactors["f"] == 0.0 < prefactors["e"]
    assert all(prefactors["f"] == 0.0 < prefactors["e"] for prefactors, _, _ in trainer.seen)
    for _, train, validation, _ in rows:
        assert math.isnan(train["mae_f"])
        assert math.isnan(validation["mae_f"])


def test_rows_walk_through_the_validation_frames(recorded, tmp_path):
    train, validation = write_system(tmp_path / "a", 3, 4, first=1), write_system(tmp_path / "b", 2, 6, first=101)
    trainer, rows = recorded([train], [validation], numb_steps=4)
    assert len(rows) == 3
    assert sorted(energy for _, energy, _ in trainer.seen if energy > 100) == [101, 102, 103, 104, 105, 106]


def test_validation_batches_are_weighted_by_their_atoms(recorded, tmp_path):
    train = write_system(tmp_path / "a", 3, 4, first=1)
    few, many = write_system(tmp_path / "b", 2, 2, first=101), write_system(tmp_path / "c", 7, 2, first=201)
    trainer, rows = recorded([train], [few, many], numb_steps=12)
    seen = [(energy, atoms) for _, energy, atoms in trainer.seen if energy > 100]
    pairs = list(zip(seen[::2], seen[1::2], strict=True))
    assert any(one[1] != two[1] for one, two in pairs)
    for (_, _, validation, _), ((e1, n1), (e2, n2)) in zip(rows, pairs, strict=True):
        assert validation["mae_e"] == pytest.approx((n1 * e1 + n2 * e2) / (n1 + n2), rel=1e-12)


def test_full_validation_weights_systems_by_their_frames(tmp_path):
    """Of each system the mean over its values, of all systems the mean over their frames."""
    content = load_model(MODEL)
    names = [write_system(tmp_path / f"{atoms}", atoms, frames, first=atoms) for atoms, frames in ((2, 1), (5, 4))]
    systems = [load_system(name, content.model.type_map) for name in names]
    weight = np.array([1, 4]) / 5
    energy, force = [], []
    with DeepPot(MODEL, backend="numpy") as potential:
        for system in systems:
            e, f, _ = potential.eval(system.coord, system.cell, system.types)
            energy.append((e[:, 0] - system.data["energy"]) / system.num_atoms)
            force.append(f - system.data["force"])
    found = full_errors(content, "numpy", systems, ("E", "F"))
    for quantity, differences in (("E", energy), ("F", force)):
        absolute = weight @ [np.abs(each).mean() for each in differences]
        square = weight @ [(each**2).mean() for each in differences]
        assert found[f"{quantity}:MAE"] == pytest.approx(absolute, rel=1e-9)
        assert found[f"{quantity}:RMSE"] == pytest.approx(math.sqrt(square), rel=1e-9)


@pytest.mark.parametrize(("keep", "expected"), [(2, [4, 6, 8]), (1, [6, 8]), (0, [2, 4, 6, 8])])
def test_the_newest_checkpoints_stay_and_later_ones_are_not_touched(tmp_path, keep, expected):
    """Of a training that goes on from step 6, what another one left at step 8 is not to be removed."""
    for step in (2, 4, 6, 8):
        (tmp_path / f"model.ckpt-{step}.pt").write_text("")
    announce("torch", tmp_path / "model.ckpt", "model.ckpt-6.pt", 6, keep, tmp_path / "model.ckpt")
    assert [step for step in range(10) if (tmp_path / f"model.ckpt-{step}.pt").exists()] == expected

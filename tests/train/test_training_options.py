"""Options of a training: the same on both backends, and what each does."""

import json
import math
import shutil
import sys
from contextlib import chdir
from dataclasses import replace

import h5py
import numpy as np
import pytest
from support import TF_LATER
from train.small_training import (
    WATER,
    few_frames,
    largest_difference,
    largest_parameter_difference,
    run,
    small_input,
)

from deepmd.array_model.errors import InputError
from deepmd.data.statistics import neighbour_statistics
from deepmd.data.systems import load_system
from deepmd.infer import DeepPot, measure_errors
from deepmd.io import load_model
from deepmd.train import checkpoints
from deepmd.train.bias import change_bias, predicted_energies
from deepmd.train.validating import full_errors

BACKENDS = ["torch", "tf"]
ENDING = {"torch": ".pt", "tf": ".index"}
SAME_PATH = 1e-8
EXACT = 1e-12


def options(change, **training):
    """A short training with other sections replaced."""
    tree = small_input(**{"numb_steps": 6, "disp_freq": 1, "save_freq": 3, **training})
    del tree["training"]["validation_data"]["numb_btch"]
    return {**tree, **change}


FRAMES = 8
"""Of each system, all of which are counted for the bias."""

OPTIONS = options(
    {
        "learning_rate": {
            "type": "cosine",
            "start_lr": 5e-3,
            "stop_lr": 1e-4,
            "warmup_steps": 2,
            "warmup_start_factor": 0.1,
        },
        "optimizer": {"type": "AdamW", "weight_decay": 2.0},
        "validating": {
            "full_validation": True,
            "validation_freq": 3,
            "full_val_start": 0,
            "max_best_ckpt": 1,
            "validation_metric": "f:rmse",
        },
    },
    gradient_max_norm=0.5,
    change_bias_after_training=True,
    save_dir="kept/here",
    ckpt_keep_ratio=0.4,
)
OPTIONS["model"]["data_bias_nsample"] = FRAMES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder with a few frames of each system."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("water_330a", "water_600", "water_330b"):
        few_frames(folder / name, name, FRAMES)
    return folder


def with_options(data):
    """An input with all of them."""
    tree = json.loads(json.dumps(OPTIONS))
    tree["training"]["training_data"]["systems"] = [str(data / name) for name in ("water_330a", "water_600")]
    tree["training"]["validation_data"]["systems"] = [str(data / "water_330b")]
    return tree


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    out = {}
    for backend in BACKENDS:
        folder = tmp_path_factory.mktemp(backend)
        out[backend] = folder, run(folder, with_options(data), backend)
    return out


def newest(folder):
    return load_model(checkpoints.newest(folder))


def test_both_backends_walk_the_same_path(trained):
    (torch, torch_rows), (tf, tf_rows) = trained["torch"], trained["tf"]
    assert largest_difference(torch_rows, tf_rows) < SAME_PATH
    assert largest_parameter_difference(checkpoints.newest(torch), checkpoints.newest(tf)) < SAME_PATH


def test_decoupled_weight_decay_and_a_limited_gradient_matter(data, trained, tmp_path):
    tree = with_options(data)
    del tree["validating"], tree["training"]["change_bias_after_training"]
    rows = trained["torch"][1]
    coupled = json.loads(json.dumps(tree))
    coupled["optimizer"]["type"] = "Adam"
    assert largest_difference(run(tmp_path / "a", coupled, "torch"), rows) > 1e-4
    del tree["training"]["gradient_max_norm"]
    assert largest_difference(run(tmp_path / "b", tree, "torch"), rows) > 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_bias_after_training_leaves_no_mean_error(data, trained, backend):
    """Water has one composition: the least squares leave a residual of mean zero."""
    folder, _ = trained[backend]
    content = newest(folder)
    systems = [load_system(data / name, ["O", "H"]) for name in ("water_330a", "water_600")]
    frames = [(system, frame) for system in systems for frame in range(system.num_frames)]
    labels = np.array([system.data["energy"][frame] for system, frame in frames])
    residual = labels - predicted_energies(content, frames)
    assert len(residual) == 2 * FRAMES
    assert abs(residual.mean()) < 1e-9 * np.abs(labels).max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpoints_in_a_folder_of_their_own(trained, backend):
    folder, _ = trained[backend]
    assert checkpoints.newest(folder) == folder / f"kept/here/model.ckpt-6{ENDING[backend]}"
    assert (folder / f"model.ckpt{ENDING[backend]}").resolve() == checkpoints.newest(folder).resolve()
    assert not (folder / f"kept/here/model.ckpt-3{ENDING[backend]}").exists()  # ceil(0.4 * 2) = 1 is kept


@pytest.mark.parametrize("backend", BACKENDS)
def test_full_validation_equals_dp_test(data, trained, backend):
    folder, _ = trained[backend]
    head, *rows = (folder / "val.log").read_text().splitlines()
    assert head == "# step E_MAE(meV/atom) E_RMSE(meV/atom) F_MAE(meV/Å) F_RMSE(meV/Å) S_MAE(meV/Å³) S_RMSE(meV/Å³)"
    table = np.array([row.split() for row in rows], dtype=float)
    assert table[:, 0].tolist() == [3, 6]
    best = table[np.argsort(table[:, 4])[:1], 0].astype(int)
    for rank, step in enumerate(best, 1):
        path = folder / f"best.ckpt-{step}.t-{rank}{ENDING[backend]}"
        errors = measure_errors(path, system=str(data / "water_330b"), backend="torch")
        expected = [1e3 * value for name in ("energy/natoms", "force", "stress") for value in errors[name]]
        np.testing.assert_allclose(table[table[:, 0] == step][0, 1:], expected, rtol=2e-6)
    assert len(list(folder.glob(f"best.ckpt-*{ENDING[backend]}"))) == 1


def test_full_validation_does_not_depend_on_the_runs_of_frames(trained, monkeypatch):
    """Runs of one frame, with different numbers of atoms, give the errors of all frames at once."""
    water = load_system(WATER / "water_330b", ["O", "H"])
    types = np.tile(water.types, (3, 1))
    types[1, 30:] = types[2, 3:60] = -1
    data = {name: values[:3] for name, values in water.data.items()}
    system = replace(water, types=types, coord=water.coord[:3], cell=water.cell[:3], data=data)
    errors = []
    for atoms in (10**6, 1):
        monkeypatch.setattr("deepmd.train.validating.RUN_ATOMS", atoms)
        errors.append(full_errors(newest(trained["torch"][0]), "torch", [system], "EFS"))
    assert errors[0] == pytest.approx(errors[1], rel=1e-12)


def test_full_validation_goes_on_after_a_restart(data, tmp_path):
    tree = with_options(data)
    del tree["training"]["change_bias_after_training"], tree["training"]["ckpt_keep_ratio"]
    tree["validating"].update(validation_freq=2, max_best_ckpt=2)
    unbroken = tmp_path / "a"
    run(unbroken, tree, "torch")
    log = (unbroken / "val.log").read_text()
    run(unbroken, tree, "torch", restart=str(unbroken / "kept" / "here" / "model.ckpt-3.pt"))
    assert (unbroken / "val.log").read_text() == log
    assert len(list(unbroken.glob("best.ckpt-*.pt"))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"validating": {"full_validation": True, "validation_metric": "X:MAE"}},
            "validation_metric is 'X:MAE'; accepted: E:MAE",
        ),
        (
            {"validating": {"full_validation": True, "validation_metric": "V:MAE"}, "loss": {}},
            "V:MAE needs start_pref_v",
        ),
    ],
)
def test_wrong_metrics(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, options(change), "torch")


def test_full_validation_needs_data(tmp_path):
    tree = options({"validating": {"full_validation": True}})
    del tree["training"]["validation_data"]
    with pytest.raises(InputError, match="needs training/validation_data"):
        run(tmp_path, tree, "torch")


def finetuning(numb_steps):
    tree = options({}, numb_steps=numb_steps)
    tree["training"]["training_data"] = {"systems": [str(WATER / "water_330b")], "batch_size": 2}
    return tree


@pytest.mark.slow
def test_both_backends_finetune_alike(trained, tmp_path):
    source, _ = trained["torch"]
    rows = [run(tmp_path / backend, finetuning(2), backend, finetune=str(source)) for backend in BACKENDS]
    assert largest_difference(*rows) < SAME_PATH


@pytest.mark.parametrize("backend", TF_LATER)
def test_finetuning_shifts_the_bias_to_the_new_data(trained, tmp_path, backend):
    source, _ = trained[backend]
    run(tmp_path, finetuning(0), backend, finetune=str(source))
    before, after = newest(source), newest(tmp_path)
    assert not np.array_equal(before.params["out_bias"], after.params["out_bias"])
    np.testing.assert_array_equal(
        before.params["fitting"]["nets"][0]["layers"][0]["w"], after.params["fitting"]["nets"][0]["layers"][0]["w"]
    )


def test_the_model_section_of_the_source(trained, tmp_path):
    tree = options({}, numb_steps=0)
    tree["model"] = {"type_map": ["O", "H"], "descriptor": {"type": "se_e2_a"}}
    run(tmp_path, tree, "torch", finetune=str(trained["tf"][0]), use_pretrain_script=True)
    assert newest(tmp_path).model.descriptor.neuron == (3, 6)


def test_changing_the_bias(trained, tmp_path):
    source = trained["torch"][0] / "model.ckpt.pt"
    target = change_bias(source, system=str(WATER / "water_330b"), numb_frames=5, output=str(tmp_path / "new.pt"))
    system = load_system(WATER / "water_330b", ["O", "H"])
    labels = system.data["energy"][:5]
    with DeepPot(target) as potential:
        energy = potential.eval(system.coord[:5], system.cell[:5], system.types)[0][:, 0]
    assert abs(np.mean(labels - energy)) < 1e-6
    target = change_bias(source, values=[1.0, -2.0], output=str(tmp_path / "given.dp"))
    assert load_model(target).params["out_bias"].tolist() == [[[1.0], [-2.0]]]
    assert change_bias(target, values=[0.0, 0.0]) == tmp_path / "given_updated.dp"
    with pytest.raises(InputError, match="one number for each of the types"):
        change_bias(source, values=[1.0])
    with pytest.raises(InputError, match="mode is 'sett'"):
        change_bias(source, system=str(WATER / "water_330b"), numb_frames=1, mode="sett")


# -- data ------------------------------------------------------------------------------------------------------------


def mixed_copy(folder, name, extra=1):
    """The water system as a mixed_type one with atoms in another order and `extra` atoms that are none."""
    system = load_system(WATER / name, ["O", "H"])
    order = np.random.default_rng(0).permutation(system.num_atoms)
    part = folder / "set.000"
    part.mkdir(parents=True)
    pad = [(0, 0), (0, extra)]
    np.save(
        part / "real_atom_types.npy",
        np.pad(np.tile(1 - system.types[order], (system.num_frames, 1)), pad, constant_values=-1),
    )
    for label in ("coord", "force"):
        array = np.asarray(system.coord if label == "coord" else system.data[label])
        np.save(part / f"{label}.npy", np.pad(array[:, order], [*pad, (0, 0)]).reshape(system.num_frames, -1))
    np.save(part / "box.npy", np.asarray(system.cell).reshape(-1, 9))
    np.save(part / "energy.npy", system.data["energy"])
    np.save(part / "virial.npy", system.data["virial"])
    (folder / "type.raw").write_text("0\n" * (system.num_atoms + extra))
    (folder / "type_map.raw").write_text("H O")
    return str(folder)


def test_mixed_type_systems_train_and_test_as_others(tmp_path):
    """Frames with padding atoms, in another order and with another type map, are the same frames."""
    tree = options({}, numb_steps=3)
    del tree["training"]["validation_data"]
    tree["training"]["training_data"]["systems"] = [str(WATER / "water_330a")]
    plain = run(tmp_path / "plain", tree, "torch")
    tree["training"]["training_data"]["systems"] = [mixed_copy(tmp_path / "mixed", "water_330a")]
    assert largest_difference(run(tmp_path / "other", tree, "torch"), plain) < SAME_PATH
    model = tmp_path / "plain" / "model.ckpt.pt"
    one = measure_errors(model, system=str(WATER / "water_330a"), numb_test=4)
    two = measure_errors(model, system=str(tmp_path / "mixed"), numb_test=4, detail_file=str(tmp_path / "d"))
    for name, errors in one.items():
        np.testing.assert_allclose(errors, two[name], rtol=1e-9, err_msg=name)


def test_compositions_in_one_batch(tmp_path):
    """A mixed_type system whose frames differ in their number of atoms."""
    folder = mixed_copy(tmp_path / "mixed", "water_330a", extra=3)
    file = tmp_path / "mixed" / "set.000" / "real_atom_types.npy"
    types = np.load(file)
    types[::2, :6] = -1  # some atoms are gone from every other frame
    np.save(file, types)
    tree = options({}, numb_steps=3)
    del tree["training"]["validation_data"]
    tree["model"]["descriptor"].update(neuron=[4], evaluation="direct")
    tree["training"]["training_data"] = {"systems": folder, "batch_size": 3}
    assert largest_difference(*(run(tmp_path / backend, tree, backend) for backend in BACKENDS)) < SAME_PATH
    tree["training"]["training_data"] = {"systems": [folder, str(WATER / "water_600")], "batch_size": "mixed:3"}
    assert all(math.isfinite(row[1]["rmse"]) for row in run(tmp_path / "both", tree, "torch"))


def test_hdf5_systems_train_and_test_as_folders(tmp_path):
    with h5py.File(tmp_path / "water.hdf5", "w") as root:
        for name in ("water_330a", "water_600"):
            for path in (WATER / name).rglob("*.*"):
                if path.is_file():
                    words = path.read_text().split() if path.suffix == ".raw" else None
                    value = (
                        np.load(path)
                        if words is None
                        else [int(w) for w in words]
                        if path.name == "type.raw"
                        else words
                    )
                    root[f"{name}/{path.relative_to(WATER / name)}"] = value
    tree = options({}, numb_steps=3)
    folders = run(tmp_path / "folders", tree, "torch")
    tree["training"]["training_data"]["systems"] = str(tmp_path / "water.hdf5")
    assert largest_difference(run(tmp_path / "file", tree, "torch"), folders) < EXACT
    model = tmp_path / "file" / "model.ckpt.pt"
    one, two = (
        measure_errors(model, system=s, numb_test=3)
        for s in (f"{tmp_path}/water.hdf5#/water_600", str(WATER / "water_600"))
    )
    assert one == two


# -- old inputs ------------------------------------------------------------------------------------------------------


def test_an_old_input_trains_and_is_written_in_todays_layout(tmp_path):
    """A flat input, as of 2018, trains as the one that is written out for it."""
    flat = {
        **{
            "use_smooth": True,
            "sel_a": [24, 40],
            "rcut": 4.0,
            "rcut_smth": 1.0,
            "filter_neuron": [3, 6],
            "filter_resnet_dt": False,
        },
        **{
            "n_axis_neuron": 2,
            "n_neuron": [6],
            "resnet_dt": True,
            "coord_norm": True,
            "type_fitting_net": False,
            "seed": 3,
        },
        **{
            "systems": [str(WATER / "water_330a")],
            "set_prefix": "set",
            "stop_batch": 4,
            "batch_size": 1,
            "start_lr": 0.005,
            "decay_steps": 2,
        },
        **{
            "decay_rate": 0.5,
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
            "numb_test": 10,
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
    rows = run(tmp_path / "flat", flat, "torch")
    written = json.loads((tmp_path / "flat" / "input_v2_compat.json").read_text())
    assert written["model"]["type_map"] == ["O", "H"]
    del written["model"]["type_map"]  # taken from the data in every layout
    assert run(tmp_path / "new", written, "torch") == rows
    assert not (tmp_path / "new" / "input_v2_compat.json").exists()
    assert rows[-1][3] == pytest.approx(0.005 * 0.5 ** (3 // 2))  # in steps, as DeePMD-kit's exponential decay
    with chdir(tmp_path / "new"):
        assert run(tmp_path / "again", json.loads((tmp_path / "new" / "out.json").read_text()), "torch") == rows


# -- statistics that are kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["stat.hdf5", "stat"])
def test_stored_statistics_are_used(tmp_path, place):
    tree = options({}, numb_steps=2, stat_file=str(tmp_path / place))
    del tree["training"]["validation_data"]
    rows = run(tmp_path / "a", tree, "torch")
    tree["training"]["stat_file_mode"] = "read"
    assert run(tmp_path / "b", tree, "torch") == rows
    other = json.loads(json.dumps(tree))
    other["training"]["training_data"]["systems"] = [str(WATER / "water_330b")]
    run(
        tmp_path / "c", {**other, "training": {**other["training"], "numb_steps": 0}}, "torch"
    )  # statistics of the first data
    assert np.array_equal(
        newest(tmp_path / "c").params["descriptor"]["dstd"], newest(tmp_path / "b").params["descriptor"]["dstd"]
    )
    tree["model"]["descriptor"]["rcut"] = 3.5
    with pytest.raises(InputError, match="holds no statistics for this model"):
        run(tmp_path / "d", tree, "torch")
    tree["training"]["stat_file_mode"] = "update"
    run(tmp_path / "d", tree, "torch")
    tree["training"]["stat_file_mode"] = "read"
    run(tmp_path / "e", tree, "torch")


@pytest.mark.parametrize("place", ["stat.hdf5", "stat"])
def test_neighbours_of_the_same_data_are_searched_once(tmp_path, monkeypatch, place):
    searched = []

    def search(systems, cutoffs, ntypes):
        searched.append([system.path for system in systems])
        return neighbour_statistics(systems, cutoffs, ntypes)

    monkeypatch.setattr("deepmd.train.data.neighbour_statistics", search)
    data = shutil.copytree(WATER / "water_330b", tmp_path / "water")
    tree = options({}, numb_steps=0, stat_file=str(tmp_path / place))
    tree["training"]["training_data"]["systems"] = [str(data)]
    tree["model"]["descriptor"]["sel"] = "auto"
    models = []
    for number in range(3):
        run(tmp_path / f"{number}", tree, "torch", skip_neighbor_stat=False)
        models.append(newest(tmp_path / f"{number}"))
        if number == 1:
            (data / "set.000/coord.npy").touch()
    assert searched == [[str(data)]] * 2  # the second training takes what the first has stored
    assert len({(model.model.descriptor.sel, model.min_nbor_dist) for model in models}) == 1


def test_scalars_for_tensorboard(tmp_path):
    """TensorFlow's own reader, which compares checksums, finds what the learning curve has."""
    tf = pytest.importorskip("tensorflow")
    tree = options({}, numb_steps=4, disp_freq=2, tensorboard=True, tensorboard_log_dir="events", tensorboard_freq=2)
    rows = run(tmp_path, tree, "torch")
    (path,) = (tmp_path / "events").glob("events.out.tfevents.*")
    found = {}
    for record in tf.compat.v1.io.tf_record_iterator(str(path)):
        event = tf.compat.v1.Event.FromString(record)
        found.update({(event.step, value.tag): value.simple_value for value in event.summary.value})
    for step, train, validation, lr in rows[1:]:
        for name, value in train.items():
            assert found[step, f"{name}_trn"] == pytest.approx(value, rel=1e-6)
            assert found[step, f"{name}_val"] == pytest.approx(validation[name], rel=1e-6)
        assert found[step, "lr"] == pytest.approx(lr, rel=1e-6)
    assert {step for step, _ in found} == {1, 2, 4}  # the learning curve begins at step 1


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(InputError, match=r"training/tensorboard: .* pip install 'deepmd\[tensorboard\]'"):
        run(tmp_path, options({}, numb_steps=2, tensorboard=True), "torch")
    assert {path.name for path in tmp_path.iterdir()} == {"input.json"}, "told before anything is written"

"""Inputs of old DeePMD-kit versions in today's layout."""

import json

import pytest
from support import options

from deepmd.array_model.errors import InputError
from deepmd.io.train_input import parse_input
from deepmd.io.write_input import descriptor_section, input_tree
from deepmd.kit.old_input import upgrade_old_input

FLAT = {
    "_comment": "of 2018",
    **{
        "use_smooth": True,
        "sel_a": [46, 92],
        "rcut_smth": 5.8,
        "rcut": 6.0,
        "filter_neuron": [25, 50],
        "filter_resnet_dt": False,
    },
    **{"n_axis_neuron": 16, "n_neuron": [240, 240], "resnet_dt": True, "coord_norm": True, "type_fitting_net": False},
    **{
        "systems": ["../data/"],
        "set_prefix": "set",
        "stop_batch": 1000000,
        "batch_size": 1,
        "start_lr": 0.005,
        "decay_steps": 5000,
    },
    **{
        "decay_rate": 0.95,
        "start_pref_e": 0.02,
        "limit_pref_e": 1,
        "seed": 1,
        "disp_freq": 100,
        "numb_test": 10,
        "load_ckpt": "model.ckpt",
    },
}
SECTIONED = {
    "model": {"descriptor": {"type": "se_a", "sel": [46, 92], "seed": 1}, "fitting_net": {"n_neuron": [12]}},
    "learning_rate": {"type": "exp", "start_lr": 0.001, "decay_steps": 5000, "decay_rate": 0.95},
    "loss": {"start_pref_e": 0.02},
    "training": {
        **{
            "systems": ["a", "b"],
            "set_prefix": "set",
            "stop_batch": 12500,
            "batch_size": [1, 2],
            "seed": 1,
            "disp_freq": 1,
        },
        **{"numb_test": 10, "auto_prob_style": "prob_uniform", "sys_weights": None, "profiling_file": "timeline.json"},
    },
}


def test_flat():
    """What DeePMD-kit 3.2.0 makes of the same input."""
    tree, old = upgrade_old_input(FLAT)
    assert old
    assert tree["model"] == {
        "descriptor": {
            "seed": 1,
            "type": "se_e2_a",
            "sel": [46, 92],
            "rcut": 6.0,
            "rcut_smth": 5.8,
            "neuron": [25, 50],
            "axis_neuron": 16,
            "resnet_dt": False,
        },
        "fitting_net": {"seed": 1, "neuron": [240, 240], "resnet_dt": True},
    }
    assert tree["learning_rate"] == {
        "type": "exp",
        "decay_steps": 5000,
        "start_lr": 0.005,
        "stop_lr": 0.005 * 0.95**200,
    }
    assert tree["loss"] == {"start_pref_e": 0.02, "limit_pref_e": 1}
    assert tree["training"] == {
        **{"seed": 1, "stop_batch": 1000000, "disp_freq": 100},
        "training_data": {"systems": ["../data/"], "set_prefix": "set", "batch_size": 1},
    }


def test_flat_and_not_smooth():
    """What DeePMD-kit 3.2.0 makes of the same input."""
    frame = {"sel_a": [16, 32], "sel_r": [30, 60], "rcut": 6.0, "axis_rule": [0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0]}
    smooth = ("use_smooth", "rcut_smth", "filter_neuron", "filter_resnet_dt", "n_axis_neuron")
    given = {key: value for key, value in FLAT.items() if key not in smooth}
    for flag in ({"use_smooth": False}, {}):
        tree, old = upgrade_old_input({**given, **frame, **flag})
        assert old
        assert tree["model"]["descriptor"] == {"type": "loc_frame", **frame}
        assert tree["model"]["fitting_net"] == {"seed": 1, "neuron": [240, 240], "resnet_dt": True}
    tree["model"]["type_map"] = ["O", "H"]
    assert descriptor_section(options(parse_input(tree).model).descriptor) == {
        "type": "loc_frame",
        **{key: value if key == "rcut" else tuple(value) for key, value in frame.items()},
    }


def test_with_sections():
    tree, old = upgrade_old_input(SECTIONED)
    assert old
    assert tree["model"] == SECTIONED["model"]
    assert tree["learning_rate"]["stop_lr"] == pytest.approx(0.001 * 0.95**2.5)
    assert tree["training"]["training_data"] == {
        "systems": ["a", "b"],
        "set_prefix": "set",
        "batch_size": [1, 2],
        "auto_prob_style": "prob_uniform",
    }
    assert not {"systems", "numb_test", "batch_size"} & set(tree["training"])


def test_the_last_learning_rate_where_decay_steps_is_not_given():
    """It is 5000 then, as in DeePMD-kit."""
    rate = {"type": "exp", "start_lr": 0.001, "decay_rate": 0.95}
    tree, _ = upgrade_old_input({**SECTIONED, "learning_rate": rate})
    assert tree["learning_rate"]["stop_lr"] == pytest.approx(0.001 * 0.95**2.5)


MODERN = {
    "model": {"type_map": ["O", "H"], "descriptor": {"type": "se_a", "sel": [4, 8]}, "fitting_net": {}},
    "learning_rate": {"start_lr": 0.001},
    "training": {"numb_steps": 10, "training_data": {"systems": ["a"]}},
}


def with_training(**more):
    return {**MODERN, "training": {**MODERN["training"], **more}}


def test_keys_of_3_0_and_3_1_move_with_a_warning(caplog):
    """Where DeePMD-kit 3.2.0 has them then."""
    given = with_training(opt_type="AdamW", adam_beta1=0.8, weight_decay=0.01, warmup_steps=3, warmup_start_factor=0.1)
    tree, old = upgrade_old_input(given)
    assert not old
    assert tree["optimizer"] == {"type": "AdamW", "adam_beta1": 0.8, "weight_decay": 0.01}
    assert tree["learning_rate"] == {"start_lr": 0.001, "warmup_steps": 3, "warmup_start_factor": 0.1}
    assert tree["training"] == MODERN["training"]
    assert caplog.text.count("since DeePMD-kit 3.2") == 5
    options = parse_input(tree)
    assert options.optimizer.adam_beta1 == 0.8
    assert "opt_type" not in MODERN["training"]


def test_keys_of_another_optimizer():
    tree, _ = upgrade_old_input(with_training(opt_type="LKF", kf_blocksize=1024))
    with pytest.raises(InputError, match="optimizer/type: 'LKF' is known, but not supported yet"):
        parse_input(tree)
    tree, _ = upgrade_old_input(with_training(opt_type="Adam", kf_blocksize=1024))
    with pytest.raises(InputError, match=r"optimizer/kf_blocksize: known, .*an option of the optimizer LKF"):
        parse_input(tree)


def test_a_key_in_its_old_and_its_new_place():
    given = {**with_training(warmup_steps=3), "learning_rate": {"start_lr": 0.001, "warmup_steps": 2}}
    with pytest.raises(InputError, match=r"training/warmup_steps is 3, .*learning_rate/warmup_steps, is 2; keep"):
        upgrade_old_input(given)


def test_numb_test_is_left_out_of_any_layout(caplog):
    tree, old = upgrade_old_input(with_training(numb_test=4))
    assert (tree, old) == (MODERN, False)
    assert "training/numb_test" in caplog.text


def test_data_in_both_layouts():
    with pytest.raises(InputError, match=r"training/systems .* and training/training_data .* are given; keep one"):
        upgrade_old_input({**SECTIONED, "training": {**SECTIONED["training"], "training_data": {"systems": ["c"]}}})


@pytest.mark.parametrize("given", [FLAT, SECTIONED])
def test_the_result_is_an_input(given):
    tree, _ = upgrade_old_input(given)
    tree["model"]["type_map"] = ["O", "H"]
    options = parse_input(json.loads(json.dumps(tree)))
    assert options.data.batch_size in (1, (1, 2))
    assert upgrade_old_input(tree) == (tree, False)
    assert upgrade_old_input(input_tree(options)) == (input_tree(options), False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_smooth": False}, "unknown key 'rcut_smth' in an input without sections whose use_smooth is not true"),
        ({"sel_r": [10, 20]}, r"sel_r: \[10, 20\] is known, but not supported yet"),
        ({"filter_neurons": [1]}, "unknown key 'filter_neurons' .*Did you mean 'filter_neuron'?"),
        ({"type_fitting_net": True}, "type_fitting_net: True is known, but not supported yet"),
        ({"fitting_neuron": [1]}, "fitting_net: 'neuron' is given twice"),
    ],
)
def test_flat_inputs_that_cannot_be_used(change, message):
    with pytest.raises(InputError, match=message):
        upgrade_old_input({**FLAT, **change})

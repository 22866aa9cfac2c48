"""Inputs as releases of DeePMD-kit write them train two steps: the same curve and completed input on both backends."""

from __future__ import annotations

import json

import numpy as np
import pytest
from train.small_descriptors import ATTENTIVE, MESSAGES
from train.small_training import largest_difference, run, small_input

from deepmd.io.train_input import parse_input
from deepmd.io.write_input import input_tree
from deepmd.kit.old_input import upgrade_old_input

LATEST = small_input(numb_steps=2, disp_freq=1)


def released(model=None, training=None, data=None, **sections):
    """Return the small input with changed keys; None drops one."""
    tree = json.loads(json.dumps(LATEST))
    changes = {"model": model or {}, "training": training or {}, **sections}
    for name, changed in changes.items():
        tree[name] = {**tree.get(name, {}), **changed}
    tree["training"]["training_data"].update(data or {})
    return {name: {key: value for key, value in section.items() if value is not None} for name, section in tree.items()}


def beside_types(**descriptor):
    """Return a model with a descriptor and a type embedding, as DeePMD-kit's TensorFlow has it."""
    return {"descriptor": descriptor, "type_embedding": {"neuron": [2, 4], "resnet_dt": False, "seed": 1}}


COMMENTS = {"_comment": "that's all"}
ONE_DESCRIPTOR = {"type": "se_a", **{k: v for k, v in LATEST["model"]["descriptor"].items() if k != "type"}}
SE_ATTEN = {key: value for key, value in ATTENTIVE.items() if key != "tebd_dim"}

RELEASES = {
    "2.0, numb_test and comments": released(
        {"descriptor": {**ONE_DESCRIPTOR, **COMMENTS}}, {"numb_test": 10, **COMMENTS}
    ),
    "2.0, no type_map": released({"type_map": None}, data={"set_prefix": "set"}),
    "2.0, blocks": released(data={"auto_prob": "prob_sys_size; 0:2:0.9; 2:2:0.1", "batch_size": [1, 1]}),
    "2.0, profiling": released(training={"profiling": False, "profiling_file": "timeline.json", "tensorboard": False}),
    "2.1, type embedding": released(beside_types(**LATEST["model"]["descriptor"])),
    "2.1, se_atten beside a type embedding": released(beside_types(**SE_ATTEN)),
    "2.2, se_atten_v2 beside a type embedding": released(
        beside_types(**{**SE_ATTEN, "type": "se_atten_v2", "attn_layer": 0}), {"numb_test": 10}
    ),
    "2.2, two regions in a hybrid": released(
        beside_types(
            type="hybrid",
            list=[
                {**LATEST["model"]["descriptor"], "exclude_types": [[0, 0]]},
                {**SE_ATTEN, "attn_layer": 0, "stripped_type_embedding": True, "exclude_types": [[1, 1]]},
            ],
        )
    ),
    "2.2, stripped_type_embedding": released({"descriptor": {**SE_ATTEN, "stripped_type_embedding": False}}),
    "2.2, smooth_type_embdding": released({"descriptor": {**SE_ATTEN, "smooth_type_embdding": True}}),
    "3.0, warmup in training": released(
        training={"warmup_steps": 1, "warmup_start_factor": 0.5, "gradient_max_norm": 5.0}
    ),
    "3.1, optimizer in training": released(training={"opt_type": "AdamW", "weight_decay": 0.001, "adam_beta1": 0.95}),
    "3.0, dpa2": released(
        {"descriptor": {**MESSAGES["dpa2"], "repformer_add_type_ebd_to_seq": False}}, {"warmup_steps": 0}
    ),
    "3.1, dpa3": released({"descriptor": {**MESSAGES["dpa3"], "use_tebd_bias": False}}, {"stat_file": "dpa3.hdf5"}),
    "3.2": released(optimizer={"type": "AdamW"}, validating={"full_validation": False, "compiled_infer": False}),
}


@pytest.mark.parametrize("name", RELEASES)
def test_they_parse(name):
    tree, old = upgrade_old_input(RELEASES[name])
    assert not old
    options = parse_input({**tree, "model": {"type_map": ["O", "H"], **tree["model"]}})
    assert parse_input(input_tree(options)) == options


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASES)
def test_inputs_of_releases(tmp_path, name):
    rows = {backend: run(tmp_path / backend, RELEASES[name], backend) for backend in ("torch", "tf")}
    assert len(rows["torch"]) == 2
    assert np.isfinite(rows["torch"][-1][1]["rmse"])
    assert largest_difference(rows["torch"], rows["tf"]) < 1e-8
    first, other = (json.loads((tmp_path / backend / "out.json").read_text()) for backend in ("torch", "tf"))
    assert first == other
    again = run(tmp_path / "again", first, "torch")
    assert largest_difference(rows["torch"], again) == 0.0

"""Parameter trees, and models to files and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deepmd.array_model.components import in_precision
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.tree import flatten, map_leaves, paths, replace_leaves
from deepmd.host import plain
from deepmd.io import ModelFile, convert, load_model, save_model
from deepmd.io.dp_file import _flow_text
from deepmd.io.model_file import from_json, from_tree, to_json, to_tree
from deepmd.train.trainable import trainable_paths

KEYS = st.text("abc", min_size=1, max_size=2)
TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3), max_leaves=12
)


@given(TREES)
def test_flatten_and_replace(tree):
    leaves = flatten(tree)
    assert replace_leaves(tree, leaves) == tree
    doubled = replace_leaves(tree, {path: 2 * leaf for path, leaf in leaves.items()})
    assert doubled == map_leaves(lambda leaf: 2 * leaf, tree)
    assert list(flatten(doubled)) == list(leaves)
    assert list(flatten(paths(tree)).values()) == list(leaves)


def test_absent_leaves():
    tree = {"a": None, "b": [{"w": 1, "idt": None}, {"w": 2}]}
    assert flatten(tree) == {"b/0/w": 1, "b/1/w": 2}
    assert replace_leaves(tree, {"b/0/w": 3, "b/1/w": 4}) == {"b": [{"w": 3}, {"w": 4}]}
    assert map_leaves(lambda x, y: x + y, tree, tree) == {"b": [{"w": 2}, {"w": 4}]}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (True, ["a", "nets/0/w", "nets/1/w"]),
        (False, []),
        ({"nets": True}, ["nets/0/w", "nets/1/w"]),
        ({"nets": [True, False]}, ["nets/0/w"]),
        ({"a": True, "nets": {"w": False}}, ["a"]),
        ({"nets": {"w": True}}, ["nets/0/w", "nets/1/w"]),
        (("a",), ["nets/0/w", "nets/1/w"]),
        ({"a": True, "nets": ("w",)}, ["a"]),
        ((), ["a", "nets/0/w", "nets/1/w"]),
    ],
)
def test_trainable_paths(flags, expected):
    assert trainable_paths({"a": 1, "davg": 0, "nets": [{"w": 2}, {"w": 3, "inputs": {"w": 4}}]}, flags) == expected


DESCRIPTOR = SeE2A(sel=(3, 4), rcut=3.0, neuron=(2, 4), axis_neuron=2, precision="float64")
CONTENTS = {
    # precisions and flags in the form that files store them
    "plain": StandardModel(
        ("O", "H"), DESCRIPTOR, EnergyFitting(neuron=(3,), precision="float64", trainable=(True, True))
    ),
    "options": StandardModel(
        ("O", "H"),
        replace(
            DESCRIPTOR,
            type_one_side=True,
            resnet_dt=True,
            exclude_types=((0, 1),),
            env_protection=0.1,
            set_davg_zero=True,
            trainable=False,
        ),
        EnergyFitting(
            neuron=(3, 3),
            precision="float64",
            numb_fparam=2,
            numb_aparam=1,
            default_fparam=(0.5, 1.0),
            trainable=(True, False, True),
            atom_ener=(None, -1.0),
            use_aparam_as_mask=True,
            exclude_types=(1,),
            rcond=1e-3,
        ),
        pair_exclude_types=((1, 1),),
        atom_exclude_types=(0,),
        rcond=1e-2,
        preset_out_bias={"energy": [None, 1.0]},
    ),
    "narrow": StandardModel(
        ("O", "H"),
        replace(DESCRIPTOR, precision="float32"),
        EnergyFitting(neuron=(), precision="float16", trainable=(True,)),
    ),
}


def content(name):
    rng = np.random.default_rng(8)
    model = CONTENTS[name]
    params = map_leaves(lambda leaf: leaf + rng.uniform(0.1, 0.2, leaf.shape), model.init(lambda _: rng, xp=plain))
    params["out_std"] = np.ones_like(params["out_std"])  # energies are not scaled, whatever a file says
    return ModelFile(model, in_precision(model, params, xp=plain), {"type_map": ["O", "H"], "note": "é"}, 0.75)


def assert_same(actual, expected):
    assert actual.model == expected.model
    assert actual.definition == expected.definition
    assert actual.min_nbor_dist == expected.min_nbor_dist
    old, new = flatten(expected.params), flatten(actual.params)
    assert old.keys() == new.keys()
    for path, leaf in old.items():
        assert new[path].dtype == leaf.dtype, path
        assert np.array_equal(new[path], leaf), path


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".yml"])
def test_files_keep_everything(tmp_path, name, suffix):
    save_model(tmp_path / f"model{suffix}", content(name))
    assert_same(load_model(tmp_path / f"model{suffix}"), content(name))
    assert [path.name for path in tmp_path.iterdir()] == [f"model{suffix}"]


@pytest.mark.parametrize("name", CONTENTS)
def test_json_beside_arrays_keeps_everything(name):
    original = content(name)
    assert_same(from_json(to_json(original, "numpy"), flatten(original.params), "here"), original)


def test_yaml_numbers_are_numbers_digit_for_digit():
    """YAML 1.1 reads 1e-05, as Python writes it, as a text."""
    values = np.array([[0.0, -1e-05], [1e20, 1.25e-300], [-3.0, 0.1 + 0.2]])
    assert yaml.safe_load(_flow_text(values)) == values.tolist()
    assert yaml.safe_load(_flow_text(np.array([7, 8]))) == [7, 8]


def test_convert_there_and_back(tmp_path):
    save_model(tmp_path / "a.dp", content("options"))
    convert(tmp_path / "a.dp", tmp_path / "b.yaml")
    convert(tmp_path / "b.yaml", tmp_path / "c.dp")
    assert_same(load_model(tmp_path / "c.dp"), content("options"))
    with pytest.raises(InputError, match="same file"):
        convert(tmp_path / "a.dp", tmp_path / "." / "a.dp")


def test_reads_the_wheels_files_and_writes_the_same_tree():
    """A stored model of DeePMD-kit comes back with the same keys and the same arrays."""

    def described(tree):
        if isinstance(tree, dict):
            return {key: described(value) for key, value in tree.items()}
        return (
            [described(item) for item in tree]
            if isinstance(tree, list)
            else type(tree).__name__
            if isinstance(tree, np.ndarray)
            else tree
        )

    path = Path(__file__).parents[1] / "golden" / "se_e2_a_options" / "model.dp"
    with h5py.File(path) as file:
        stored = json.loads(file.attrs["json"])["model"]
    written = to_tree(load_model(path), "numpy")["model"]
    assert missing_keys(stored, described(written)) == []


def missing_keys(stored, written, where=""):
    if isinstance(stored, dict):
        absent = [f"{where}/{key}" for key in stored if key not in written]
        return absent + [
            path
            for key in stored
            if key in written
            for path in missing_keys(stored[key], written[key], f"{where}/{key}")
        ]
    if isinstance(stored, list):
        return [
            path
            for k, pair in enumerate(zip(stored, written, strict=True))
            for path in missing_keys(*pair, f"{where}/{k}")
        ]
    return []


def damaged(change):
    tree = to_tree(content("plain"), "numpy")
    change(tree["model"])
    return tree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.update(type="standart"), "Did you mean 'standard'"),
        (lambda model: model["descriptor"].update(type="se_e2a"), "Did you mean 'se_e2_a'"),
        (lambda model: model["descriptor"].update({"@version": 9}), "version 9"),
        (lambda model: model["descriptor"].update(spin={}), "not supported"),
        (lambda model: model["fitting"].update(dim_case_embd=2), "not supported"),
        (lambda model: model["descriptor"].pop("sel"), "'sel' is missing"),
        (lambda model: model["@variables"].update(out_bias=np.zeros((1, 3, 1))), "out_bias has shape"),
        (lambda model: model["descriptor"]["embeddings"]["networks"].pop(), "expected 4 embedding nets"),
        (lambda model: model["descriptor"].update(activation_function="relu"), "activation"),
        (lambda model: model.update(type_map=["O", "H", "C"]), "type_map has 3"),
    ],
)
def test_damaged_models_are_refused(change, message):
    with pytest.raises(InputError, match=rf"somewhere.*{message}"):
        from_tree(damaged(change), "somewhere")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no.dp", None, "no such model file"),
        ("model.txt", "", "unknown model format"),
        ("model.dp", "not HDF5", "not a readable .dp file"),
        ("model.yaml", "- 1", "not a YAML mapping"),
        ("model.yaml", "a: 1", "'model' is missing"),
        ("model.yaml", "a: [", "not a readable"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / name)


def test_datasets_outside_the_file_are_refused(tmp_path):
    save_model(tmp_path / "a.dp", content("plain"))
    with h5py.File(tmp_path / "a.dp", "a") as file:
        del file["variable_0000"]
        file["variable_0000"] = h5py.ExternalLink("other.dp", "/secret")
    with pytest.raises(InputError, match="not an array of this file"):
        load_model(tmp_path / "a.dp")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    save_model(tmp_path / "a.dp", content("plain"))
    broken = content("plain").with_params({})
    with pytest.raises(KeyError):
        save_model(tmp_path / "a.dp", broken)
    assert_same(load_model(tmp_path / "a.dp"), content("plain"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.dp"]
    with pytest.raises(InputError, match="does not exist"):
        save_model(tmp_path / "none" / "a.dp", content("plain"))

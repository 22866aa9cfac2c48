"""The input: defaults, aliases, comments, what `out.json` holds."""

import json
from pathlib import Path

import pytest
from support import options

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.errors import InputError
from deepmd.io.train_input import lacks_type_map, parse_input, read_input, read_json
from deepmd.io.write_input import input_tree, model_tree
from deepmd.unsupported import KEYS as UNSUPPORTED_KEYS
from deepmd.unsupported import KINDS as UNSUPPORTED_KINDS

GOLDEN = Path(__file__).parents[1] / "golden"

GOOD = {
    "_comment": "kept out",
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_a", "sel": [1, 2], "n_axis_neuron": 3, "_why": ["x"]},
        "fitting_net": {"n_neuron": [5]},
    },
    "learning_rate": {"start_lr": 0.001},
    "training": {
        "stop_batch": 10,
        "training_data": {"systems": ["a"], "auto_prob_style": "prob_uniform"},
        "tensorboard": False,
        "profiling": False,
    },
}


def test_aliases_comments_and_defaults():
    given = parse_input(GOOD)
    assert options(given.model).descriptor.axis_neuron == 3
    assert options(given.model).descriptor.kind == "se_e2_a"
    assert options(given.model).descriptor.neuron == (10, 20, 40)
    assert options(given.model).fitting.neuron == (5,)
    assert options(given.model).fitting.resnet_dt
    assert given.training.numb_steps == 10
    assert given.data.auto_prob == "prob_uniform"
    assert tuple(given.loss.terms()) == ("e", "f")


def test_what_is_written_out_reads_back_the_same():
    options = parse_input(GOOD)
    assert parse_input(json.loads(json.dumps(input_tree(options)))) == options


def with_evaluation(value):
    tree = json.loads(json.dumps(GOOD))
    tree["model"]["descriptor"]["evaluation"] = value
    return tree


def test_evaluation_is_automatic_and_then_not_written_out():
    """DeePMD-kit would refuse a key that it does not know."""
    assert parse_input(GOOD) == parse_input(with_evaluation("auto"))
    assert [part.evaluation for part in descriptors_of(parse_input(GOOD).model)] == ["auto"]
    assert "evaluation" not in input_tree(parse_input(with_evaluation("auto")))["model"]["descriptor"]
    assert "evaluation" not in model_tree(parse_input(GOOD))["descriptor"]


@pytest.mark.parametrize("value", ["direct", "spectral"])
def test_evaluation_that_is_asked_for(value):
    given = parse_input(with_evaluation(value))
    assert [part.evaluation for part in descriptors_of(given.model)] == [value]
    assert model_tree(given)["descriptor"]["evaluation"] == value
    assert parse_input(input_tree(given)) == given


@pytest.mark.parametrize("value", ["spektral", "Direct", "", "64"])
def test_unknown_evaluation_names_the_accepted_ones(value):
    with pytest.raises(
        InputError, match=f"^model/descriptor.*: evaluation is {value!r}; accepted: auto, direct, spectral"
    ):
        parse_input(with_evaluation(value))


@pytest.mark.parametrize("value", [1.5, None, ["auto"]])
def test_evaluation_of_another_kind(value):
    with pytest.raises(InputError, match=r"^model/descriptor/evaluation: "):
        parse_input(with_evaluation(value))


def test_both_names_of_a_key():
    tree = json.loads(json.dumps(GOOD))
    tree["training"]["numb_steps"] = 3
    with pytest.raises(InputError, match="'numb_steps' is given twice"):
        parse_input(tree)


def test_yaml_is_read_too(tmp_path):
    (tmp_path / "input.yaml").write_text("model: {type_map: [O]}\n")
    assert read_json(tmp_path / "input.yaml") == {"model": {"type_map": ["O"]}}


def test_a_key_that_is_given_twice(tmp_path):
    """Comments may be: DeePMD-kit's examples have such."""
    for name, text in (
        ("a.json", '{"model": {"_comment": 1, "sel": [{"a": 1, "a": 2}], "_comment": 2}}'),
        ("a.yaml", "model: {sel: [{a: 1, a: 2}]}"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="model/sel/0/a: is given twice, as 1 and as 2; keep one"):
            read_json(tmp_path / name)
    (tmp_path / "b.json").write_text('{"_comment": 1, "_comment": 2, "model": {}}')
    assert read_json(tmp_path / "b.json") == {"_comment": 2, "model": {}}


def test_merge_keys_of_yaml(tmp_path):
    (tmp_path / "a.yaml").write_text("model: &m {a: 1}\nloss: {<<: *m, b: 2}\n")
    assert read_json(tmp_path / "a.yaml")["loss"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("a.json", "{", "line 1"), ("a.json", "[1]", "must hold an object"), ("a.yaml", "a: [", "not valid YAML")],
)
def test_unreadable_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / name)


def test_what_dee_pmd_kit_writes_out_is_read():
    """Keys of DeePMD-kit's `out.json` that are switched off, and ones that have no meaning where they stand."""
    tree = json.loads(json.dumps(GOOD))
    tree["model"].update(
        model_branch_alias=[],
        info={},
        bridging_method="None",
        bridging_r_inner=0.5,
        srtab_add_bias=True,
        preset_out_bias=None,
    )
    tree["model"]["fitting_net"].update(dim_case_embd=0, rcond=None)
    tree["loss"] = {"type": "ener", "start_pref_h": 0.0, "numb_generalized_coord": 0}
    tree["training"].update(
        validation_data=None, stat_file_mode="update", save_dir=None, enable_ema=False, ema_decay=0.999, zero_stage=0
    )
    tree["training"]["training_data"].update(numb_btch=3, min_pair_dist=0.0, sys_probs=None)
    tree["validating"] = {"compiled_infer": False}
    assert parse_input(tree) == parse_input({**GOOD, "loss": {}})


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("learning_rate", {"type": "cosine", "start_lr": 1e-3, "warmup_ratio": 0.1}),
        ("learning_rate", {"type": "wsd", "start_lr": 1e-3, "decay_type": "linear"}),
        ("optimizer", {"type": "AdamW", "weight_decay": 0.01}),
        ("validating", {"full_validation": True, "validation_metric": "V:RMSE"}),
    ],
)
def test_types_of_sections_are_written_out(section, value):
    options = parse_input({**GOOD, section: value})
    assert options != parse_input(GOOD)
    assert input_tree(options)[section].items() >= value.items()
    assert parse_input(input_tree(options)) == options


def test_the_last_learning_rate_is_written_out():
    assert input_tree(parse_input(GOOD))["learning_rate"]["stop_lr"] == 5e-8
    rate = {"start_lr": 1e-3, "stop_lr_ratio": 0.1}
    assert input_tree(parse_input({**GOOD, "learning_rate": rate}))["learning_rate"]["stop_lr"] is None


def test_integers_stand_for_floats():
    tree = json.loads(json.dumps(GOOD))
    tree["model"]["descriptor"].update(rcut=6, rcut_smth=0)
    assert options(parse_input(tree).model).descriptor.rcut == 6.0


@pytest.mark.parametrize(
    ("descriptor", "name", "value"),
    [
        ({"type": "dpa1", "sel": 9, "smooth_type_embdding": True}, "smooth_type_embedding", True),
        (
            {
                "type": "dpa2",
                "repinit": {"rcut": 6.0, "rcut_smth": 0.5, "nsel": 20},
                "repformer": {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 9},
                "repformer_add_type_ebd_to_seq": True,
            },
            "add_tebd_to_repinit_out",
            True,
        ),
    ],
)
def test_aliases_of_descriptors(descriptor, name, value):
    given = parse_input({**GOOD, "model": {**GOOD["model"], "descriptor": descriptor}})
    assert getattr(options(given.model).descriptor, name) == value


def test_the_loss_ener_hess_without_hessians_is_ener():
    assert parse_input({**GOOD, "loss": {"type": "ener_hess"}}).loss == parse_input(GOOD).loss


def placed(where, value, tree=None):
    """Return an input, the good one by default, with a value at a path."""
    tree = json.loads(json.dumps(GOOD if tree is None else tree))
    section = tree
    for part in where.split("/")[:-1]:
        section = section.setdefault(part, {})
    section[where.split("/")[-1]] = value
    return tree


@pytest.mark.parametrize("where", list(UNSUPPORTED_KINDS))
def test_what_is_not_supported_is_called_by_its_name(where):
    """Never an unknown type, for which another would be suggested."""
    place = f"model/{where}" if where in ("descriptor", "fitting_net") else where
    for kind in UNSUPPORTED_KINDS[where]:
        with pytest.raises(
            InputError, match=rf"^{place}(/type)?: .*{kind!r} is known, but not supported yet"
        ) as caught:
            parse_input(placed(f"{place}/type", kind))
        assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("where", list(UNSUPPORTED_KEYS))
def test_keys_that_are_not_supported_say_so(where):
    good = placed("training/validation_data/systems", ["a"])
    for key, row in UNSUPPORTED_KEYS[where].items():
        place = f"{where}/{key}".lstrip("/")
        with pytest.raises(InputError, match="not supported yet") as caught:
            parse_input(placed(place, {"some": "value"}, good))
        assert place in str(caught.value)
        assert row.because in str(caught.value)
        parse_input(placed(place, row.off, good))


def test_several_heads(tmp_path):
    tree = {**GOOD, "model": {"model_dict": {}, "shared_dict": {}}, "loss_dict": {}}
    found = r"several heads .* are not supported yet; the input has loss_dict, model/model_dict, model/shared_dict$"
    (tmp_path / "input.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=found):
        read_input(tmp_path / "input.json")


def test_a_sum_of_frozen_models_has_their_type_map():
    path = str(GOLDEN / "se_e2_a" / "model.dp")
    members = [{"type": "frozen", "model_file": path}, {"type": "frozen", "model_file": path}]
    tree = {**GOOD, "model": {"type": "linear_ener", "models": members, "weights": "mean"}}
    assert not lacks_type_map(tree)
    assert parse_input(tree).model.type_map == ("O", "H")
    members[0] = {"descriptor": {"type": "se_e2_a", "sel": [4, 8]}, "fitting_net": {}}
    assert parse_input(tree).model.type_map == ("O", "H")


def test_when_the_type_map_of_the_data_is_needed():
    bare = json.loads(json.dumps(GOOD))["model"]
    del bare["type_map"]
    table = {"type": "pairtab", "tab_file": "a.txt", "rcut": 4.0, "sel": 9}
    assert not lacks_type_map(GOOD)
    assert lacks_type_map({"model": bare})
    assert lacks_type_map({"model": {"type": "linear_ener", "models": [bare, table], "weights": "sum"}})
    assert not lacks_type_map({"model": {"type": "linear_ener", "models": [GOOD["model"], table], "weights": "sum"}})

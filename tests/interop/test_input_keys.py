"""The input, key by key: defaults are those of DeePMD-kit, and each of its keys and types is known here."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from deepmd.array_model.registry import ALIASES, KINDS
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.io.combinations import SECTIONS as COMBINATIONS
from deepmd.io.sections import (
    LEARNING_RATES,
    OPTIMIZERS,
    ModelSection,
    TrainingDataSection,
    TrainingSection,
    ValidatingSection,
    ValidationSection,
)
from deepmd.io.train_input import SECTION_ALIASES, SECTIONS, parse_input
from deepmd.io.write_input import input_tree
from deepmd.losses import LOSSES
from deepmd.unsupported import KEYS
from deepmd.unsupported import KINDS as LATER

COMPLETE = """
import json
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input

jobs = json.load(open("jobs.json"))
done = {name: normalize(update_deepmd_input(tree, warning=False)) for name, tree in jobs.items()}
json.dump(done, open("done.json", "w"))
"""

BASE = {
    "model": {"type_map": ["O", "H"], "descriptor": {"type": "se_e2_a"}, "fitting_net": {}},
    "learning_rate": {"start_lr": 0.001},
    "loss": {"type": "ener"},
    "validating": {},
    "training": {"numb_steps": 10, "training_data": {"systems": ["a"]}, "validation_data": {"systems": ["b"]}},
}

REQUIRED: dict[str, dict[str, Any]] = {
    "dpa2": {
        "repinit": {"rcut": 6.0, "rcut_smth": 0.5, "nsel": 40},
        "repformer": {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 20},
    },
    "dpa3": {
        "repflow": {"e_rcut": 6.0, "e_rcut_smth": 5.0, "e_sel": 40, "a_rcut": 4.0, "a_rcut_smth": 3.5, "a_sel": 20}
    },
    "hybrid": {"list": [{"type": "se_e2_a"}, {"type": "se_e2_r"}]},
    "loc_frame": {"sel_a": [4, 8], "sel_r": [0, 0], "axis_rule": [0, 0, 0, 0, 0, 1] * 2},
    "property": {"property_name": "gap"},
    "dos": {},
}
"""Keys that a kind has to be given."""

ACCEPTED = {
    "model/fitting_net/use_aparam_as_mask": "an option of every fitting net here, there of ener",
    "model/fitting_net/rcond": "an option of every fitting net here",
    "model/fitting_net/trainable": "an option of every fitting net here",
    "training/profiling_file": "without a meaning unless `profiling` is on, which is not supported",
    "model/descriptor/lmax": "optional there, without a default; 1 here, which is accepted alone",
}
"""Keys that differ without harm, with reasons."""


def inputs() -> dict[str, dict[str, Any]]:
    """Return a minimal input for every kind of each section."""
    out = {"": BASE}

    def add(name: str, model: dict[str, Any] | None = None, **sections: Any) -> None:
        out[name] = {**BASE, **sections, "model": {**BASE["model"], **(model or {})}}

    for kind in KINDS["descriptor"]:
        if kind != "se_e2_a_typed":  # described by model/type_embedding
            add(f"descriptor {kind}", {"descriptor": {"type": kind, **REQUIRED.get(kind, {})}})
    add("type_embedding", {"type_embedding": {}})
    losses = {"dipole": "tensor", "polar": "tensor", "ener": "ener", "dos": "dos", "property": "property"}
    assert set(losses) == set(KINDS["fitting_net"])
    assert set(losses.values()) == set(LOSSES)
    for kind, loss in losses.items():
        prefactors = {"pref": 1.0, "pref_atomic": 1.0} if loss == "tensor" else {}
        add(
            f"fitting_net {kind}",
            {"fitting_net": {"type": kind, **REQUIRED.get(kind, {})}},
            loss={"type": loss, **prefactors},
        )
    for kind in ("exp", "cosine", "wsd"):
        add(f"learning_rate {kind}", learning_rate={"type": kind, "start_lr": 0.001})
    for kind in ("Adam", "AdamW"):
        add(f"optimizer {kind}", optimizer={"type": kind})
    return out


def differences(ours: Any, theirs: Any, where: str) -> list[str]:
    """Return the keys whose values differ. None counts as absent, as does the value that switches a feature off."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        section = "model/descriptor" if where.startswith("model/descriptor") else where
        off = {key: row.off for key, row in KEYS.get(section, {}).items()}
        out = []
        for key in sorted(set(ours) | set(theirs)):
            path = f"{where}/{key}".lstrip("/")
            missing = off.get(key) if key not in ours else None
            if path not in ACCEPTED:
                out += differences(ours.get(key, missing), theirs.get(key), path)
        return out
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [text for k, (a, b) in pairs for text in differences(a, b, f"{where}/{k}")]
    return (
        [] if ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool) else [f"{where}: {ours} {theirs}"]
    )


@pytest.fixture(scope="module")
def completed(kit, tmp_path_factory) -> dict[str, Any]:
    """What DeePMD-kit makes of each of `inputs`."""
    folder = tmp_path_factory.mktemp("completed")
    (folder / "jobs.json").write_text(json.dumps(inputs()))
    kit.run(["python", "-c", COMPLETE], folder)
    return json.loads((folder / "done.json").read_text())


@pytest.mark.parametrize("name", list(inputs()))
def test_defaults_are_those_of_deepmd_kit(completed, name):
    ours, theirs = input_tree(parse_input(inputs()[name])), completed[name]
    assert differences(ours, theirs, "") == []
    assert parse_input(theirs) == parse_input(inputs()[name])


# -- keys and types ----------------------------------------------------------------------------------------------------


def choices(node: dict[str, Any]) -> dict[str, Any]:
    """Return the one variant of an argument of the schema: kinds and aliases."""
    (variant,) = node["sub_variants"].values()
    return variant


def keys(*nodes: dict[str, Any]) -> set[str]:
    """Return the keys of arguments of the schema, with their aliases."""
    fields = [(name, row) for node in nodes for name, row in node["sub_fields"].items()]
    return {key for name, row in fields for key in (name, *row["alias"])}


@pytest.fixture(scope="module")
def schema(kit, tmp_path_factory) -> dict[str, Any]:
    """Sections of the input as DeePMD-kit documents them."""
    folder = tmp_path_factory.mktemp("schema")
    text = kit.run(["dp", "doc-train-input", "--out-type", "json"], folder)
    return {row["name"]: row for row in json.loads(text[text.index("[{") :])}


def test_every_type_is_known(schema):
    """Accepted, or in `deepmd.unsupported`, under each of its names."""
    model = choices(schema["model"])
    standard = model["choice_dict"]["standard"]["sub_fields"]
    sections = {
        "model": (model, {*KINDS["model"], *ALIASES["model"], *COMBINATIONS}),
        "descriptor": (choices(standard["descriptor"]), {*KINDS["descriptor"], *ALIASES["descriptor"]}),
        "fitting_net": (choices(standard["fitting_net"]), {*KINDS["fitting_net"]}),
        "learning_rate": (choices(schema["learning_rate"]), {*LEARNING_RATES}),
        "optimizer": (choices(schema["optimizer"]), {*OPTIMIZERS}),
        "loss": (choices(schema["loss"]), {*LOSSES, *(name for where, name in SECTION_ALIASES if where == "loss")}),
    }
    for where, (variant, known) in sections.items():
        theirs = {*variant["choice_dict"], *variant["choice_alias"]}
        assert theirs - known - set(LATER[where]) == set(), where
        assert known & set(LATER[where]) == set(), where


def test_every_key_is_known(schema):
    """Accepted, dropped, or in `deepmd.unsupported`, under each of its names."""
    standard = choices(schema["model"])["choice_dict"]["standard"]
    training = schema["training"]["sub_fields"]
    unknown = {
        "": {*schema} - {*SECTIONS, *KEYS[""]},
        "model": keys(schema["model"], standard)
        - {*keys_here(ModelSection, "model"), "descriptor", "fitting_net", "type_embedding"},
        "training": keys(schema["training"])
        - {*keys_here(TrainingSection, "training"), "training_data", "validation_data"},
        "training_data": keys(training["training_data"]) - keys_here(TrainingDataSection, "training/training_data"),
        "validation_data": keys(training["validation_data"]) - keys_here(ValidationSection, "training/validation_data"),
        "validating": keys(schema["validating"]) - keys_here(ValidatingSection, "validating"),
    }
    for where, kinds, node in (
        ("model/descriptor", KINDS["descriptor"], standard["sub_fields"]["descriptor"]),
        ("model/fitting_net", KINDS["fitting_net"], standard["sub_fields"]["fitting_net"]),
        ("learning_rate", LEARNING_RATES, schema["learning_rate"]),
        ("optimizer", OPTIMIZERS, schema["optimizer"]),
        ("loss", LOSSES, schema["loss"]),
    ):
        for kind, theirs in choices(node)["choice_dict"].items():
            if kind in kinds:
                known = keys_here(kinds[kind], where)
                unknown[f"{where} {kind}"] = keys(theirs, *([] if where.startswith("model") else [node])) - known
                for name, hint in get_type_hints(kinds[kind]).items():
                    if is_dataclass(hint) and name in theirs["sub_fields"]:  # repinit, repformer, repflow
                        inner = keys(theirs["sub_fields"][name])
                        unknown[f"{where} {kind}/{name}"] = inner - keys_here(hint, "")
    types = schema["model"]["sub_fields"]["type_embedding"]
    unknown["model/type_embedding"] = keys(types) - keys_here(TypeEmbedding, "")
    assert {where: found for where, found in unknown.items() if found} == {}


def keys_here(cls: Any, where: str) -> set[str]:
    """Return the keys of a section that are accepted, dropped or called by their names."""
    names = {field.name for field in fields(cls)}
    later = KEYS[where] if where and where in KEYS else {}
    return {*names, *getattr(cls, "aliases", {}), *getattr(cls, "ignored", ()), *later}

"""A checked input as nested dicts: `out.json`, and the section `model` in model files. Reading: train_input.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_e2_a_typed import SeE2ATyped
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.io.checking import options_of
from deepmd.io.sections import LEARNING_RATES, OPTIMIZERS, DataSection
from deepmd.io.train_input import TrainInput

OMITTED_IF_NONE = ("stripped_type_embedding", "temperature", "ln_eps")
"""Options of descriptors that are left out where they are None."""

OF_THIS_PACKAGE = ("energy_key", "force_key", "virial_key", "stress_key", "validation_fraction", "validation_seed")
"""Keys of data sections that DeePMD-kit does not have."""

OF_TABLE = ("use_srtab", "smin_alpha", "sw_rmin", "sw_rmax")
"""Keys of `ModelSection` for models with a pair table, which `TrainInput.combination` keeps."""


def input_tree(options: TrainInput) -> dict[str, Any]:
    """Return the whole input with every default written out, but a combination of models as it was given."""
    validation = None if options.validation is None else _data_tree(options.validation)
    training = {"training_data": _data_tree(options.data), "validation_data": validation, **asdict(options.training)}
    return _as_json(
        {
            "model": model_tree(options),
            "learning_rate": {"type": _type_of(options.learning_rate, LEARNING_RATES), **asdict(options.learning_rate)},
            "optimizer": {"type": _type_of(options.optimizer, OPTIMIZERS), **asdict(options.optimizer)},
            "loss": {"type": options.loss.kind, **options_of(options.loss)},
            "training": {key: value for key, value in training.items() if value is not None},
            "validating": asdict(options.validating),
        }
    )


def _data_tree(section: DataSection) -> dict[str, Any]:
    """Return a data section; keys that DeePMD-kit does not have are left out where they have their defaults."""
    own = {field.name: field.default for field in fields(section) if field.name in OF_THIS_PACKAGE}
    return {key: value for key, value in asdict(section).items() if key not in own or value != own[key]}


def model_tree(options: TrainInput) -> dict[str, Any]:
    """Return the section `model` with every default written out, but a combination of models as it was given."""
    if options.combination is not None:
        return options.combination
    model = options.model
    assert isinstance(model, StandardModel)
    assert isinstance(model.fitting, Fitting)
    tree = {
        "type": "standard",
        **{key: value for key, value in asdict(options.model_section).items() if key not in OF_TABLE},
        "descriptor": descriptor_section(model.descriptor),
        "fitting_net": {"type": model.fitting.kind, **asdict(model.fitting)},
    }
    for part in descriptors_of(model):
        if isinstance(part, SeE2ATyped):  # members of a hybrid share one type embedding
            tree["type_embedding"] = asdict(part.types)
    if not tree["fitting_net"]["exclude_types"]:
        del tree["fitting_net"]["exclude_types"]  # DeePMD-kit's input does not know it
    return _as_json(tree)


def descriptor_section(descriptor: Any) -> dict[str, Any]:
    """Return the input section of a descriptor with all defaults written out.

    The type embedding of `SeE2ATyped` has a section of its own.
    """
    if isinstance(descriptor, Hybrid):
        return {"type": descriptor.kind, "list": [descriptor_section(member) for member in descriptor.members]}
    typed = isinstance(descriptor, SeE2ATyped)
    left_out = {
        *getattr(descriptor, "fixed", ()),
        *(item.name for item in fields(descriptor) if not item.init),
        *(("types",) if typed else ()),
    }
    tree = {
        name: value
        for name, value in asdict(descriptor).items()
        if name not in left_out and not (value is None and name in OMITTED_IF_NONE)
    }
    if tree.get("evaluation") == "auto":
        del tree["evaluation"]  # unknown to DeePMD-kit's input
    return {"type": "se_e2_a" if typed else descriptor.kind, **tree}


def _type_of(section: Any, kinds: Mapping[str, type]) -> str:
    """Return the `type` of a section."""
    return next(name for name, cls in kinds.items() if type(section) is cls)


def _as_json(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tree with lists in place of tuples, as JSON has them."""
    return json.loads(json.dumps(tree))  # type: ignore[no-any-return]

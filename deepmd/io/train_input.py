"""input.json: reading, checking, defaults (spec formats, section 3)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from deepmd.array_model import models
from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.losses import EnerLoss
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.registry import canonical, lookup
from deepmd.io.checking import NO_DEFAULT, build, rename, without_comments

assert models  # imported for its registrations


@dataclass(frozen=True)
class DataSection:
    """`training_data`."""

    systems: str | tuple[str, ...] = "."
    rglob_patterns: tuple[str, ...] | None = None
    batch_size: int | tuple[int, ...] | str = "auto"
    auto_prob: str = "prob_sys_size"
    sys_probs: tuple[float, ...] | None = None

    names = {"auto_prob_style": "auto_prob", "sys_weights": "sys_probs"}
    __pydantic_config__ = {"extra": "forbid"}


@dataclass(frozen=True)
class ValidationSection(DataSection):
    """`validation_data`."""

    numb_btch: int = 1

    names = {**DataSection.names, "numb_batch": "numb_btch"}

    def __post_init__(self) -> None:
        if self.numb_btch < 1:
            raise ValueError(f"numb_btch is {self.numb_btch}; it must be at least 1")


@dataclass(frozen=True)
class ExpDecay:
    """`learning_rate` of type exp; `deepmd.train.schedule` tells what it means."""

    start_lr: float
    stop_lr: float | None = None
    stop_lr_ratio: float | None = None
    decay_steps: int = 5000
    decay_rate: float | None = None
    smooth: bool = False
    warmup_steps: int = 0
    warmup_ratio: float | None = None
    warmup_start_factor: float = 0.0
    scale_by_worker: str = "linear"

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.start_lr <= 0.0:
            raise ValueError(f"start_lr is {self.start_lr}; it must be positive")
        if self.stop_lr is not None and self.stop_lr_ratio is not None:
            raise ValueError("give stop_lr or stop_lr_ratio, not both")
        if self.warmup_steps and self.warmup_ratio is not None:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.decay_steps < 1 or self.warmup_steps < 0 or not 0.0 <= (self.warmup_ratio or 0.0) < 1.0:
            raise ValueError("decay_steps must be at least 1, warmup_steps at least 0, warmup_ratio in [0, 1)")
        if self.scale_by_worker not in ("linear", "sqrt", "none"):
            raise ValueError(f"scale_by_worker is {self.scale_by_worker!r}; accepted: linear, sqrt, none")


@dataclass(frozen=True)
class AdamSection:
    """`optimizer` of type Adam."""

    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    weight_decay: float = 0.0

    __pydantic_config__ = {"extra": "forbid"}


@dataclass(frozen=True)
class TrainingSection:
    """`training`, without the data sections."""

    numb_steps: int | None = None
    numb_epoch: float | None = None
    seed: int | None = None
    disp_file: str = "lcurve.out"
    disp_freq: int = 1000
    save_freq: int = 1000
    save_ckpt: str = "model.ckpt"
    max_ckpt_keep: int = 5
    disp_training: bool = True
    time_training: bool = True

    names = {
        **dict.fromkeys(("stop_batch", "num_step", "num_steps", "numb_step"), "numb_steps"),
        **dict.fromkeys(("num_epoch", "num_epochs", "numb_epochs"), "numb_epoch"),
    }
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if (self.numb_steps is None) == (self.numb_epoch is None):
            raise ValueError("give numb_steps or numb_epoch, one of the two")
        if self.numb_steps is not None and self.numb_steps < 0:
            raise ValueError(f"numb_steps is {self.numb_steps}; it must not be negative")
        if min(self.disp_freq, self.save_freq) < 1:
            raise ValueError(f"disp_freq is {self.disp_freq}, save_freq {self.save_freq}; both must be at least 1")


@dataclass(frozen=True)
class ModelSection:
    """`model`, without descriptor and fitting."""

    type_map: tuple[str, ...]
    data_stat_nbatch: int = 10
    data_stat_protect: float = 0.01
    pair_exclude_types: tuple[tuple[int, int], ...] = ()
    atom_exclude_types: tuple[int, ...] = ()
    preset_out_bias: dict[str, list[float | None]] | None = None

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.type_map or len(set(self.type_map)) != len(self.type_map):
            raise ValueError(f"type_map is {list(self.type_map)}: needs at least one element name, each once")
        if self.data_stat_nbatch < 1:
            raise ValueError(f"data_stat_nbatch is {self.data_stat_nbatch}; it must be at least 1")
        for name, values in (self.preset_out_bias or {}).items():
            if name != "energy" or len(values) != len(self.type_map):
                raise ValueError(f"preset_out_bias: expected 'energy' with one value or null per type, got {name!r} with {len(values)}")


@dataclass(frozen=True)
class TrainInput:
    """A checked input.

    Attributes
    ----------
    model : options of descriptor and fitting net; `sel` may still be "auto"
    section : the other keys of `model`
    data, validation, training, learning_rate, optimizer, loss : the sections
    """

    model: StandardModel
    section: ModelSection
    data: DataSection
    validation: ValidationSection | None
    training: TrainingSection
    learning_rate: ExpDecay
    optimizer: AdamSection
    loss: EnerLoss

    def with_sel(self, sel: tuple[int, ...]) -> TrainInput:
        """Return the input with `sel` resolved."""
        return replace(self, model=replace(self.model, descriptor=replace(self.model.descriptor, sel=sel)))

    def as_dict(self) -> dict[str, Any]:
        """Return the whole input with every default written out, as in `out.json`."""
        training = asdict(self.training)
        validation = None if self.validation is None else asdict(self.validation)
        data = asdict(self.data)
        tree = {
            "model": self.model_dict(),
            "learning_rate": {"type": "exp", **asdict(self.learning_rate)},
            "optimizer": {"type": "Adam", **asdict(self.optimizer)},
            "loss": {"type": "ener", **asdict(self.loss)},
            "training": {"training_data": data, "validation_data": validation, **training},
        }
        tree["training"] = {key: value for key, value in tree["training"].items() if value is not None}
        return json.loads(json.dumps(tree))  # type: ignore[no-any-return]

    def model_dict(self) -> dict[str, Any]:
        """Return the `model` section with every default written out; it is kept in every model file."""
        tree = {
            **asdict(self.section),
            "descriptor": {"type": self.model.descriptor.kind, **asdict(self.model.descriptor)},
            "fitting_net": {"type": self.model.fitting.kind, **asdict(self.model.fitting)},
        }
        if not tree["fitting_net"]["exclude_types"]:
            del tree["fitting_net"]["exclude_types"]  # DeePMD-kit's input does not know it
        if tree["descriptor"].get("evaluation") == "auto":
            del tree["descriptor"]["evaluation"]  # likewise
        return json.loads(json.dumps(tree))  # type: ignore[no-any-return]


NOT_YET: dict[str, dict[str, Any]] = {
    "": {"nvnmd": NO_DEFAULT, "validating": {}},
    "model": {
        **dict.fromkeys(("type_embedding", "modifier", "spin", "compress", "model_dict", "shared_dict", "use_srtab"), None),
        **dict.fromkeys(("smin_alpha", "sw_rmin", "sw_rmax", "finetune_head", "model_branch_alias", "info", "hybrid"), None),
        "srtab_add_bias": True,
        "data_bias_nsample": 10,
    },
    "model/descriptor": {"spin": None},
    "model/fitting_net": {"dim_case_embd": 0, "layer_name": None, "spin": None},
    "loss": {"start_pref_h": 0, "limit_pref_h": 0, "start_pref_gf": 0, "limit_pref_gf": 0, "numb_generalized_coord": 0},
    "optimizer": {},
    "learning_rate": {},
    "training": {
        **dict.fromkeys(("stat_file", "save_dir", "ckpt_keep_ratio", "mixed_precision", "ema_ckpt_keep", "data_dict", "model_prob"), None),
        **dict.fromkeys(("num_epoch_dict", "gradient_max_norm"), None),
        **dict.fromkeys(("enable_ema", "disp_avg", "change_bias_after_training", "profiling", "enable_profiler", "tensorboard"), False),
        **dict.fromkeys(("enable_compile", "enable_tf32"), False),
        "stat_file_mode": "update",
        "ema_decay": 0.999,
        "profiling_file": "timeline.json",
        "tensorboard_log_dir": "log",
        "tensorboard_freq": 1,
        "acc_freq": 1,
        "zero_stage": 0,
        "neighbor_graph_method": "auto",
    },
    "training/training_data": {"min_pair_dist": 0.0, "set_prefix": "set"},
    "training/validation_data": {"min_pair_dist": 0.0, "set_prefix": "set"},
}
"""Keys that DeePMD-kit knows and we do not support, with the value that means "off"; giving that value is fine."""

SECTIONS = ("model", "learning_rate", "optimizer", "loss", "training")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an input file, JSON or YAML.

    Raises
    ------
    InputError
        The file is missing or not an object.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: must hold an object with the keys {', '.join(SECTIONS)}")
    return tree


def parse_input(tree: dict[str, Any]) -> TrainInput:
    """Check an input and fill in the defaults.

    Raises
    ------
    InputError
        Something is unknown, missing, not supported or out of range; the message names the path.
    """
    tree = without_comments(tree)
    for key in list(tree):
        if key in NOT_YET[""]:
            if tree[key] not in (NOT_YET[""][key], None):
                raise InputError(f"{key}: known, but not supported yet. Remove it to go on without")
            del tree[key]
        elif key not in SECTIONS:
            raise InputError(f"unknown section {key!r}.{nearest(key, SECTIONS)} Known: {', '.join(SECTIONS)}")
    for key in ("model", "learning_rate", "training"):
        if key not in tree:
            raise InputError(f"section {key!r} is missing")
    if not isinstance(tree["training"], dict):
        raise InputError(f"training: must be an object with keys, got {tree['training']!r}")
    training = dict(tree["training"])
    data = training.pop("training_data", {})
    validation = training.pop("validation_data", None)
    section, model = _model(tree["model"])
    return TrainInput(
        model=model,
        section=section,
        data=build(DataSection, data, "training/training_data", NOT_YET["training/training_data"]),
        validation=None
        if validation is None
        else build(ValidationSection, validation, "training/validation_data", NOT_YET["training/validation_data"]),
        training=build(TrainingSection, training, "training", NOT_YET["training"]),
        learning_rate=build(ExpDecay, _typed(tree["learning_rate"], "learning_rate", "exp", ("cosine", "wsd")), "learning_rate"),
        optimizer=build(AdamSection, _typed(tree.get("optimizer", {}), "optimizer", "Adam", ("AdamW", "LKF", "AdaMuon", "HybridMuon")), "optimizer"),
        loss=build(
            EnerLoss, _typed(tree.get("loss", {}), "loss", "ener", ("ener_spin", "dos", "tensor", "property", "dens")), "loss", NOT_YET["loss"]
        ),
    )


def _typed(section: Any, where: str, ours: str, later: tuple[str, ...]) -> Any:
    """Return the section without `type` after checking that it is the one we have."""
    if not isinstance(section, dict):
        return section
    kind = section.get("type", ours)
    if kind in later:
        raise InputError(f"{where}/type: {kind!r} is known, but not supported yet. Accepted: {ours}")
    if kind != ours:
        raise InputError(f"{where}/type: unknown type {kind!r}. Known: {', '.join((ours, *later))}.{nearest(str(kind), (ours, *later))}")
    return {key: value for key, value in section.items() if key != "type"}


def _part(section: Any, kind: str, where: str, default: str | None) -> Any:
    """Make a descriptor or a fitting net from its section."""
    if not isinstance(section, dict):
        raise InputError(f"{where}: must be an object with keys, got {section!r}")
    name = section.get("type", default)
    if name is None:
        raise InputError(f"{where}/type: required, but missing")
    cls = lookup(kind, canonical(kind, name, where), where)
    return build(cls, {key: value for key, value in section.items() if key != "type"}, where, NOT_YET[where])


def _model(section: Any) -> tuple[ModelSection, StandardModel]:
    if not isinstance(section, dict):
        raise InputError(f"model: must be an object with keys, got {section!r}")
    section = rename(section, {}, "model")
    kind = section.pop("type", "standard")
    canonical("model", kind, "model/type")
    parts = {}
    for key in ("descriptor", "fitting_net"):
        if key not in section:
            raise InputError(f"model/{key}: required, but missing")
        parts[key] = section.pop(key)
    fitting = _part(parts["fitting_net"], "fitting_net", "model/fitting_net", "ener")
    descriptor = _part(parts["descriptor"], "descriptor", "model/descriptor", None)
    outer = build(ModelSection, section, "model", NOT_YET["model"])
    _check_types(outer, descriptor, fitting)
    model = StandardModel(
        type_map=outer.type_map,
        descriptor=descriptor,
        fitting=fitting,
        pair_exclude_types=outer.pair_exclude_types,
        atom_exclude_types=outer.atom_exclude_types,
        rcond=fitting.rcond,
        preset_out_bias=None if outer.preset_out_bias is None else {key: list(value) for key, value in outer.preset_out_bias.items()},
    )
    return outer, model


def _check_types(outer: ModelSection, descriptor: Any, fitting: Any) -> None:
    ntypes = len(outer.type_map)
    if not isinstance(descriptor.sel, str) and len(descriptor.sel) != ntypes:
        raise InputError(f"model/descriptor/sel: has {len(descriptor.sel)} entries, type_map has {ntypes}: {list(outer.type_map)}")
    if len(fitting.atom_ener) > ntypes:
        raise InputError(f"model/fitting_net/atom_ener: has {len(fitting.atom_ener)} entries, type_map has {ntypes}")
    used = {
        "model/descriptor/exclude_types": [t for pair in descriptor.exclude_types for t in pair],
        "model/pair_exclude_types": [t for pair in outer.pair_exclude_types for t in pair],
        "model/atom_exclude_types": list(outer.atom_exclude_types),
    }
    for where, types in used.items():
        wrong = [t for t in types if not 0 <= t < ntypes]
        if wrong:
            raise InputError(f"{where}: type {wrong[0]} does not exist; types are 0..{ntypes - 1} for type_map {list(outer.type_map)}")

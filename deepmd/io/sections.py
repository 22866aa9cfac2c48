"""Sections of input.json other than the parts of the model: keys, defaults and ranges (docs/input.md).

`dp doc-train-input` shows the first lines of the docstrings of these classes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from deepmd.array_model.contracts import STRICT

DEFAULT_STOP_LR = 5e-8

LONGEST = 200
"""Longest file name, bytes: file systems accept 255, of which suffixes and temporary names need some."""


def _path(path: str) -> str:
    if not path or "\0" in path or any(len(os.fsencode(part)) > LONGEST for part in Path(path).parts):
        raise ValueError(
            f"{path!r} is no path; accepted: text without NUL characters, each name of at most {LONGEST} bytes"
        )
    return path


def _file(path: str) -> str:
    if Path(path).name in ("", ".."):
        raise ValueError(f"{path!r} is a folder; accepted: the name of a file")
    return path


PathName = Annotated[str, AfterValidator(_path)]
"""Path of a file or a folder."""

FileName = Annotated[PathName, AfterValidator(_file)]
"""Path of a file."""


@dataclass(frozen=True)
class DataSection:
    """What `training_data` and `validation_data` have in common."""

    systems: PathName | tuple[PathName, ...]
    rglob_patterns: tuple[str, ...] | None = None
    batch_size: int | tuple[int, ...] | str = "auto"
    auto_prob: str = "prob_sys_size"
    sys_probs: tuple[float, ...] | None = None
    energy_key: str | None = None
    force_key: str | None = None
    virial_key: str | None = None
    stress_key: str | None = None

    aliases = {"auto_prob_style": "auto_prob", "sys_weights": "sys_probs"}
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.systems:
            raise ValueError("systems is empty; accepted: a folder or file, or a list of them")


FRACTION_BATCHES = 4
"""Batches of a validation in the learning curve, where `validation_fraction` sets the frames aside."""


@dataclass(frozen=True)
class TrainingDataSection(DataSection):
    """`training_data`."""

    validation_fraction: float = 0.0
    validation_seed: int = 0

    ignored: ClassVar[tuple[str, ...]] = ("numb_btch", "numb_batch")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.validation_fraction < 1.0:
            raise ValueError(f"validation_fraction is {self.validation_fraction}; it must be in [0, 1)")
        if self.validation_seed < 0:
            raise ValueError(f"validation_seed is {self.validation_seed}; it must not be negative")


@dataclass(frozen=True)
class ValidationSection(DataSection):
    """`validation_data`."""

    numb_btch: int = 1

    aliases = {**DataSection.aliases, "numb_batch": "numb_btch"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.numb_btch < 1:
            raise ValueError(f"numb_btch is {self.numb_btch}; it must be at least 1")


@dataclass(frozen=True)
class LearningRate:
    """Options of every type of `learning_rate`; `deepmd.train.schedule` evaluates them."""

    start_lr: float
    stop_lr: float | None = None
    stop_lr_ratio: float | None = None
    warmup_steps: int = 0
    warmup_ratio: float | None = None
    warmup_start_factor: float = 0.0
    scale_by_worker: str = "linear"

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.start_lr <= 0.0:
            raise ValueError(f"start_lr is {self.start_lr}; it must be positive")
        if self.stop_lr is not None and self.stop_lr_ratio is not None:
            raise ValueError("give stop_lr or stop_lr_ratio, not both")
        if self.stop_lr is None and self.stop_lr_ratio is None:
            object.__setattr__(self, "stop_lr", DEFAULT_STOP_LR)
        # above start_lr, loss prefactors would leave the range from their start to their limit
        if not 0.0 <= self.last <= self.start_lr:
            name = "stop_lr" if self.stop_lr_ratio is None else "stop_lr_ratio * start_lr"
            raise ValueError(f"{name} is {self.last}; it must be in [0, start_lr], and start_lr is {self.start_lr}")
        if not 0.0 <= self.warmup_start_factor <= 1.0:
            raise ValueError(f"warmup_start_factor is {self.warmup_start_factor}; it must be in [0, 1]")
        if self.warmup_steps and self.warmup_ratio is not None:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.warmup_steps < 0 or not 0.0 <= (self.warmup_ratio or 0.0) < 1.0:
            raise ValueError("warmup_steps must be at least 0, warmup_ratio in [0, 1)")
        if self.scale_by_worker not in ("linear", "sqrt", "none"):
            raise ValueError(f"scale_by_worker is {self.scale_by_worker!r}; accepted: linear, sqrt, none")

    @property
    def last(self) -> float:
        """Learning rate at the end of the decay."""
        return self.start_lr * (self.stop_lr_ratio or 0.0) if self.stop_lr is None else self.stop_lr


@dataclass(frozen=True)
class ExpDecay(LearningRate):
    """`learning_rate` of type exp."""

    decay_steps: int = 5000
    decay_rate: float | None = None
    smooth: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay_steps < 1:
            raise ValueError(f"decay_steps is {self.decay_steps}; it must be at least 1")
        if self.decay_rate is not None and not 0.0 < self.decay_rate <= 1.0:
            raise ValueError(f"decay_rate is {self.decay_rate}; it must be in (0, 1]")


@dataclass(frozen=True)
class CosineDecay(LearningRate):
    """`learning_rate` of type cosine."""


DECAY_TYPES = ("inverse_linear", "cosine", "linear")


@dataclass(frozen=True)
class StableDecay(LearningRate):
    """`learning_rate` of type wsd: warm-up, a stable phase, a decay in the end."""

    decay_phase_ratio: float = 0.1
    decay_type: str = "inverse_linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.decay_phase_ratio <= 1.0:
            raise ValueError(f"decay_phase_ratio is {self.decay_phase_ratio}; it must be in (0, 1]")
        if self.decay_type not in DECAY_TYPES:
            raise ValueError(f"decay_type is {self.decay_type!r}; accepted: {', '.join(DECAY_TYPES)}")


LEARNING_RATES: dict[str, type[LearningRate]] = {"exp": ExpDecay, "cosine": CosineDecay, "wsd": StableDecay}


@dataclass(frozen=True)
class AdamSection:
    """`optimizer` of type Adam: `weight_decay` times the parameter is added to its gradient."""

    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    weight_decay: float = 0.0

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not (0.0 <= self.adam_beta1 < 1.0 and 0.0 <= self.adam_beta2 < 1.0):
            raise ValueError(f"adam_beta1 is {self.adam_beta1}, adam_beta2 {self.adam_beta2}; both must be in [0, 1)")
        if self.weight_decay < 0.0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must not be negative")


@dataclass(frozen=True)
class AdamWSection(AdamSection):
    """`optimizer` of type AdamW: updates subtract lr * `weight_decay` of it (Loshchilov and Hutter, 2019)."""


OPTIMIZERS: dict[str, type[AdamSection]] = {"Adam": AdamSection, "AdamW": AdamWSection}


@dataclass(frozen=True)
class TrainingSection:
    """`training`, without the data sections."""

    numb_steps: int | None = None
    numb_epoch: float | None = None
    seed: int | None = None
    disp_file: FileName = "lcurve.out"
    disp_freq: int = 1000
    save_freq: int = 1000
    save_ckpt: FileName = "model.ckpt"
    save_dir: PathName | None = None
    max_ckpt_keep: int = 5
    ckpt_keep_ratio: float | None = None
    disp_training: bool = True
    time_training: bool = True
    gradient_max_norm: float | None = None
    change_bias_after_training: bool = False
    tensorboard: bool = False
    tensorboard_log_dir: PathName = "log"
    tensorboard_freq: int = 1
    stat_file: PathName | None = None
    stat_file_mode: str = "update"

    aliases = {
        **dict.fromkeys(("stop_batch", "num_step", "num_steps", "numb_step"), "numb_steps"),
        **dict.fromkeys(("num_epoch", "num_epochs", "numb_epochs"), "numb_epoch"),
    }
    ignored: ClassVar[tuple[str, ...]] = ("profiling_file",)
    """Without a meaning unless `profiling` is on, which is not supported."""
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if (self.numb_steps is None) == (self.numb_epoch is None):
            raise ValueError("give numb_steps or numb_epoch, one of the two")
        for name in ("numb_steps", "numb_epoch"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("disp_freq", "save_freq", "tensorboard_freq"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.ckpt_keep_ratio is not None and not 0.0 < self.ckpt_keep_ratio < 1.0:
            raise ValueError(f"ckpt_keep_ratio is {self.ckpt_keep_ratio}; it must be between 0 and 1")
        if self.stat_file_mode not in ("update", "read"):
            raise ValueError(f"stat_file_mode is {self.stat_file_mode!r}; accepted: update, read")
        if self.stat_file_mode == "read" and not self.stat_file:
            raise ValueError("stat_file_mode is 'read', and there is no stat_file to read")
        if (self.gradient_max_norm or 0.0) < 0.0:
            raise ValueError(f"gradient_max_norm is {self.gradient_max_norm}; it must not be negative (0: no limit)")


METRICS = tuple(f"{quantity}:{kind}" for quantity in "EFSV" for kind in ("MAE", "RMSE"))


@dataclass(frozen=True)
class ValidatingSection:
    """`validating`: now and then all validation frames, and checkpoints of the best models."""

    full_validation: bool = False
    validation_freq: int = 5000
    save_best: bool = True
    save_best_dir: PathName | None = None
    max_best_ckpt: int = 1
    validation_metric: str = "E:MAE"
    full_val_file: FileName = "val.log"
    full_val_start: float = 0.5

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if min(self.validation_freq, self.max_best_ckpt) < 1 or self.full_val_start < 0.0:
            raise ValueError(
                f"validation_freq is {self.validation_freq}, max_best_ckpt {self.max_best_ckpt}, "
                f"full_val_start {self.full_val_start}; the first two must be at least 1, the last not negative"
            )
        if self.validation_metric.upper() not in METRICS:
            raise ValueError(f"validation_metric is {self.validation_metric!r}; accepted: {', '.join(METRICS)}")


@dataclass(frozen=True)
class ModelSection:
    """`model`, without descriptor and fitting."""

    type_map: tuple[str, ...]
    data_stat_nbatch: int = 10
    data_stat_protect: float = 0.01
    data_bias_nsample: int = 10
    pair_exclude_types: tuple[tuple[int, int], ...] = ()
    atom_exclude_types: tuple[int, ...] = ()
    preset_out_bias: dict[str, list[float | None]] | None = None
    use_srtab: FileName | None = None
    smin_alpha: float | None = None
    sw_rmin: float | None = None
    sw_rmax: float | None = None
    srtab_add_bias: bool = True

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.type_map or len(set(self.type_map)) != len(self.type_map):
            raise ValueError(f"type_map is {list(self.type_map)}: needs at least one element name, each once")
        if self.data_stat_nbatch < 1:
            raise ValueError(f"data_stat_nbatch is {self.data_stat_nbatch}; it must be at least 1")
        if self.data_stat_protect < 0.0:
            raise ValueError(f"data_stat_protect is {self.data_stat_protect}; it must not be negative")
        if self.data_bias_nsample < 1:
            raise ValueError(f"data_bias_nsample is {self.data_bias_nsample}; it must be at least 1")
        for name, values in (self.preset_out_bias or {}).items():
            if name != "energy" or len(values) != len(self.type_map):
                raise ValueError(
                    f"preset_out_bias: expected 'energy' with one value or null per type, "
                    f"got {name!r} with {len(values)}"
                )

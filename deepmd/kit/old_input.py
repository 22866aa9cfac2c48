"""Upgrade of inputs of old DeePMD-kit versions.

Flat inputs (0.x), inputs with the data in `training` (1.x), and keys that were in other sections (3.0, 3.1).
"""

from __future__ import annotations

import logging
from typing import Any

from deepmd.array_model.errors import InputError, nearest
from deepmd.io.checking import rename, without_comments

log = logging.getLogger(__name__)

DATA = ("systems", "set_prefix", "batch_size", "sys_probs", "sys_weights", "auto_prob", "auto_prob_style")
"""Keys of `training` in 1.x that describe the data."""

MOVED = {
    "training/opt_type": "optimizer/type",
    **{
        f"training/{key}": f"optimizer/{key}"
        for key in (
            *("adam_beta1", "adam_beta2", "weight_decay", "muon_momentum", "muon_mode", "muon_2d_only", "min_2d_dim"),
            *("lr_adjust", "lr_adjust_coeff", "enable_gram", "flash_muon", "magma_muon"),
            *("kf_blocksize", "kf_start_pref_e", "kf_limit_pref_e", "kf_start_pref_f", "kf_limit_pref_f"),
        )
    },
    **{f"training/{key}": f"learning_rate/{key}" for key in ("warmup_steps", "warmup_ratio", "warmup_start_factor")},
}
"""Keys of DeePMD-kit 3.0 and 3.1, and their places since 3.2."""

DROPPED = ("numb_test", "load_ckpt", "restart", "init_model", "init_frz_model")
"""Keys of old inputs that are dropped: validation frames, and files that are now named on the command line."""

# tables of flat inputs: old key -> key of the section
DESCRIPTOR = {
    **{"sel_a": "sel", "filter_neuron": "neuron", "filter_resnet_dt": "resnet_dt", "n_axis_neuron": "axis_neuron"},
    **{key: key for key in ("rcut", "rcut_smth", "axis_neuron", "type_one_side", "exclude_types", "set_davg_zero")},
}
LOC_FRAME = {key: key for key in ("sel_a", "sel_r", "rcut", "axis_rule")}
"""Descriptor options if `use_smooth` is not true."""
FITTING = {
    **{"fitting_neuron": "neuron", "n_neuron": "neuron", "fitting_resnet_dt": "resnet_dt", "resnet_dt": "resnet_dt"},
    **{key: key for key in ("numb_fparam", "numb_aparam", "rcond", "atom_ener")},
}
RATE = {key: key for key in ("start_lr", "stop_lr", "decay_steps", "decay_rate")}
MODEL = {key: key for key in ("type_map", "data_stat_nbatch", "data_stat_protect")}
TRAINING = {
    **{
        key: key
        for key in (
            "stop_batch",
            "numb_steps",
            "disp_file",
            "disp_freq",
            "save_freq",
            "save_ckpt",
            "max_ckpt_keep",
            *DATA,
        )
    },
    **{
        key: key
        for key in (
            "disp_training",
            "time_training",
            "profiling",
            "profiling_file",
            "tensorboard",
            "tensorboard_log_dir",
            "seed",
        )
    },
}
WITHOUT_EFFECT = {"coord_norm": True, "type_fitting_net": False, "sel_r": None, "axis_rule": None, "use_smooth": None}
"""Keys of flat inputs that are dropped, with the only accepted value (None: any, or see `_sort_flat_input`)."""


def upgrade_old_input(tree: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return an input in today's layout, and whether the layout was that of a version before 2.0.

    The seed of a flat input holds for descriptor, fitting net and training. A given `decay_rate` is replaced by the
    `stop_lr` that it leads to, as in DeePMD-kit's own conversion.
    """
    plain = _move_keys(without_comments(tree))
    if "model" not in plain and ({"sel_a", "use_smooth", "filter_neuron"} & set(plain)):
        plain = _sort_flat_input(plain)
    training = plain.get("training")
    if not isinstance(training, dict):
        return plain, False
    training = {key: value for key, value in training.items() if key not in DROPPED}
    for key in DROPPED:
        if plain["training"].get(key) is not None:
            log.warning("training/%s is a key of old versions without meaning today; it is left out", key)
    if "systems" not in training:
        return {**plain, "training": training}, False
    if "training_data" in training:
        raise InputError("training/systems (DeePMD-kit 1) and training/training_data (later ones) are given; keep one")
    data = {key: value for key in DATA if (value := training.pop(key, None)) is not None}
    rate = plain.get("learning_rate")
    if isinstance(rate, dict):
        plain = {
            **plain,
            "learning_rate": _replace_decay_rate(rate, training.get("stop_batch", training.get("numb_steps"))),
        }
    return {**plain, "training": {**training, "training_data": data}}, True


def _move_keys(tree: dict[str, Any]) -> dict[str, Any]:
    """Return an input with the keys of `MOVED` in their places; raise InputError for two values of a key."""
    out = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    for old, new in MOVED.items():
        (section, key), (target, name) = old.split("/"), new.split("/")
        if not isinstance(out.get(section), dict) or key not in out[section]:
            continue
        value = out[section].pop(key)
        place = out.setdefault(target, {})
        if not isinstance(place, dict):
            continue  # no object: the parser says so
        if place.setdefault(name, value) != value:
            raise InputError(f"{old} is {value!r}, and its place of today, {new}, is {place[name]!r}; keep the latter")
        log.warning("%s belongs to %s since DeePMD-kit 3.2, and is taken as %s", old, target, new)
    return out


def _sort_flat_input(tree: dict[str, Any]) -> dict[str, Any]:
    """Sort the keys of a flat input into sections."""
    smooth = tree.get("use_smooth", False)
    if smooth and any(tree.get("sel_r") or ()):
        raise InputError(
            f"sel_r: {tree['sel_r']!r} is known, but not supported yet: only neighbours of sel_a are seen. "
            "Remove it to go on without"
        )
    loss = {key: key for key in tree if key.startswith(("start_pref_", "limit_pref_"))}
    options = DESCRIPTOR if smooth else LOC_FRAME
    tables = {
        "descriptor": options,
        "fitting_net": FITTING,
        "learning_rate": RATE,
        "loss": loss,
        "model": MODEL,
        "training": TRAINING,
    }
    known = {*WITHOUT_EFFECT, *DROPPED, *(key for table in tables.values() for key in table)}
    for key, value in tree.items():
        if key not in known:
            kind = "an input without sections" if smooth else "an input without sections whose use_smooth is not true"
            raise InputError(f"unknown key {key!r} in {kind}.{nearest(key, sorted(known))}")
        wanted = WITHOUT_EFFECT.get(key)
        if wanted is not None and value != wanted:
            raise InputError(f"{key}: {value!r} is known, but not supported yet; accepted: {wanted}")
    parts = {name: rename({k: v for k, v in tree.items() if k in table}, table, name) for name, table in tables.items()}
    seed = {"seed": tree["seed"]} if "seed" in tree else {}
    descriptor = (
        {"type": "se_e2_a", **parts["descriptor"], **seed} if smooth else {"type": "loc_frame", **parts["descriptor"]}
    )
    model = {**parts["model"], "descriptor": descriptor, "fitting_net": {**parts["fitting_net"], **seed}}
    training = {**parts["training"], **{key: tree[key] for key in DROPPED if key in tree}}
    return {
        "model": model,
        "learning_rate": {"type": "exp", **parts["learning_rate"]},
        "loss": parts["loss"],
        "training": training,
    }


def _replace_decay_rate(rate: dict[str, Any], steps: Any) -> dict[str, Any]:
    """Replace `decay_rate` by the rate at the last step: stop_lr = start_lr * decay_rate^(steps / decay_steps)."""
    numbers = [rate.get("decay_rate"), rate.get("start_lr"), rate.get("decay_steps", 5000), steps]
    if "stop_lr" in rate or any(
        isinstance(value, bool) or not isinstance(value, int | float) or value <= 0 for value in numbers
    ):
        return rate
    decay, start, every, last = (float(value) for value in numbers)
    return {
        **{key: value for key, value in rate.items() if key != "decay_rate"},
        "stop_lr": start * decay ** (last / every),
    }

"""`dp init`: a commented input for data, with measured `sel`. Recipes: recipes.py.

Comments are keys that begin with an underscore, which this package and DeePMD-kit ignore.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.errors import InputError, nearest
from deepmd.data.label_keys import DETECTED, LabelKeys
from deepmd.data.statistics import neighbour_statistics
from deepmd.data.systems import System, count_types, elements_of, find_systems, load_system
from deepmd.io.atomic import check_output, write_text
from deepmd.io.train_input import parse_input
from deepmd.plan import slots
from deepmd.train.recipes import MESSAGES_START_LR, PREFACTORS, RECIPES, SIZES, Recipe, Section, Size

log = logging.getLogger(__name__)

ROWS, CHECKPOINTS, DECAYS = 100, 10, 200
"""Rows of the learning curve, checkpoints, and steps of the learning rate in a training."""

CLOSEST_ROWS = 20
"""Fewest steps between two rows, because a row takes the time of some updates."""

FEW = 10
"""Frames below which none are held out."""

MOST_SHOWN = 1000.0
"""Atoms of validation frames behind a row of the learning curve, which take about the time of ten updates."""

LABELS = {"e": "energy", "f": "force", "v": "virial"}


@dataclass
class Draft:
    """An input in the making.

    Attributes
    ----------
    tree : the input
    reasons : a line for each choice
    """

    tree: dict[str, Any]
    reasons: list[str] = field(default_factory=list)

    def choose(self, path: str, value: Any, reason: str) -> None:
        """Set the key at a path, with its reason as a comment before it."""
        *parents, key = path.split("/")
        section = self.tree
        for parent in parents:
            section = section.setdefault(parent, {})
        if key not in section:
            section[f"_{key}"] = reason
            section[key] = value
        else:  # the comment stands before its key
            items = {f"_{key}": reason, key: value}
            pairs = [pair for name, old in section.items() for pair in (items if name == key else {name: old}).items()]
            section.clear()
            section.update(pairs)
        self.reasons.append(f"{path} = {json.dumps(value)}: {reason}")

    def log(self) -> None:
        """Log the reasons."""
        for reason in self.reasons:
            log.info("%s", reason)


def draft_input(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    validation: float | str | Sequence[str] | None = None,
    descriptor: str = "se_e2_a",
    size: str = "small",
    steps: int | None = None,
    seed: int = 1,
    keys: LabelKeys = DETECTED,
) -> Draft:
    """Return an input for data that trains at once, and the reason of each choice.

    Parameters
    ----------
    data : folder that is searched for systems, file with systems, or a list of them
    validation : share of the frames that is held out, from 0 to 1, or data as `data`. Default: a tenth, or none of
        fewer than ten frames
    descriptor : a name of `RECIPES`
    size : a name of `SIZES`
    steps : updates; default: as the size says
    seed : of weights, batches and the choice of the held-out frames
    keys : names of the labels in files that ASE reads

    Raises
    ------
    InputError
        An argument is out of range, or the data cannot be read or have no label.
    """
    recipe, chosen = _find("descriptor", descriptor, RECIPES), _find("size", size, SIZES)
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}; accepted: a positive number of updates")
    places = _places(data)
    found = find_systems(places)
    held_out = [] if validation is None or isinstance(validation, int | float) else find_systems(_places(validation))
    aside = {os.path.realpath(path) for path in held_out}
    if any(os.path.realpath(path) in aside for path in found):  # the validation lies among the data
        places = found = [path for path in found if os.path.realpath(path) not in aside]
        if not found:
            raise InputError("validation: all data are set aside, and none are left for the training")
    elements = elements_of(found)
    types = elements or [f"Type_{number}" for number in range(count_types(found))]
    systems = [load_system(path, types, keys=keys) for path in found]
    steps = steps or chosen.steps
    draft = Draft({"_comment": "written by dp init; keys that begin with _ are comments. Train: dp train THIS_FILE"})
    number = sum(system.num_frames for system in systems)
    reason = f"the elements of the data, {number:,} frames in {len(found)} system{'s' * (len(found) > 1)}"
    unnamed = "the data name no elements: write their names here, in the order of the types"
    draft.choose("model/type_map", types, reason if elements else unnamed)
    section, shown = recipe.section(chosen), f"--descriptor {descriptor}: {recipe.meaning}"
    draft.tree["model"]["descriptor"] = {"_type": shown, **section}
    draft.reasons.append(f"model/descriptor/type = {json.dumps(section['type'])}: {recipe.meaning}")
    net = {"neuron": list(chosen.fitting), "precision": chosen.precision, "seed": 1}
    draft.tree["model"]["fitting_net"] = {"_neuron": f"--size {size}: {chosen.meaning}", **net}
    draft.reasons.append(f"size {size}: {chosen.meaning}, nets {_nets(chosen)}, {chosen.precision}")
    _choose_rate(draft, recipe, chosen, steps)
    _choose_loss(draft, systems)
    _choose_training(draft, places, validation, systems, steps, seed)
    given = {f"{name}_key": key for name, key in vars(keys).items() if key}
    for section in ("training_data", "validation_data"):
        draft.tree["training"].get(section, {}).update(given)
    _choose_slots(draft, systems)
    return draft


def write_draft(
    data: Sequence[str], output: str = "input.json", *, force: bool = False, **choices: Any
) -> dict[str, Any]:
    """Write the input of `draft_input`, log the reasons, and return the input.

    Parameters
    ----------
    output : file to write
    force : replace a file that is there
    choices : keyword arguments of `draft_input`
    """
    check_output(output, "output", text=True)
    if Path(output).is_file() and not force:
        raise InputError(f"{output}: is there already; accepted: another name (-o), or --force to replace it")
    draft = draft_input(data, **choices)
    text = json.dumps(draft.tree, indent=4, ensure_ascii=False)
    lists_in_a_row = re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text)
    write_text(output, lists_in_a_row.replace("[ ", "[").replace(" ]", "]") + "\n")
    draft.log()
    log.info("wrote %s. Next: dp train %s", output, output)
    return draft.tree


def read_validation(words: Sequence[str] | None) -> float | Sequence[str] | None:
    """Return what the words of `--validation` mean: a share of the frames, or data."""
    try:
        return float(words[0]) if words and len(words) == 1 else words
    except ValueError:
        return words


def _find(what: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise InputError(f"{what} is {name!r}; accepted: {', '.join(table)}.{nearest(name, table)}")
    return table[name]


def _places(data: Any) -> str | list[str]:
    """Return data as the key `systems` has them: one path, or a list."""
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    paths = [os.fspath(path) for path in data]
    return paths[0] if len(paths) == 1 else paths


def _nets(size: Size) -> str:
    return f"{'-'.join(map(str, size.neuron))} and {'-'.join(map(str, size.fitting))}"


def _choose_rate(draft: Draft, recipe: Recipe, size: Size, steps: int) -> None:
    start = min(size.start_lr, MESSAGES_START_LR) if recipe.messages else size.start_lr
    draft.tree["learning_rate"] = {"type": "exp"}
    draft.choose("learning_rate/start_lr", start, "larger for small nets, at most 0.001 where atoms pass messages")
    draft.choose("learning_rate/stop_lr", size.stop_lr, "errors fall until the end of the decay")
    draft.choose("learning_rate/decay_steps", max(steps // DECAYS, 1), f"the decay in {DECAYS} steps")


def _choose_loss(draft: Draft, systems: Sequence[System]) -> None:
    """Set the prefactors of the labels that the data have."""
    draft.tree["loss"] = {"type": "ener"}
    counts = {term: sum(label in system.data for system in systems) for term, label in LABELS.items()}
    if not any(counts.values()):
        raise InputError(
            f"{systems[0].path}: the data have no label of an energy model (energy.npy, force.npy, virial.npy; "
            "energy_key, ... name those of files that ASE reads)"
        )
    for term, label in LABELS.items():
        start, limit = PREFACTORS[term] if counts[term] else (0.0, 0.0)
        draft.tree["loss"].update({f"start_pref_{term}": start, f"limit_pref_{term}": limit})
        if 0 < counts[term] < len(systems):
            draft.reasons.append(f"loss: {counts[term]} of {len(systems)} systems have labels of {label}")
    have = [label for term, label in LABELS.items() if counts[term]]
    lack = [label for term, label in LABELS.items() if not counts[term]]
    reason = f"the data have labels of {', '.join(have)}{' and none of ' + ', '.join(lack) if lack else ''}; "
    reason += "forces lead at the start, the energy counts in the end"
    draft.tree["loss"] = {"_comment": reason, **draft.tree["loss"]}
    draft.reasons.append(f"loss: {reason}")


def _choose_training(
    draft: Draft, places: str | list[str], validation: Any, systems: Sequence[System], steps: int, seed: int
) -> None:
    frames = sum(system.num_frames for system in systems)
    atoms = sum(system.num_frames * system.num_atoms for system in systems) / frames
    training: Section = {"training_data": {"systems": places}}
    draft.tree["training"] = training
    draft.choose("training/training_data/batch_size", "auto", "as many frames as hold 32 atoms")
    if validation is None:
        validation = 0.1 if frames >= FEW else 0.0
        why = "a tenth of the frames, for the errors that count" if validation else f"{frames} frames are too few"
    elif isinstance(validation, int | float):
        why = "as asked for"
    else:
        training["validation_data"] = {"systems": _places(validation)}
    if isinstance(validation, int | float):
        if not 0.0 <= validation < 1.0:
            raise InputError(f"validation is {validation}; accepted: a share from 0 to below 1, or data")
        if validation:
            draft.choose("training/training_data/validation_fraction", float(validation), why)
    else:
        draft.choose("training/validation_data/batch_size", 1, "frames of a validation batch")
        number = max(int(MOST_SHOWN / atoms), 1)
        draft.choose("training/validation_data/numb_btch", number, "batches behind each row of the learning curve")
    passes = steps * max(1.0, 32.0 / atoms) / frames
    more = "" if passes >= 1.0 else "; fewer than one: take more steps (--steps)"
    draft.choose("training/numb_steps", steps, f"about {passes:,.3g} passes over the frames{more}")
    training["seed"] = seed
    between = max(steps // ROWS, min(CLOSEST_ROWS, steps))
    draft.choose("training/disp_freq", between, f"steps between the rows of lcurve.out: {steps // between}")
    draft.choose("training/save_freq", max(steps // CHECKPOINTS, 1), "steps between the checkpoints")


def _choose_slots(draft: Draft, systems: Sequence[System]) -> None:
    """Replace every automatic `sel` by a number from the neighbours of the data."""
    model = parse_input(draft.tree).model
    distance, counts = neighbour_statistics(systems, sorted(slots.find_cutoffs(model)), model.ntypes)
    (part,) = descriptors_of(slots.resolve_sel(model, counts.__getitem__))
    for name, (rcut, number) in part.slot_options().items():
        most = [sum(counts[rcut])] if part.mixed else counts[rcut]
        value = list(number) if isinstance(number, tuple) else number
        told = ", ".join(map(str, most)) + ("" if part.mixed else f" ({' '.join(model.type_map)})")
        reason = (
            f"most neighbours of an atom within {rcut:g} Å in the data: {told}; a tenth more, and up to a multiple of 4"
        )
        draft.choose(f"model/descriptor/{name}", value, reason)
    draft.reasons.append(f"shortest distance in the data: {distance:.3f} Å")

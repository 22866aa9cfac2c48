"""Data of a training: search and reading of systems, neighbour statistics, automatic `sel`, summary in the log."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.data.batch import data_of
from deepmd.data.label_keys import keys_of
from deepmd.data.sampling import SamplingRule, make_rule
from deepmd.data.selection import identify_data
from deepmd.data.split import split_systems
from deepmd.data.stat_file import key_of, load_or_compute
from deepmd.data.statistics import neighbour_statistics
from deepmd.data.systems import System, find_systems, load_system
from deepmd.io.model_file import ModelFile, shortest
from deepmd.io.sections import DataSection, ValidationSection
from deepmd.io.train_input import TrainInput
from deepmd.plan import slots
from deepmd.world import World

log = logging.getLogger(__name__)

DATA, VALIDATION = "training/training_data", "training/validation_data"
"""Names of the data sections in errors."""

LONGEST_PATH = 42
"""Characters of a path in the summary; longer paths are cut at their beginning."""


def find_folders(section: DataSection | None, where: str) -> list[str]:
    """Return the paths of the systems of a data section; errors name the section `where`."""
    if section is None:
        return []
    systems = section.systems if isinstance(section.systems, str) else list(section.systems)
    found = find_systems(systems, section.rglob_patterns)
    if not found:
        raise InputError(f"{where}/systems: the list is empty")
    return found


def load_data(
    options: TrainInput, folders: Sequence[str], more_folders: Sequence[str], processes: int = 1
) -> tuple[SamplingRule, SamplingRule | None]:
    """Read training and validation systems; return the rules by which batches are drawn from them.

    Training batches are those of all processes. `validation_fraction` sets frames of the training systems aside.
    """
    section, more = options.data, options.validation
    systems = _load(options, section, folders, DATA)
    if section.validation_fraction:
        systems, aside = split_systems(systems, section.validation_fraction, section.validation_seed)
        sizes = section.batch_size if isinstance(section.batch_size, int | str) else "auto"
        counts = [sum(system.num_frames for system in each) for each in (aside, [*aside, *systems])]
        log.info("%d of %d frames are set aside for validation", *counts)
        validation = _make_rule(options, ValidationSection(section.systems, batch_size=sizes), aside, DATA)
    elif more is not None:
        validation = _make_rule(options, more, _load(options, more, more_folders, VALIDATION), VALIDATION)
    else:
        validation = None
    return _make_rule(options, section, systems, DATA, processes), validation


def _load(options: TrainInput, section: DataSection, folders: Sequence[str], where: str) -> list[System]:
    names, labels = data_of(options.model, options.loss), options.loss.labels()
    model, keys = options.model, keys_of(section)
    systems = [load_system(path, model.type_map, names, model.atom_exclude_types, keys) for path in folders]
    if not any(label in system.data for system in systems for label in labels):
        raise InputError(f"{where}: no system has any of the labels that the loss reads ({', '.join(labels)})")
    return systems


def _make_rule(
    options: TrainInput, section: DataSection, systems: Sequence[System], where: str, processes: int = 1
) -> SamplingRule:
    """Return the rule by which batches of all processes are drawn from the systems."""
    rule = make_rule(systems, section.batch_size, section.auto_prob, section.sys_probs, where, processes)
    for label in options.loss.labels() if rule.mixed else ():  # a batch trains only on labels that all its frames have
        without = [system.path for system in rule.systems if label not in system.data]
        if 0 < len(without) < len(rule.systems):
            text = f"{section.batch_size!r} mixes systems; {without[0]} lacks {label}.npy, which others have"
            raise InputError(f"{where}/batch_size: {text}")
    return rule


def prepare_sel(
    options: TrainInput, systems: Sequence[System], source: ModelFile | None, skip: bool, world: World
) -> tuple[TrainInput, float | None]:
    """Replace an automatic `sel` by numbers, and find the shortest distance between two atoms.

    Parameters
    ----------
    source : the file to start from, whose `sel` takes precedence over the data
    skip : use no neighbour statistics of the data
    world : the processes that share the systems out

    Returns
    -------
    The input with numbers, and the shortest distance (Angstrom) of the data and of `source`; None if unknown.
    """
    known = None if source is None else source.min_nbor_dist
    if source is not None:
        options = replace(options, model=slots.take_sel(options.model, source.model))
    model, automatic = options.model, slots.find_automatic(options.model)
    if skip:
        if automatic:
            raise InputError(
                f"model/descriptor/sel: {automatic[0]!r} needs the neighbour statistics "
                "that --skip-neighbor-stat leaves out; give numbers"
            )
        return options, known
    distance, counts = _search(options, systems, world)
    most = counts[max(counts)]
    log.info("training data with min nbor dist: %f", distance)
    log.info("training data with max nbor size: %s", most)
    options = replace(options, model=slots.resolve_sel(model, counts.__getitem__))
    layout = options.model.layout()
    if automatic:
        log.info("sel is %s", list(layout.sel))
    elif any(count > places for count, places in zip([sum(most)] if layout.mixed else most, layout.sel, strict=True)):
        log.warning(
            "sel = %s is smaller than the neighbour numbers %s of the data: the farthest neighbours are left out",
            list(layout.sel),
            most,
        )
    return options, shortest(known, distance)


def _search(options: TrainInput, systems: Sequence[System], world: World) -> tuple[float, dict[float, list[int]]]:
    """Return `neighbour_statistics` of the training data, from `stat_file` if they are there."""
    model, training = options.model, options.training
    cutoffs = sorted(slots.find_cutoffs(model))

    def compute() -> dict[str, np.ndarray]:
        shares = world.gather(neighbour_statistics(systems[world.rank :: world.size], cutoffs, model.ntypes))
        distance = min(each for each, _ in shares)
        known = {"shortest": np.array(distance)} if math.isfinite(distance) else {}  # none within the cutoffs
        most = np.max([[counts[rcut] for rcut in cutoffs] for _, counts in shares], axis=0)
        return {**known, "neighbours": most}

    split = [options.data.validation_fraction, options.data.validation_seed] if options.data.validation_fraction else []
    key = key_of(["neighbours", cutoffs, model.type_map, identify_data(system.path for system in systems), *split])
    found = load_or_compute(training.stat_file, training.stat_file_mode, key, compute, required=False, world=world)
    counts = dict(zip(cutoffs, found["neighbours"].tolist(), strict=True))
    return float(found.get("shortest", math.inf)), counts


def log_summary(name: str, rule: SamplingRule) -> None:
    """Log a table of the systems of a sampling rule."""
    log.info("---Summary of DataSystem: %-12s-----------------------------------------------", name)
    log.info("found %d system(s):", len(rule.systems))
    log.info("%42s  %6s  %6s  %6s  %9s  %3s", "system", "natoms", "bch_sz", "n_bch", "prob", "pbc")
    for system, size, count, probability in zip(
        rule.systems, rule.batch_size, rule.num_batches, rule.probability, strict=True
    ):
        path = system.path if len(system.path) <= LONGEST_PATH else f"-- {system.path[3 - LONGEST_PATH :]}"
        periodic = "F" if system.cell is None else "T"
        log.info("%42s  %6d  %6d  %6d  %9.3e  %3s", path, system.num_atoms, size, count, probability, periodic)
    log.info("-" * 86)

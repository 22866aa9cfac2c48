"""What `dp train` and `dp freeze` do."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.adapters.training import Adam, Progress, Task
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten, paths, replace_leaves
from deepmd.data import statistics
from deepmd.data.batch import data_of
from deepmd.data.batches import Plan, Sampler, make_plan
from deepmd.data.selection import files_of
from deepmd.data.stat_file import cached, key_of
from deepmd.data.systems import count_types, elements_of, find_systems, load_system
from deepmd.host import plain
from deepmd.io.atomic import write_text
from deepmd.io.formats import LAMMPS, WRITABLE, backend_of, check_target, framework, load_model, save_model
from deepmd.io.model_file import ModelFile, model_to_dict, shortest
from deepmd.io.sections import AdamWSection, DataSection
from deepmd.io.train_input import TrainInput, parse_input, read_input
from deepmd.losses import EnerLoss, Target
from deepmd.plan import slots
from deepmd.plan.expansions import with_evaluation
from deepmd.train.bias import fitted_bias
from deepmd.train.checkpoints import MODULES, locate, module_of
from deepmd.train.expanding import ExpandingTrainer
from deepmd.train.loop import OnRow, Run, run_loop
from deepmd.train.others import Others
from deepmd.train.places import COMPATIBLE, OUTPUT, check_places, go_on, others_of
from deepmd.train.schedule import learning_rate
from deepmd.train.trained import flagged, made_equal, shared
from deepmd.train.validating import FullValidation
from deepmd.version import __version__

log = logging.getLogger(__name__)

DATA, VALIDATION = "training/training_data", "training/validation_data"

TRAINERS = {"torch": "deepmd.adapters.torch.trainer", "tf": "deepmd.adapters.tf.trainer"}


def train(
    input_path: str | os.PathLike[str],
    *,
    backend: str = "torch",
    init_model: str | None = None,
    restart: str | None = None,
    init_frz_model: str | None = None,
    finetune: str | None = None,
    use_pretrain_script: bool = False,
    output: str = OUTPUT,
    skip_neighbor_stat: bool = False,
    on_row: OnRow | None = None,
) -> None:
    """Train a model as an input file says; write the learning curve, checkpoints and the completed input.

    Parameters
    ----------
    input_path : input.json
    backend : "torch" or "tf"
    init_model, init_frz_model : a checkpoint or model file of any format to take the parameters from
    restart : a checkpoint of the same backend to continue
    finetune : a checkpoint or model file to take the parameters from; its energy biases are fitted to the new data first
    use_pretrain_script : take the `model` section of the file to start from, but for the type map
    output : where the input with all defaults is written
    skip_neighbor_stat : do not go through the data for the shortest distance and the largest neighbour numbers
    on_row : called with each row of the learning curve, unrounded

    Raises
    ------
    InputError
        Anything about the input, the data or the files that cannot be used.
    """
    if backend not in MODULES:
        raise InputError(f"the {backend} backend does not train; backends that do: {', '.join(MODULES)}")
    if sum(source is not None for source in (init_model, restart, init_frz_model, finetune)) > 1:
        raise InputError("--init-model, --restart, --init-frz-model and --finetune exclude each other")
    framework(TRAINERS[backend], backend)  # missing packages show before the data are read
    tree, old = read_input(input_path)
    source, progress = _source(backend, init_model or init_frz_model or finetune, restart)
    if use_pretrain_script:
        tree = _with_definition(tree, source)
    elif old:
        tree = _with_type_map(tree)
    options = parse_input(tree)
    seed = _seed(options, progress)
    folders = [_folders(section, where) for section, where in ((options.data, DATA), (options.validation, VALIDATION))]
    named = [
        leaf for leaf in flatten(tree["model"]).values() if isinstance(leaf, str)
    ]  # tables and frozen models among them
    started = [locate(path) for path in (init_model, restart, init_frz_model, finetune) if path is not None]
    reads = [input_path, *started, *named, *files_of([*folders[0], *folders[1]])]
    check_places(options, module_of(backend).ENDINGS, output, old, reads)
    plan = _plan(options, options.data, folders[0], DATA)
    validation = None if options.validation is None else _plan(options, options.validation, folders[1], VALIDATION)
    options, distance = _neighbours(options, plan, source, skip_neighbor_stat)
    sampler = Sampler(plan, seed)
    params = _initial(options, sampler) if source is None else _taken(options, source)
    options = replace(options, loss=options.loss.suited(Target.of(options.model, params)))
    content = ModelFile(options.model, params, options.model_dict(), distance)

    def refitted(params: Params) -> Params:
        return fitted_bias(content.with_params(params), statistics.sample(sampler, options.section.data_bias_nsample))

    if finetune is not None:
        params = refitted(params)
    numb_steps = options.training.numb_steps
    if numb_steps is None:
        numb_steps = math.ceil((options.training.numb_epoch or 0.0) * plan.epoch)
    start = progress.step if progress else 0
    if start > numb_steps:
        raise InputError(f"training/numb_steps: {numb_steps}, but the checkpoint {restart} is at step {start} already")

    same = shared(options.model, params)
    trainable = tuple(
        path for path in flagged(params, options.model.trainables()) if path not in options.given and path not in same
    )
    if not trainable and numb_steps > 0:
        raise InputError("model: nothing is trainable. Without training, numb_steps = 0 writes the model as it is")
    model = with_evaluation(options.model, progress.evaluation) if progress else options.model
    task = Task(model, trainable, options.loss, _adam(options), same)
    trainer = ExpandingTrainer(framework(TRAINERS[backend], backend).trainer, task, params, distance)
    if progress:
        _check_moments(progress, trainable, str(restart))
        trainer.restore(progress.moments, progress.step)
    others = others_of(options, started[0] if progress else None, start)
    full = _full_validation(options, validation, backend, numb_steps, start, others)
    if old:
        write_text(COMPATIBLE, json.dumps(tree, indent=4) + "\n")
        log.info("the input has the layout of an old DeePMD-kit version; in today's it is %s", COMPATIBLE)
    write_text(output, json.dumps(options.as_dict(), indent=4) + "\n")
    _summary(backend, plan, validation, params, trainable)
    run = Run(
        options=options,
        content=content,
        backend=backend,
        train=sampler,
        validation=None if validation is None else Sampler(validation, seed + 1),
        lr=learning_rate(options.learning_rate, numb_steps),
        numb_steps=numb_steps,
        seed=seed,
        others=others,
        go_on=go_on(options, backend, input_path, output, use_pretrain_script),
        finish=refitted if options.training.change_bias_after_training else None,
        full=full,
    )
    with contextlib.ExitStack() as stack:
        if full is not None:
            stack.enter_context(contextlib.closing(full))
        run_loop(run, trainer, start, on_row)


def freeze(checkpoint: str = ".", output: str = "frozen_model", backend: str | None = None) -> Path:
    """Write the model of a checkpoint (a file, a prefix, or the folder of a training) as a model file; return its path.

    Without a suffix the output gets that of the backend which trained it (`.pth`, `.pb`).

    Raises
    ------
    InputError
        There is no checkpoint, or the output cannot be written.
    """
    source = locate(checkpoint)
    target = Path(output)
    if target.suffix not in WRITABLE:
        target = Path(f"{output}{'.pb' if (backend or backend_of(source)) == 'tf' else '.pth'}")
    check_target(target, source)
    content = load_model(source)
    save_model(target, content)
    log.info("Saved frozen model to %s", target)
    if target.suffix in LAMMPS and content.model.output.name == "energy":
        log.info(
            "LAMMPS: pair_style deepmd %s\n        pair_coeff * * %s", target.name, " ".join(content.model.type_map)
        )
    return target


# -- steps of `train`
# ---------------------------------------------------------------------------------------------------


def _source(backend: str, init: str | None, restart: str | None) -> tuple[ModelFile | None, Progress | None]:
    if restart is not None:
        path = locate(restart)
        if backend_of(path) != backend or path.suffix not in (".pt", ".index"):
            raise InputError(
                f"--restart {restart}: not a checkpoint of the {backend} backend. To go on with its parameters only, use --init-model"
            )
        source, progress = module_of(backend).load_training(path)
        return source, progress
    return (None, None) if init is None else (load_model(locate(init)), None)


def _with_definition(tree: dict[str, Any], source: ModelFile | None) -> dict[str, Any]:
    """Return the input with the `model` section that the file to start from was trained with."""
    if source is None or not source.definition:
        raise InputError(
            "--use-pretrain-script: needs a model file to start from that holds the input of its training; this one has none"
        )
    section = tree.get("model")
    own = {"type_map": section["type_map"]} if isinstance(section, dict) and "type_map" in section else {}
    return {**tree, "model": {**source.definition, **own}}


def _with_type_map(tree: dict[str, Any]) -> dict[str, Any]:
    """Return an old input, which may lack the type map, with that of its data."""
    section, data = tree.get("model"), tree["training"]["training_data"]["systems"]
    named = isinstance(data, str) or (isinstance(data, list) and all(isinstance(path, str) for path in data))
    if not isinstance(section, dict) or "type_map" in section or not named:
        return tree
    found = find_systems(data)
    names = elements_of(found) or [f"Type_{number}" for number in range(count_types(found))]
    log.info("model/type_map is missing; that of the data is %s", names)
    return {**tree, "model": {"type_map": names, **section}}


def _adam(options: TrainInput) -> Adam:
    optimizer = options.optimizer
    return Adam(
        optimizer.adam_beta1,
        optimizer.adam_beta2,
        optimizer.weight_decay,
        decoupled=isinstance(optimizer, AdamWSection),
        max_norm=options.training.gradient_max_norm or 0.0,
    )


def _full_validation(
    options: TrainInput, validation: Plan | None, backend: str, numb_steps: int, start: int, others: Others
) -> FullValidation | None:
    if not options.validating.full_validation:
        return None
    if not isinstance(options.loss, EnerLoss):
        raise InputError(
            f"validating/full_validation: energies, forces and virials only; the loss is of type {options.loss.kind!r}"
        )
    systems = () if validation is None else validation.systems
    return FullValidation(
        options.validating, options.loss, systems, backend, numb_steps, start, module_of(backend).ENDINGS, others
    )


def _seed(options: TrainInput, progress: Progress | None) -> int:
    if progress is not None:
        return progress.seed
    if options.training.seed is not None:
        return abs(options.training.seed)
    return int(np.random.SeedSequence().entropy) % 2**31  # type: ignore[arg-type]


def _folders(section: DataSection | None, where: str) -> list[str]:
    """Return the paths of the systems of a section."""
    if section is None:
        return []
    found = find_systems(
        section.systems if isinstance(section.systems, str) else list(section.systems), section.rglob_patterns
    )
    if not found:
        raise InputError(f"{where}/systems: the list is empty")
    return found


def _plan(options: TrainInput, section: DataSection, folders: Sequence[str], where: str) -> Plan:
    names = data_of(options.model.output, options.loss)
    systems = [load_system(path, options.model.type_map, names, options.model.atom_exclude_types) for path in folders]
    if not any(label in system.data for system in systems for label in options.loss.labels()):
        raise InputError(
            f"{where}: no system has any of the labels that the loss reads ({', '.join(options.loss.labels())})"
        )
    plan = make_plan(systems, section.batch_size, section.auto_prob, section.sys_probs, where)
    for label in options.loss.labels() if plan.mixed else ():  # a batch trains on a label that all its frames have
        without = [system.path for system in plan.systems if label not in system.data]
        if 0 < len(without) < len(plan.systems):
            text = f"{section.batch_size!r} mixes systems; {without[0]} lacks {label}.npy, which others have"
            raise InputError(f"{where}/batch_size: {text}")
    return plan


def _neighbours(
    options: TrainInput, plan: Plan, source: ModelFile | None, skip: bool
) -> tuple[TrainInput, float | None]:
    """Resolve an automatic `sel`, and find the shortest distance (Angstrom) of the data and of the file to start from."""
    known = None if source is None else source.min_nbor_dist
    if source is not None:
        options = options.with_model(slots.taken(options.model, source.model))
    model, asked = options.model, slots.automatic(options.model)
    if skip:
        if asked:
            raise InputError(
                f"model/descriptor/sel: {asked[0]!r} needs the neighbour statistics that --skip-neighbor-stat leaves out; give numbers"
            )
        return options, known
    distance, found = math.inf, {}
    for rcut in slots.cutoffs(model):
        nearest, found[rcut] = statistics.neighbour_statistics(plan.systems, rcut, model.ntypes)
        distance = min(distance, nearest)
    most = found[max(found)]
    log.info("training data with min nbor dist: %f", distance)
    log.info("training data with max nbor size: %s", most)
    options = options.with_model(slots.resolved(model, found.__getitem__))
    layout = options.model.layout()
    if asked:
        log.info("sel is %s", list(layout.sel))
    elif any(count > places for count, places in zip([sum(most)] if layout.mixed else most, layout.sel, strict=True)):
        log.warning(
            "sel = %s is smaller than the neighbour numbers %s of the data: the farthest neighbours are left out",
            list(layout.sel),
            most,
        )
    return options, shortest(known, distance)


def _initial(options: TrainInput, sampler: Sampler) -> Params:
    """Fresh parameters with the statistics of the data."""
    model = options.model
    params = made_equal(model, model.init(np.random.default_rng, xp=plain))
    params = replace_leaves(params, {**flatten(params), **options.given})
    fresh = flatten(params)
    if set(fresh) - {"out_std"} <= set(options.given):
        return params  # tables and frozen models bring along all that there is
    known = set(options.given) - {"out_bias"}

    def compute() -> dict[str, np.ndarray]:
        frames = statistics.sample(sampler, options.section.data_stat_nbatch)
        after = flatten(statistics.apply_statistics(model, params, frames, options.section.data_stat_protect))
        return {
            path.replace("/", "."): leaf
            for path, leaf in after.items()
            if path not in known and not np.array_equal(leaf, fresh[path])
        }

    # as in DeePMD-kit, statistics are known by the model: they may have been gathered on other, larger data
    kept = cached(
        options.training.stat_file,
        options.training.stat_file_mode,
        key_of(_without_chance(options.model_dict())),
        compute,
    )
    found = {path: kept.get(path.replace("/", "."), leaf) for path, leaf in fresh.items()}
    out: Params = replace_leaves(params, found)
    return out


def _without_chance(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a `model` section without what statistics do not depend on."""
    free = ("seed", "trainable", "evaluation", "data_bias_nsample")
    return {
        key: _without_chance(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if key not in free
    }


def _taken(options: TrainInput, source: ModelFile) -> Params:
    """Parameters of another model file, if it describes the same model as the input."""
    wanted = options.model.init(np.random.default_rng, xp=plain)
    ours, theirs = model_to_dict(options.model, paths(wanted)), model_to_dict(source.model, paths(source.params))
    difference = _difference(ours, theirs, "model")
    if difference:
        raise InputError(f"the input describes another model than the file to start from: {difference}")
    return source.params


def _difference(ours: Any, theirs: Any, where: str) -> str:
    """Describe the first difference between two stored forms; what may change between runs is ignored."""
    free = ("trainable", "rcond", "preset_out_bias", "set_davg_zero")
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [key for key in {**ours, **theirs} if key not in free]:
            found = _difference(ours.get(key), theirs.get(key), f"{where}/{key}")
            if found:
                return found
        return ""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return next(
            (
                text
                for k, pair in enumerate(zip(ours, theirs, strict=True))
                if (text := _difference(*pair, f"{where}/{k}"))
            ),
            "",
        )
    return "" if ours == theirs else f"{where} is {ours!r} in the input and {theirs!r} in the file"


def _check_moments(progress: Progress, trainable: tuple[str, ...], restart: str) -> None:
    stored = {name.partition("/")[2] for name in progress.moments}
    if progress.moments and stored != set(trainable):
        raise InputError(
            f"--restart {restart}: the input trains other parameters than the checkpoint ('trainable' differs). Use --init-model"
        )


def _summary(backend: str, plan: Plan, validation: Plan | None, params: Params, trainable: tuple[str, ...]) -> None:
    log.info(
        "deepmd %s, %s backend, Python %s, OMP_NUM_THREADS=%s",
        __version__,
        backend,
        platform.python_version(),
        os.environ.get("OMP_NUM_THREADS", "unset"),
    )
    for name, each in (("training", plan), ("validation", validation)):
        if each is None:
            continue
        log.info("---Summary of DataSystem: %-12s-----------------------------------------------", name)
        log.info("found %d system(s):", len(each.systems))
        log.info("%42s  %6s  %6s  %6s  %9s  %3s", "system", "natoms", "bch_sz", "n_bch", "prob", "pbc")
        for system, size, count, probability in zip(
            each.systems, each.batch_size, each.num_batches, each.probability, strict=True
        ):
            text = system.path if len(system.path) <= 42 else f"-- {system.path[-39:]}"
            log.info(
                "%42s  %6d  %6d  %6d  %9.3e  %3s",
                text,
                system.num_atoms,
                size,
                count,
                probability,
                "F" if system.cell is None else "T",
            )
        log.info("-" * 86)
    sizes = {path: np.size(leaf) for path, leaf in flatten(params).items()}
    millions = sum(sizes.values()) / 1e6, sum(sizes[path] for path in trainable) / 1e6
    log.info("Model Params: %.3f M   (Trainable: %.3f M)", *millions)

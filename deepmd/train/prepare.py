"""From an input to a `Job`: everything that is checked, read and decided before the first step (`loop.py`)."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from deepmd.adapters.contracts import checkpoint_module, trainer_module
from deepmd.adapters.training import Adam, Progress, Task
from deepmd.array_model.components import trainable_flags
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten
from deepmd.backends import BACKENDS
from deepmd.data.sampling import Sampler
from deepmd.data.selection import files_of
from deepmd.data.statistics import sample
from deepmd.data.systems import count_types, elements_of, find_systems
from deepmd.io.atomic import write_text
from deepmd.io.model_file import ModelFile
from deepmd.io.sections import AdamWSection
from deepmd.io.train_input import TrainInput, data_section, lacks_type_map, parse_input, read_input
from deepmd.io.write_input import input_tree, model_tree
from deepmd.losses import Target
from deepmd.train.bias import fitted_bias
from deepmd.train.checkpoints import locate
from deepmd.train.clock import Stages
from deepmd.train.data import DATA, VALIDATION, find_folders, load_data, log_summary, prepare_sel
from deepmd.train.loop import Job
from deepmd.train.other_training import OtherTraining
from deepmd.train.places import COMPATIBLE, OUTPUT, check_places, go_on, lock_places
from deepmd.train.planning import Planner
from deepmd.train.schedule import learning_rate, scaled
from deepmd.train.start import Continue, FineTune, Start, check_same_model, initial_params, load_start, resolve
from deepmd.train.trainable import find_shared, trainable_paths
from deepmd.train.validating import FullValidation
from deepmd.version import __version__
from deepmd.world import World, restartable

log = logging.getLogger(__name__)


def prepare(
    input_path: str | os.PathLike[str],
    start: Start,
    world: World,
    locks: ExitStack,
    *,
    backend: str,
    use_pretrain_script: bool = False,
    output: str = OUTPUT,
    skip_neighbor_stat: bool = False,
) -> Job:
    """Check an input, read its data, write the completed input, and return the training as a job.

    Arguments and errors as for `deepmd.train.main.train`. `world`: the processes that train together. `locks`: receives
    locks of the files that the training writes.
    """
    training = [name for name, row in BACKENDS.items() if row.trains]
    if backend not in training:
        raise InputError(f"the {backend} backend does not train; backends that do: {', '.join(training)}")
    stages = Stages()
    stages.begin(f"loading {BACKENDS[backend].package}")
    make_trainer = trainer_module(backend).trainer  # a missing package is an error before anything is read
    stages.begin("reading the input and the data")
    tree, old = read_input(input_path)
    start = resolve(start, tree, backend, world)
    source, progress = load_start(start, backend)
    if use_pretrain_script:
        tree = _with_definition(tree, source)
    else:
        tree = _with_type_map(tree, source)
    options = parse_input(tree)

    folders, more_folders = find_folders(options.data, DATA), find_folders(options.validation, VALIDATION)
    started = [] if start.path is None else [locate(start.path, backend)]
    tables = [leaf for leaf in flatten(tree["model"]).values() if isinstance(leaf, str)]  # and frozen models among them
    reads = [input_path, *started, *tables, *files_of([*folders, *more_folders])]
    if world.leads:
        check_places(options, checkpoint_module(backend).ENDINGS, output, old, reads)
        lock_places(options, locks)
    data, more = load_data(options, folders, more_folders, world.size)

    stages.begin("counting neighbours")
    options, distance = prepare_sel(options, data.systems, source, skip_neighbor_stat, world)
    seed = progress.seed if progress else world.from_leader(_seed(options))
    sampler = Sampler(data, seed)
    stages.begin("initial weights, statistics of the data" if source is None else "weights of the file to start from")
    if source is None:
        params = initial_params(options, sampler, world)
    else:
        check_same_model(options, source)
        params = source.params
    options = replace(options, loss=options.loss.with_target(Target.of(options.model, params)))
    content = ModelFile(options.model, params, model_tree(options), distance)

    def refit(params: Params) -> Params:
        frames = sample(sampler, options.model_section.data_bias_nsample)
        fitted = fitted_bias(content.with_params(params), frames, backend=backend) if world.leads else params
        return world.from_leader(fitted)

    if isinstance(start, FineTune):
        params = refit(params)
    numb_steps = options.training.numb_steps
    if numb_steps is None:
        numb_steps = math.ceil((options.training.numb_epoch or 0.0) * data.steps_per_epoch)
    done = progress.step if progress else 0
    if done > numb_steps:
        raise InputError(
            f"training/numb_steps: {numb_steps}, but the checkpoint {start.path} is at step {done} already"
        )

    task = _make_task(options, params, progress, numb_steps, f"--restart {start.path}", world)
    stages.begin("planning expansions, making the trainer")
    planner = Planner(options.model, params, distance, progress.terms if progress else None)
    trainer = make_trainer(task, params, planner.plan)
    if progress:
        trainer.restore(progress.moments, progress.step)
    others = OtherTraining(options, started[0] if isinstance(start, Continue) else None, done)
    if world.leads and restartable():
        others.move()  # because processes that are started again continue the checkpoint that they find
    full = None
    if options.validating.full_validation:
        full = FullValidation(options, () if more is None else more.systems, backend, numb_steps, done, others, world)
    if old and world.leads:
        write_text(COMPATIBLE, json.dumps(tree, indent=4) + "\n")
        log.info("the input has the layout of an old DeePMD-kit version; in today's it is %s", COMPATIBLE)
    if world.leads:
        write_text(output, json.dumps(input_tree(options), indent=4) + "\n")
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    log.info(
        "deepmd %s, %s backend, Python %s, OMP_NUM_THREADS=%s", __version__, backend, platform.python_version(), threads
    )
    rate = scaled(options.learning_rate, world.size)
    if world.size > 1:
        log.info(
            "%d processes; a batch is that of all together. start_lr is %g, scaled by the rule %r of scale_by_worker",
            world.size,
            rate.start_lr,
            rate.scale_by_worker,
        )
    for name, each in (("training", data), ("validation", more)):
        if each is not None:
            log_summary(name, each)
    sizes = {path: np.size(leaf) for path, leaf in flatten(params).items()}
    trained = sum(sizes[path] for path in task.trainable)
    log.info("Model Params: %.3f M   (Trainable: %.3f M)", sum(sizes.values()) / 1e6, trained / 1e6)
    log.info(stages.summary())
    return Job(
        options=options,
        content=content,
        backend=backend,
        trainer=trainer,
        planner=planner,
        train=sampler,
        validation=None if more is None else Sampler(more, seed + 1),
        lr=learning_rate(rate, numb_steps),
        prefactors=lambda lr: options.loss.prefactors(lr / rate.start_lr),
        done=done,
        numb_steps=numb_steps,
        seed=seed,
        others=others,
        go_on=go_on(options, backend, input_path, output, use_pretrain_script),
        finish=refit if options.training.change_bias_after_training else None,
        full=full,
        world=world,
        covered=not skip_neighbor_stat,
    )


def _with_definition(tree: dict[str, Any], source: ModelFile | None) -> dict[str, Any]:
    """Return the input with the `model` section that the file to start from was trained with, but for the type map."""
    if source is None or not source.definition:
        raise InputError(
            "--use-pretrain-script: needs a model file to start from that holds the input of its training; "
            "this one has none"
        )
    section = tree.get("model")
    own = {"type_map": section["type_map"]} if isinstance(section, dict) and "type_map" in section else {}
    return {**tree, "model": {**source.definition, **own}}


def _with_type_map(tree: dict[str, Any], source: ModelFile | None) -> dict[str, Any]:
    """Return an input with a type map: its own, that of the file to start from, or that of its data."""
    if not lacks_type_map(tree):
        return tree
    if source is not None:
        names = list(source.model.type_map)
    else:
        data = data_section(tree)
        found = find_systems(data.systems if isinstance(data.systems, str) else list(data.systems), data.rglob_patterns)
        names = elements_of(found) or [f"Type_{number}" for number in range(count_types(found))]
    log.info("model/type_map is missing; that of the %s is %s", "data" if source is None else "file", names)
    return {**tree, "model": {"type_map": names, **tree["model"]}}


def _seed(options: TrainInput) -> int:
    """Return the seed of a new training, random if the input has none."""
    if options.training.seed is not None:
        return abs(options.training.seed)
    return int(np.random.SeedSequence().entropy) % 2**31  # type: ignore[arg-type]


def _make_task(
    options: TrainInput,
    params: Params,
    progress: Progress | None,
    numb_steps: int,
    checkpoint: str,
    world: World,
) -> Task:
    """Return the task of the trainer; `checkpoint` names the restart in errors."""
    model, optimizer = options.model, options.optimizer
    shared = find_shared(model, params)
    fixed = {*options.fixed_params, *shared}
    trainable = tuple(path for path in trainable_paths(params, trainable_flags(model)) if path not in fixed)
    if not trainable and numb_steps > 0:
        raise InputError("model: nothing is trainable. Without training, numb_steps = 0 writes the model as it is")
    if progress:
        stored = {name.partition("/")[2] for name in progress.moments}
        if stored and stored != set(trainable):
            raise InputError(
                f"{checkpoint}: the input trains other parameters than the checkpoint ('trainable' differs). "
                "Use --init-model"
            )
    adam = Adam(
        optimizer.adam_beta1,
        optimizer.adam_beta2,
        optimizer.weight_decay,
        decoupled=isinstance(optimizer, AdamWSection),
        max_norm=options.training.gradient_max_norm or 0.0,
    )
    return Task(model, trainable, options.loss, adam, shared, world)

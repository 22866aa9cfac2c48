"""`dp train` and `dp freeze`: the public functions behind the commands."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deepmd.array_model.errors import InputError
from deepmd.backends import BACKENDS, asked_backend, default_backend, framework, tell_choice
from deepmd.io.formats import LAMMPS, WRITABLE, backend_of, check_target, load_model, save_model
from deepmd.train.checkpoints import locate
from deepmd.train.loop import OnRow, run
from deepmd.train.places import OUTPUT
from deepmd.train.prepare import prepare
from deepmd.train.start import Continue, FineTune, Fresh, Named, Newest, Start, Take, backend_of_start
from deepmd.world import ALONE, World, processes, restarts

FAILED = 2
"""Exit code of a process that fails after another one has reported."""

log = logging.getLogger(__name__)


def train(
    input_path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    init_model: str | None = None,
    restart: str | None = None,
    init_frz_model: str | None = None,
    finetune: str | None = None,
    use_pretrain_script: bool = False,
    output: str = OUTPUT,
    skip_neighbor_stat: bool = False,
    on_row: OnRow | None = None,
    bar: bool = True,
) -> None:
    """Train a model as an input file says; write the learning curve, checkpoints and the completed input.

    Parameters
    ----------
    input_path : input.json
    backend : "torch" or "tf". Default: the environment variable DP_BACKEND; else the backend of the file to start from;
        else TensorFlow where it is installed, otherwise torch
    init_model, init_frz_model : checkpoint or model file of any format to take the parameters from
    restart : checkpoint of the same backend to continue; "auto": the newest of this training, or start if there is none
    finetune : checkpoint or model file to take the parameters from; energy biases are fitted to the new data
    use_pretrain_script : take the `model` section of the file to start from, but for the type map
    output : file of the input with all defaults
    skip_neighbor_stat : skip the shortest distance and the largest numbers of neighbours of the data
    on_row : called with each row of the learning curve, unrounded
    bar : show a progress bar in a terminal or a notebook
    """
    kinds = ((Take, init_model), (Continue, restart), (Take, init_frz_model), (FineTune, finetune))
    starts: list[Named] = [kind(path) for kind, path in kinds if path]
    if len(starts) > 1:
        raise InputError("--init-model, --restart, --init-frz-model and --finetune exclude each other")
    named = starts[0] if starts and restart != "auto" else Fresh()
    start: Start = Newest(named) if restart == "auto" or restarts() else named
    asked = asked_backend(backend)
    followed = None if asked else backend_of_start(start, input_path)
    backend = asked or default_backend(followed)
    with _together(backend) as world, ExitStack() as locks:
        log.info("%s", tell_choice(backend, by_default=not asked and not followed))
        job = prepare(
            input_path,
            start,
            world,
            locks,
            backend=backend,
            use_pretrain_script=use_pretrain_script,
            output=output,
            skip_neighbor_stat=skip_neighbor_stat,
        )
        run(job, on_row, bar)


@contextmanager
def _together(backend: str) -> Iterator[World]:
    """Yield the processes that train together. Only the first logs; of a failure the first that fails reports."""
    number = processes()
    if number == 1:
        yield ALONE
        return
    if backend != "torch":
        raise InputError(
            f"the {backend} backend trains in one process, and torchrun has started {number}. Train with torch "
            "(dp --pt train) and freeze to .pb: the model is the same"
        )
    world: World = framework("deepmd.adapters.torch.world", backend).join()
    package, level = logging.getLogger("deepmd"), logging.getLogger("deepmd").level
    if not world.leads:
        package.setLevel(logging.ERROR)
    try:
        yield world
        world.leave()
    except (InputError, OSError) as error:
        if world.reports():
            raise
        raise SystemExit(FAILED) from error  # another process says why
    finally:
        package.setLevel(level)


def freeze(checkpoint: str = ".", output: str = "frozen_model", backend: str | None = None) -> Path:
    """Write the model of a checkpoint (a file, a prefix, or the folder of a training) as a model file; return its path.

    An output without suffix gets that of the backend: the one asked for (argument or DP_BACKEND), or else the one that
    trained the model. Models of message passing are frozen to `.pth` only, because LAMMPS cannot run their `.pb`.
    """
    source = locate(checkpoint, backend)
    target = Path(output)
    if target.suffix not in WRITABLE:
        target = Path(f"{output}{BACKENDS[asked_backend(backend) or default_backend(backend_of(source))].frozen}")
    check_target(target, source)
    content = load_model(source)
    if target.suffix == ".pb" and content.model.layout().needs_neighbour_features:
        raise InputError(
            f"{target}: atoms of this model pass messages, for which LAMMPS needs a .pth: "
            f"dp freeze -o {target.with_suffix('.pth')}. For Python alone: dp convert-backend {source} {target}"
        )
    save_model(target, content)
    log.info("Saved frozen model to %s", target)
    if target.suffix in LAMMPS and content.model.output.name == "energy":
        elements = " ".join(content.model.type_map)
        log.info("LAMMPS: pair_style deepmd %s\n        pair_coeff * * %s", target.name, elements)
    return target

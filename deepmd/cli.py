"""The command line: `dp COMMAND ...` (spec formats, section 5).

Importing this module and asking for help loads neither NumPy nor a framework: each command imports what it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from deepmd.version import __version__

log = logging.getLogger(__name__)

LEVELS = {"DEBUG": 10, "3": 10, "INFO": 20, "2": 20, "WARNING": 30, "1": 30, "ERROR": 40, "0": 40}

BACKEND_FLAGS = {"torch": ("pt", "torch", "pytorch"), "tf": ("tf", "tensorflow"), "numpy": ("np", "numpy", "dp", "dpmodel")}
"""Flags that choose a backend, as `--pt`."""

LATER = (
    *("model-devi", "eval-desc", "embed", "change-bias", "convert-from"),
    *("doc-train-input", "gui", "pretrained", "transfer", "train-nvnmd"),
)
"""Commands of DeePMD-kit that are not supported yet."""

USAGE_ERROR, INTERRUPTED = 2, 130


class UsageError(Exception):
    """The command line cannot be understood."""


class Parser(argparse.ArgumentParser):
    """Parser that leaves the reporting of errors to `main`."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UsageError(f"{message} (see: {self.prog} -h)")


class NotYet(argparse.Action):
    """An option that DeePMD-kit has and we do not have yet."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> NoReturn:
        """Refuse the option."""
        raise UsageError(f"{parser.prog}: the option {option_string} of DeePMD-kit is not supported yet; leave it out")


# -- commands: each calls one function ------------------------------------------------------------------------------


def _backend(args: argparse.Namespace) -> str | None:
    """Return the backend of the command line or of DP_BACKEND, or None."""
    from deepmd.io.formats import backend_name

    name = args.backend or os.environ.get("DP_BACKEND")
    return backend_name(name) if name else None


def _train(args: argparse.Namespace) -> None:
    from deepmd.train.main import train

    train(
        args.INPUT,
        backend=_backend(args) or "torch",
        init_model=args.init_model,
        restart=args.restart,
        init_frz_model=args.init_frz_model,
        output=args.output,
        skip_neighbor_stat=args.skip_neighbor_stat,
    )


def _freeze(args: argparse.Namespace) -> None:
    from deepmd.train.main import freeze

    freeze(args.checkpoint, args.output, backend=_backend(args))


def _test(args: argparse.Namespace) -> None:
    from deepmd.infer import measure_errors

    measure_errors(
        args.model,
        system=args.system,
        datafile=args.datafile,
        train_data=args.train_data,
        valid_data=args.valid_data,
        numb_test=args.numb_test,
        rand_seed=args.rand_seed,
        shuffle_test=args.shuffle_test,
        detail_file=args.detail_file,
        atomic=args.atomic,
        head=args.head,
        backend=args.backend,  # and not DP_BACKEND: the file decides, unless a backend is named
    )


def _compress(args: argparse.Namespace) -> None:
    from deepmd.infer.compress import compress_model

    compress_model(args.input, args.output, training_script=args.training_script, extrapolate=args.extrapolate, backend=_backend(args))


def _convert_backend(args: argparse.Namespace) -> None:
    from deepmd.io import convert

    convert(args.INPUT, args.OUTPUT, args.training_input)


def _show(args: argparse.Namespace) -> None:
    from deepmd.infer import show_model

    show_model(args.MODEL, args.ATTRS)


def _neighbor_stat(args: argparse.Namespace) -> None:
    from deepmd.infer.describe import show_neighbours

    show_neighbours(args.system, args.rcut, args.type_map, args.mixed_type)


# -- options --------------------------------------------------------------------------------------------------------


def _common() -> Parser:
    """Options that may stand before or after the command."""
    parser = Parser(prog="dp", add_help=False, allow_abbrev=False)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-b", "--backend", metavar="NAME", help="backend: torch (pt), tf, numpy (np); default: DP_BACKEND, or torch")
    for name, flags in BACKEND_FLAGS.items():
        group.add_argument(*(f"--{flag}" for flag in flags), dest="backend", action="store_const", const=name, help=f"same as --backend {name}")
    parser.add_argument(
        "-v", "--log-level", choices=LEVELS, default="INFO", metavar="LEVEL", help="DEBUG (3), INFO (2, default), WARNING (1), ERROR (0)"
    )
    parser.add_argument("-l", "--log-path", metavar="FILE", help="write the log to this file too")
    return parser


def _train_options(parser: Parser) -> None:
    parser.add_argument("INPUT", help="input file, JSON or YAML")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("-i", "--init-model", metavar="CKPT", help="start from the weights of this checkpoint")
    start.add_argument("-r", "--restart", metavar="CKPT", help="continue the training of this checkpoint")
    start.add_argument("-f", "--init-frz-model", metavar="MODEL", help="start from the weights of this model file")
    start.add_argument("-t", "--finetune", action=NotYet, metavar="MODEL", help="(not supported yet)")
    parser.add_argument("-o", "--output", default="out.json", metavar="FILE", help="where to write the complete input (default: out.json)")
    parser.add_argument("--skip-neighbor-stat", action="store_true", help="do not compute neighbour statistics; sel must be given as numbers")
    parser.add_argument("-m", "--mpi-log", choices=("master", "collect", "workers"), default="master", help="has no effect")
    for flag in ("--use-pretrain-script", "--force-load"):
        parser.add_argument(flag, action=NotYet, nargs=0, help="(not supported yet)")
    parser.add_argument("--model-branch", action=NotYet, metavar="HEAD", help="(not supported yet)")


def _freeze_options(parser: Parser) -> None:
    parser.add_argument(
        "-c", "--checkpoint", "--checkpoint-folder", default=".", metavar="CKPT", help="checkpoint, or a folder with one (default: .)"
    )
    parser.add_argument("-o", "--output", default="frozen_model", metavar="FILE", help="model file to write; without suffix: that of the backend")
    for flags in (("-n", "--node-names"), ("-w", "--nvnmd-weight"), ("--head", "--model-branch"), ("--lower-kind",)):
        parser.add_argument(*flags, action=NotYet, help="(not supported yet)")
    parser.add_argument("--hessian", action=NotYet, nargs=0, help="(not supported yet)")


def _test_options(parser: Parser) -> None:
    parser.add_argument("-m", "--model", default="frozen_model", metavar="FILE", help="model file")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("-s", "--system", metavar="DIR", help="folder that is searched for systems (default: .)")
    data.add_argument("-f", "--datafile", metavar="FILE", help="file with the path of one system a line")
    data.add_argument("--train-data", metavar="INPUT", help="input file whose training data are meant")
    data.add_argument("--valid-data", metavar="INPUT", help="input file whose validation data are meant")
    parser.add_argument("-n", "--numb-test", type=int, default=0, metavar="N", help="frames of each system, 0 for all (default)")
    parser.add_argument("-r", "--rand-seed", type=int, metavar="SEED", help="seed of --shuffle-test")
    parser.add_argument("--shuffle-test", action="store_true", help="take random frames")
    parser.add_argument("-d", "--detail-file", metavar="PREFIX", help="write labels and predictions to PREFIX.e.out, PREFIX.f.out, ...")
    parser.add_argument("-a", "--atomic", action="store_true", help="compare atomic energies too")
    parser.add_argument("--head", "--model-branch", metavar="HEAD", help="head of a model with several (not supported yet)")
    parser.add_argument("-S", "--set-prefix", help="has no effect")


def _compress_options(parser: Parser) -> None:
    parser.add_argument("-i", "--input", default="frozen_model", metavar="FILE", help="model file; without suffix: that of the backend")
    parser.add_argument(
        "-o", "--output", default="frozen_model_compressed", metavar="FILE", help="model file to write; without suffix: that of the input"
    )
    parser.add_argument("-t", "--training-script", metavar="INPUT", help="input of the training, if the model lacks its shortest distance")
    parser.add_argument(
        "-e", "--extrapolate", type=float, metavar="E", help="reach down to 1/E of the shortest distance of the data (default: to 0.9 of it)"
    )
    same = "has no effect (DeePMD-kit has it)"
    parser.add_argument("-s", "--step", type=float, default=0.01, metavar="STEP", help=f"{same}: the accuracy does not depend on it")
    parser.add_argument("-f", "--frequency", type=int, default=-1, metavar="N", help=same)
    parser.add_argument("-c", "--checkpoint-folder", default="model-compression", metavar="DIR", help=same)
    parser.add_argument("--head", "--model-branch", action=NotYet, metavar="HEAD", help="(not supported yet)")


def _convert_options(parser: Parser) -> None:
    parser.add_argument("INPUT", help="model file to read")
    parser.add_argument("OUTPUT", help="model file to write; the suffix decides the format")
    parser.add_argument("--atomic-virial", action="store_true", help="has no effect: every format gives atomic virials")
    parser.add_argument(
        "--input", dest="training_input", metavar="INPUT", help="input of the training, for .pb files and checkpoints of DeePMD-kit that lack it"
    )


def _show_options(parser: Parser) -> None:
    parser.add_argument("MODEL", help="model file or checkpoint")
    parser.add_argument("ATTRS", nargs="+", help="any of: type-map descriptor fitting-net size model-branch observed-type")


def _neighbor_stat_options(parser: Parser) -> None:
    parser.add_argument("-s", "--system", default=".", metavar="DIR", help="folder that is searched for systems (default: .)")
    parser.add_argument("-r", "--rcut", type=float, required=True, metavar="RADIUS", help="cutoff radius, Angstrom")
    parser.add_argument("-t", "--type-map", nargs="+", metavar="ELEMENT", help="elements; default: those of the data")
    parser.add_argument("--mixed-type", "--one-type", action="store_true", help="count all elements together")


COMMANDS: dict[str, tuple[str, Callable[[Parser], None], Callable[[argparse.Namespace], None]]] = {
    "train": ("train a model", _train_options, _train),
    "freeze": ("make a model file from a checkpoint", _freeze_options, _freeze),
    "test": ("compare a model with the labels of data", _test_options, _test),
    "compress": ("store the expansions of a model's embedding nets, which make it faster", _compress_options, _compress),
    "convert-backend": ("convert a model file into another format", _convert_options, _convert_backend),
    "show": ("tell what a model file holds", _show_options, _show),
    "neighbor-stat": ("count neighbours in data", _neighbor_stat_options, _neighbor_stat),
}


def _parser(common: Parser) -> Parser:
    parser = Parser(
        prog="dp",
        parents=[common],
        allow_abbrev=False,
        description="Deep Potential models: train, freeze, compress, test and convert them.",
        epilog="Options above may stand before or after the command: `dp --tf train input.json`, `dp train input.json --backend tf`.",
    )
    parser.add_argument("--version", action="version", version=f"deepmd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (help_text, add_options, _) in COMMANDS.items():
        add_options(commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.", allow_abbrev=False))
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises
    ------
    UsageError
        A command or option is unknown, not supported, or lacks something.
    """
    from deepmd.array_model.errors import nearest

    common = _common()
    parser = _parser(common)
    chosen, rest = common.parse_known_args(argv)
    if not rest:
        raise UsageError(f"which command? Known: {', '.join(COMMANDS)} (see: dp -h)")
    if rest[0] in LATER:
        raise UsageError(f"the command {rest[0]!r} of DeePMD-kit is not supported yet. Supported: {', '.join(COMMANDS)}")
    if not rest[0].startswith("-") and rest[0] not in COMMANDS:
        raise UsageError(f"unknown command {rest[0]!r}. Known: {', '.join(COMMANDS)}.{nearest(rest[0], [*COMMANDS, *LATER])}")
    args, unknown = parser.parse_known_args(rest)
    if unknown:
        own = Parser(add_help=True)
        COMMANDS[args.command][1](own)
        known = [*own._option_string_actions, *common._option_string_actions]
        raise UsageError(f"dp {args.command}: unknown argument {unknown[0]!r}.{nearest(unknown[0], known)} (see: dp {args.command} -h)")
    if args.command is None:
        raise UsageError(f"which command? Known: {', '.join(COMMANDS)} (see: dp -h)")
    for name, value in vars(chosen).items():
        setattr(args, name, value)
    return args


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Handler that looks up `sys.stderr` for each line: a progress bar replaces it so that lines appear above the bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Where lines go now."""
        return sys.stderr


@contextlib.contextmanager
def _logging(level: str, path: str | None) -> Iterator[None]:
    """Send the log, and warnings, to stderr and to a file while a command runs."""
    logger = logging.getLogger("deepmd")
    console = _Stderr()
    console.setFormatter(logging.Formatter("[%(asctime)s] DEEPMD %(levelname)-7s %(message)s"))
    handlers: list[logging.Handler] = [console]
    if path is not None:
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("[%(asctime)s] DEEPMD %(levelname)-7s %(name)-45s %(message)s"))
    before = logger.level, logger.propagate
    logger.setLevel(LEVELS[level])
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_args, **_kwargs: log.warning("%s", message)
            yield
    finally:
        logger.setLevel(before[0])
        logger.propagate = before[1]
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _fail(message: object, code: int) -> int:
    sys.stderr.write(f"dp: error: {message}\n")
    return code


def _run(args: argparse.Namespace) -> int:
    """Run a command; what the user can mend becomes one message."""
    from deepmd.array_model.errors import InputError

    try:
        with _logging(args.log_level, args.log_path):
            try:
                COMMANDS[args.command][2](args)
            except Exception:
                log.debug("the command failed here:", exc_info=True)
                raise
    except InputError as error:
        return _fail(error, USAGE_ERROR)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error, USAGE_ERROR)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dp` with these arguments (default: those of the process) and return its exit code: 0, 2 for an error, 130 if interrupted."""
    try:
        args = _parse(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return _fail(error, USAGE_ERROR)
    except SystemExit as stop:  # -h and --version
        return int(stop.code or 0)
    return _run(args)

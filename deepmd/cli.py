"""The command line: `dp COMMAND ...` (docs/commands.md). Options: cli_options.py.

Importing this module and asking for help loads neither NumPy nor a framework: each command imports what it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deepmd import cli_options as options
from deepmd import unsupported
from deepmd.cli_options import LEVELS, Parser, UsageError
from deepmd.completion import completion_options
from deepmd.logs import show_log
from deepmd.version import __version__

log = logging.getLogger(__name__)

USAGE_ERROR, INTERRUPTED, TERMINATED = 2, 130, 143


# -- commands: each calls one function ------------------------------------------------------------------------------


def _pick(args: argparse.Namespace, names: str) -> dict[str, Any]:
    """Return {name: value} of options, the keyword arguments of a function."""
    return {name: getattr(args, name) for name in names.split()}


def _keys(args: argparse.Namespace) -> Any:
    from deepmd.data.label_keys import keys_of

    return keys_of(args)


def _init(args: argparse.Namespace) -> None:
    from deepmd.data.label_keys import keys_of
    from deepmd.train.draft import read_validation, write_draft

    choices = {**_pick(args, "descriptor size steps seed force"), "keys": keys_of(args)}
    write_draft(args.DATA, args.output, validation=read_validation(args.validation), **choices)


def _train(args: argparse.Namespace) -> None:
    from deepmd.train.main import train

    names = "backend init_model restart init_frz_model finetune use_pretrain_script output skip_neighbor_stat"
    if args.report is None:
        train(args.INPUT, **_pick(args, names))
        return
    from deepmd.report import train_and_report

    train_and_report(args.INPUT, args.report, **_pick(args, names))


def _freeze(args: argparse.Namespace) -> None:
    from deepmd.train.main import freeze

    freeze(args.checkpoint, args.output, args.backend)


def _test(args: argparse.Namespace) -> None:
    from deepmd.infer import measure_errors

    # ignores DP_BACKEND: the suffix of the file chooses the backend unless --backend is given
    names = "system datafile train_data valid_data numb_test rand_seed shuffle_test detail_file atomic head backend"
    if args.plot is None:
        measure_errors(args.model, keys=_keys(args), **_pick(args, names))
        return
    from deepmd.report import draw_errors

    draw_errors(args.model, args.plot, keys=_keys(args), **_pick(args, names))


def _report(args: argparse.Namespace) -> None:
    from deepmd.report.page import write_report

    write_report(args.INPUT, args.output, **_pick(args, "model numb_test"))


def _data(args: argparse.Namespace) -> None:
    from deepmd.data.selection import select_systems

    words = args.DATA
    if words[0] != "convert":
        from deepmd.data.show_data import show_data

        if args.output is not None:
            raise UsageError("dp data: --output is for dp data convert DATA ... -o OUT")
        show_data(select_systems(system=words, keys=_keys(args)))
        return
    from deepmd.data.convert import convert_data

    if len(words) < 2 or args.output is None:
        raise UsageError("dp data convert: give data and where to write them: dp data convert DATA ... -o OUT")
    convert_data(select_systems(system=words[1:], keys=_keys(args)), args.output)


def _eval(args: argparse.Namespace) -> None:
    from deepmd.infer.eval_file import evaluate_file

    evaluate_file(args.model, args.output, keys=_keys(args), **_pick(args, "system datafile atomic backend"))


def _plot(args: argparse.Namespace) -> None:
    from deepmd.report import draw_lcurve

    draw_lcurve(args.FILE, args.output)


def _compress(args: argparse.Namespace) -> None:
    from deepmd.infer.compress import compress_model

    compress_model(args.input, args.output, **_pick(args, "training_script extrapolate backend"))


def _convert_backend(args: argparse.Namespace) -> None:
    from deepmd.io import convert

    convert(args.INPUT, args.OUTPUT, args.training_input)


def _convert_from(args: argparse.Namespace) -> None:
    from deepmd.io import convert

    convert(args.input_model, args.output_model)


def _show(args: argparse.Namespace) -> None:
    from deepmd.infer import show_model

    show_model(args.MODEL, args.ATTRS)


def _neighbor_stat(args: argparse.Namespace) -> None:
    from deepmd.infer.neighbor_stat import show_neighbours

    show_neighbours(args.system, args.rcut, args.type_map, args.mixed_type)


def _change_bias(args: argparse.Namespace) -> None:
    from deepmd.train.bias import change_bias

    options = _pick(args, "system datafile mode output")
    change_bias(args.MODEL, values=args.bias_value, numb_frames=args.numb_batch, keys=_keys(args), **options)


def _model_devi(args: argparse.Namespace) -> None:
    from deepmd.infer.model_devi import make_model_devi

    names = "system output frequency real_error atomic relative relative_v backend"
    make_model_devi(args.models, keys=_keys(args), **_pick(args, names))


def _uncertainty(args: argparse.Namespace) -> None:
    from deepmd.infer.fit_uncertainty import check_uncertainty, fit_uncertainty

    if args.ACTION == "fit":
        fit_uncertainty(
            args.model, keys=_keys(args), **_pick(args, "system datafile held_out input output directions backend")
        )
    else:
        check_uncertainty(
            args.model, keys=_keys(args), **_pick(args, "system datafile input uncertainty output backend")
        )


def _eval_desc(args: argparse.Namespace) -> None:
    from deepmd.infer.eval_desc import evaluate_descriptors

    evaluate_descriptors(args.model, **_pick(args, "system datafile output dtype backend"))


def _embed(args: argparse.Namespace) -> None:
    from deepmd.infer.eval_desc import write_embeddings

    write_embeddings(args.model, **_pick(args, "system datafile output dtype backend"))


def _doc_train_input(args: argparse.Namespace) -> None:
    from deepmd.io.input_doc import input_doc

    sys.stdout.write(input_doc(args.out_type, args.KEY) + "\n")


def _doctor(args: argparse.Namespace) -> None:
    from deepmd.doctor import show

    if show():
        raise SystemExit(1)


def _completion(args: argparse.Namespace) -> None:
    from deepmd.completion import completion_script

    sys.stdout.write(completion_script(args.SHELL) + "\n")


COMMANDS: dict[str, tuple[str, Callable[[Parser], None], Callable[[argparse.Namespace], None]]] = {
    "init": ("write an input for data", options.init_options, _init),
    "train": ("train a model", options.train_options, _train),
    "freeze": ("make a model file from a checkpoint", options.freeze_options, _freeze),
    "test": ("compare a model with the labels of data", options.test_options, _test),
    "report": ("write a page about a training", options.report_options, _report),
    "data": ("tell what is in data, or convert them: dp data convert DATA -o OUT", options.dataset_options, _data),
    "eval": ("write structures with predictions into an extxyz file", options.eval_options, _eval),
    "plot": ("draw a learning curve", options.plot_options, _plot),
    "compress": (
        "store the expansions of a model's embedding nets, which make it faster",
        options.compress_options,
        _compress,
    ),
    "convert-backend": ("convert a model file into another format", options.convert_options, _convert_backend),
    "convert-from": ("write a graph of an old DeePMD-kit anew", options.convert_from_options, _convert_from),
    "model-devi": ("tell how far several models are from each other", options.model_devi_options, _model_devi),
    "uncertainty": (
        "fit a measure of the uncertainty of one model, or test it",
        options.uncertainty_options,
        _uncertainty,
    ),
    "change-bias": ("fit the energy biases of a model to other data", options.change_bias_options, _change_bias),
    "eval-desc": ("write the descriptors of data", options.eval_desc_options, _eval_desc),
    "embed": ("write descriptors and hidden layers of data into one file", options.embed_options, _embed),
    "doc-train-input": ("list the keys of the input", options.doc_options, _doc_train_input),
    "show": ("tell what a model file holds", options.show_options, _show),
    "neighbor-stat": ("count neighbours in data", options.neighbor_stat_options, _neighbor_stat),
    "doctor": ("tell what is installed, and what to do", lambda parser: None, _doctor),
    "completion": ("print a script by which the shell completes dp", completion_options, _completion),
}

GROUPS = {
    "data": ("data", "neighbor-stat"),
    "train": ("init", "train", "change-bias", "plot", "report", "doc-train-input"),
    "use": ("test", "eval", "model-devi", "uncertainty", "eval-desc", "embed"),
    "files": ("freeze", "compress", "convert-backend", "convert-from", "show"),
    "about": ("doctor", "completion"),
}
"""Groups of the help, with the commands of each."""


def _grouped() -> str:
    """Return the list of the commands by group."""
    rows = []
    for group, names in GROUPS.items():
        known = [name for name in names if name in COMMANDS]
        rows += [f"{group}:", *(f"  {name:17} {COMMANDS[name][0]}" for name in known)]
    return "\n".join(rows)


def _parser(common: Parser) -> Parser:
    parser = Parser(
        prog="dp",
        parents=[common],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="dp [OPTIONS] COMMAND ...",
        description="Deep Potential models: machine-learned interatomic potentials.\n\n"
        "The first hour: dp init DATA, dp train input.json, dp freeze -o model.pth, dp test -m model.pth -s DATA\n\n"
        f"{_grouped()}",
        epilog="Options above may stand before or after the command:\n"
        "`dp --tf train input.json`, `dp train input.json --backend tf`. Options of a command: dp COMMAND -h",
    )
    parser.add_argument("--version", action="version", version=f"deepmd v{__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="dp", help=argparse.SUPPRESS)
    for name, (text, add_options, _) in COMMANDS.items():
        description = f"{text[0].upper()}{text[1:]}."
        add_options(commands.add_parser(name, description=description, allow_abbrev=False))
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Common options may stand before or after the command.

    Raises
    ------
    UsageError
        A command or option is unknown, not supported, or lacks something.
    """
    from deepmd.array_model.errors import nearest

    common = options.common()
    parser = _parser(common)
    if "change-bias" in argv:  # -b of change-bias means --bias-value, not --backend
        start = list(argv).index("change-bias")
        argv = [*argv[:start], *("--bias-value" if word == "-b" else word for word in argv[start:])]
    chosen, rest = common.parse_known_args(argv)
    if not rest:
        raise UsageError(f"which command? Known: {', '.join(COMMANDS)} (see: dp -h)")
    if rest[0] in unsupported.COMMANDS:
        raise UsageError(
            f"the command {rest[0]!r} of DeePMD-kit is not supported yet. Supported: {', '.join(COMMANDS)}. "
            f"It is for {unsupported.COMMANDS[rest[0]]}"
        )
    if not rest[0].startswith("-") and rest[0] not in COMMANDS:
        raise UsageError(
            f"unknown command {rest[0]!r}. Known: {', '.join(COMMANDS)}."
            f"{nearest(rest[0], [*COMMANDS, *unsupported.COMMANDS])}"
        )
    args, unknown = parser.parse_known_args(rest)
    if unknown:
        own = Parser(add_help=True)
        COMMANDS[args.command][1](own)
        known = [*own._option_string_actions, *common._option_string_actions]
        hint = f"{nearest(unknown[0], known)} (see: dp {args.command} -h)"
        raise UsageError(f"dp {args.command}: unknown argument {unknown[0]!r}.{hint}")
    if args.command is None:
        raise UsageError(f"which command? Known: {', '.join(COMMANDS)} (see: dp -h)")
    for name, value in vars(chosen).items():
        setattr(args, name, value)
    return args


def _fail(message: object, code: int) -> int:
    sys.stderr.write(f"dp: error: {message}\n")
    return code


def _run(args: argparse.Namespace) -> int:
    """Run a command and return the exit code. InputError and OSError become one message; other exceptions propagate."""
    from deepmd.array_model.errors import InputError

    try:
        with show_log(LEVELS[args.log_level], args.log_path):
            try:
                COMMANDS[args.command][2](args)
            except Exception:
                log.debug("the command failed here:", exc_info=True)
                raise
    except InputError as error:
        return _fail(error, USAGE_ERROR)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error, USAGE_ERROR)
    return 0


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit while a command runs, so that temporary files are removed.

    No effect if SIGTERM has another handler already, or outside of the main thread, where Python cannot set handlers.
    """

    def terminate(_number: int, _frame: Any) -> None:
        raise SystemExit(TERMINATED)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dp` with these arguments (default: those of the process).

    Returns
    -------
    the exit code: 0, 2 for an error, 130 after Ctrl-C, 143 after SIGTERM
    """
    try:
        with _terminable():
            return _run(_parse(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        return _fail(error, USAGE_ERROR)
    except KeyboardInterrupt as stop:
        # an interrupted training raises with arguments, after it has logged the reason
        return INTERRUPTED if stop.args else _fail("interrupted", INTERRUPTED)
    except SystemExit as stop:  # raised by -h, --version and SIGTERM
        return int(stop.code or 0)

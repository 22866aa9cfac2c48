"""Options of the commands of `dp` (docs/commands.md): one function per command, listed in `COMMANDS` of cli.py."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from deepmd.backends import BACKENDS

LEVELS = {"DEBUG": 10, "3": 10, "INFO": 20, "2": 20, "WARNING": 30, "1": 30, "ERROR": 40, "0": 40}


class UsageError(Exception):
    """The command line cannot be understood."""


class Parser(argparse.ArgumentParser):
    """Parser that raises UsageError in place of exiting; `main` of cli.py reports the error."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, where argparse would print the usage and exit."""
        raise UsageError(f"{message} (see: {self.prog} -h)")


class NotYet(argparse.Action):
    """Option of DeePMD-kit that is not supported yet."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> NoReturn:
        """Refuse the option."""
        raise UsageError(f"{parser.prog}: the option {option_string} of DeePMD-kit is not supported yet; leave it out")


def common() -> Parser:
    """Return the parser of the options that may stand before or after the command."""
    parser = Parser(prog="dp", add_help=False, allow_abbrev=False)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-b",
        "--backend",
        metavar="NAME",
        help="backend: tf, torch (pt), numpy (np); default: DP_BACKEND, the backend of the file that is read, "
        "or tf if TensorFlow is installed, otherwise torch",
    )
    for name, backend in BACKENDS.items():
        group.add_argument(
            *(f"--{flag}" for flag in backend.names),
            dest="backend",
            action="store_const",
            const=name,
            help=f"same as --backend {name}",
        )
    parser.add_argument(
        "-v",
        "--log-level",
        choices=LEVELS,
        default="INFO",
        metavar="LEVEL",
        help="DEBUG (3), INFO (2, default), WARNING (1), ERROR (0)",
    )
    parser.add_argument("-l", "--log-path", metavar="FILE", help="write the log to this file too")
    return parser


def train_options(parser: Parser) -> None:
    """Add the options of `dp train`."""
    parser.add_argument("INPUT", help="input file, JSON or YAML")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("-i", "--init-model", metavar="CKPT", help="start from the weights of this checkpoint")
    start.add_argument("-r", "--restart", metavar="CKPT", help="continue this checkpoint; auto: the newest, if any")
    start.add_argument("-f", "--init-frz-model", metavar="MODEL", help="start from the weights of this model file")
    start.add_argument(
        "-t",
        "--finetune",
        metavar="MODEL",
        help="start from the weights of this model, its energy biases fitted to the new data",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="out.json",
        metavar="FILE",
        help="where to write the complete input (default: out.json)",
    )
    parser.add_argument(
        "--skip-neighbor-stat",
        action="store_true",
        help="do not compute neighbour statistics; sel must be given as numbers",
    )
    parser.add_argument(
        "--report",
        nargs="?",
        const="report.html",
        metavar="PAGE",
        help="write a page about the training at its end (default of PAGE: report.html)",
    )
    parser.add_argument(
        "-m", "--mpi-log", choices=("master", "collect", "workers"), default="master", help="has no effect"
    )
    parser.add_argument(
        "--use-pretrain-script", action="store_true", help="take the model section of the file to start from"
    )
    parser.add_argument("--force-load", action=NotYet, nargs=0, help="(not supported yet)")
    parser.add_argument("--model-branch", action=NotYet, metavar="HEAD", help="(not supported yet)")


def init_options(parser: Parser) -> None:
    """Add the options of `dp init`."""
    parser.add_argument("DATA", nargs="+", help="folder that is searched for systems, or file with systems")
    parser.add_argument(
        "-o", "--output", default="input.json", metavar="FILE", help="input to write (default: input.json)"
    )
    parser.add_argument(
        "-d",
        "--descriptor",
        default="se_e2_a",
        metavar="NAME",
        help="se_e2_a (default), se_e2_r, dpa1, dpa2 or dpa3",
    )
    parser.add_argument(
        "--size", default="small", metavar="SIZE", help="small (default), medium or large: nets and length of training"
    )
    parser.add_argument(
        "--validation",
        nargs="+",
        metavar="DATA",
        help="data for validation, or the share of the frames that is held out (default: 0.1)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="updates (default: by the size)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the training (default: 1)")
    parser.add_argument("--force", action="store_true", help="replace an input that is there")
    label_options(parser)


def freeze_options(parser: Parser) -> None:
    """Add the options of `dp freeze`."""
    parser.add_argument(
        "-c",
        "--checkpoint",
        "--checkpoint-folder",
        default=".",
        metavar="CKPT",
        help="checkpoint, or a folder with one (default: .)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="frozen_model",
        metavar="FILE",
        help="model file to write; without suffix: that of the backend",
    )
    for flags in (("-n", "--node-names"), ("-w", "--nvnmd-weight"), ("--head", "--model-branch"), ("--lower-kind",)):
        parser.add_argument(*flags, action=NotYet, help="(not supported yet)")
    parser.add_argument("--hessian", action=NotYet, nargs=0, help="(not supported yet)")


def test_options(parser: Parser) -> None:
    """Add the options of `dp test`."""
    parser.add_argument("-m", "--model", default="frozen_model", metavar="FILE", help="model file")
    data = data_options(parser)
    label_options(parser)
    data.add_argument("--train-data", metavar="INPUT", help="input file whose training data are meant")
    data.add_argument("--valid-data", metavar="INPUT", help="input file whose validation data are meant")
    parser.add_argument(
        "-n", "--numb-test", type=int, default=0, metavar="N", help="frames of each system, 0 for all (default)"
    )
    parser.add_argument("-r", "--rand-seed", type=int, metavar="SEED", help="seed of --shuffle-test")
    parser.add_argument("--shuffle-test", action="store_true", help="take random frames")
    parser.add_argument(
        "-d", "--detail-file", metavar="PREFIX", help="write labels and predictions to PREFIX.e.out, PREFIX.f.out, ..."
    )
    parser.add_argument(
        "--plot",
        nargs="?",
        const="parity.png",
        metavar="PICTURE",
        help="draw predictions against labels, and name the worst frames (default of PICTURE: parity.png)",
    )
    parser.add_argument("-a", "--atomic", action="store_true", help="compare atomic energies too")
    parser.add_argument(
        "--head", "--model-branch", metavar="HEAD", help="head of a model with several (not supported yet)"
    )
    parser.add_argument("-S", "--set-prefix", help="has no effect")


def report_options(parser: Parser) -> None:
    """Add the options of `dp report`."""
    parser.add_argument("INPUT", help="input of the training, in the folder where it ran")
    parser.add_argument("-o", "--output", default="report.html", metavar="PAGE", help="default: report.html")
    parser.add_argument("-m", "--model", metavar="FILE", help="model file (default: newest checkpoint of the training)")
    parser.add_argument(
        "-n", "--numb-test", type=int, default=200, metavar="N", help="frames of each system, 0 for all (default: 200)"
    )


def plot_options(parser: Parser) -> None:
    """Add the options of `dp plot`."""
    parser.add_argument("FILE", nargs="?", default="lcurve.out", help="learning curve (default: lcurve.out)")
    parser.add_argument(
        "-o", "--output", default="lcurve.png", metavar="PICTURE", help=".png, .pdf or .svg (default: lcurve.png)"
    )


def compress_options(parser: Parser) -> None:
    """Add the options of `dp compress`."""
    parser.add_argument(
        "-i", "--input", default="frozen_model", metavar="FILE", help="model file; without suffix: that of the backend"
    )
    parser.add_argument(
        "-o",
        "--output",
        default="frozen_model_compressed",
        metavar="FILE",
        help="model file to write; without suffix: that of the input",
    )
    parser.add_argument(
        "-t",
        "--training-script",
        metavar="INPUT",
        help="input of the training, if the model lacks its shortest distance",
    )
    parser.add_argument(
        "-e",
        "--extrapolate",
        type=float,
        metavar="E",
        help="reach down to 1/E of the shortest distance of the data (default: to 0.9 of it)",
    )
    same = "has no effect (DeePMD-kit has it)"
    parser.add_argument(
        "-s", "--step", type=float, default=0.01, metavar="STEP", help=f"{same}: the accuracy does not depend on it"
    )
    parser.add_argument("-f", "--frequency", type=int, default=-1, metavar="N", help=same)
    parser.add_argument("-c", "--checkpoint-folder", default="model-compression", metavar="DIR", help=same)
    parser.add_argument("--head", "--model-branch", action=NotYet, metavar="HEAD", help="(not supported yet)")


def convert_options(parser: Parser) -> None:
    """Add the options of `dp convert-backend`."""
    parser.add_argument("INPUT", help="model file to read")
    parser.add_argument("OUTPUT", help="model file to write; the suffix decides the format")
    parser.add_argument("--atomic-virial", action="store_true", help="has no effect: every format gives atomic virials")
    parser.add_argument(
        "--input",
        dest="training_input",
        metavar="INPUT",
        help="input of the training, for .pb files and checkpoints of DeePMD-kit that lack it",
    )


def convert_from_options(parser: Parser) -> None:
    """Add the options of `dp convert-from`."""
    versions = ("auto", "0.12", "1.0", "1.1", "1.2", "1.3", "2.0")
    parser.add_argument("FROM", nargs="?", choices=versions, help="has no effect: the graph itself tells its version")
    parser.add_argument(
        "-i", "--input-model", default="frozen_model.pb", metavar="FILE", help="graph (default: frozen_model.pb)"
    )
    parser.add_argument(
        "-o", "--output-model", default="convert_out.pb", metavar="FILE", help="model file (default: convert_out.pb)"
    )


def show_options(parser: Parser) -> None:
    """Add the options of `dp show`."""
    parser.add_argument("MODEL", help="model file or checkpoint")
    parser.add_argument(
        "ATTRS", nargs="+", help="any of: type-map descriptor fitting-net size model-branch observed-type"
    )


def neighbor_stat_options(parser: Parser) -> None:
    """Add the options of `dp neighbor-stat`."""
    system_option(parser)
    parser.add_argument("-r", "--rcut", type=float, required=True, metavar="RADIUS", help="cutoff radius, Angstrom")
    parser.add_argument("-t", "--type-map", nargs="+", metavar="ELEMENT", help="elements; default: those of the data")
    parser.add_argument("--mixed-type", "--one-type", action="store_true", help="count all elements together")


def system_option(place: Any, several: bool = True) -> None:
    """Add --system to a parser or group. `several`: it takes several names; not beside a positional argument."""
    place.add_argument(
        "-s",
        "--system",
        nargs="+" if several else 1,
        action="extend",
        metavar="DATA",
        help="folder that is searched for systems, a file of data (extxyz, OUTCAR, .traj, HDF5, ...), or several "
        "(default: .)",
    )


def label_options(parser: Parser) -> None:
    """Add the names of labels in files that ASE reads."""
    group = parser.add_argument_group("names of labels in files that ASE reads, where several fit")
    for label, example in {"energy": "REF_energy", "force": "REF_forces", "virial": "REF_virial"}.items():
        group.add_argument(f"--{label}-key", metavar="NAME", help=f"such as {example}")
    group.add_argument("--stress-key", metavar="NAME", help="such as REF_stress, in place of a virial")


def data_options(parser: Parser, several: bool = True) -> Any:
    """Add --system and --datafile, and return their mutually exclusive group, to which a command may add options."""
    data = parser.add_mutually_exclusive_group()
    system_option(data, several)
    data.add_argument("-f", "--datafile", metavar="FILE", help="file with the path of one system a line")
    return data


def change_bias_options(parser: Parser) -> None:
    """Add the options of `dp change-bias`."""
    parser.add_argument("MODEL", help="model file, checkpoint, or the folder of a training")
    data = data_options(parser, several=False)
    label_options(parser)
    data.add_argument(
        "-b", "--bias-value", nargs="+", type=float, metavar="EV", help="the energy biases themselves, one per type"
    )
    parser.add_argument(
        "-n", "--numb-batch", type=int, default=0, metavar="N", help="frames of each system, 0 for all (default)"
    )
    parser.add_argument(
        "-m",
        "--mode",
        choices=("change", "set"),
        default="change",
        help="fit what the model lacks (default), or the biases of a fresh model",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="model file to write (default: MODEL with _updated in its name)"
    )
    parser.add_argument("--model-branch", "--head", action=NotYet, metavar="HEAD", help="(not supported yet)")


def model_devi_options(parser: Parser) -> None:
    """Add the options of `dp model-devi`."""
    parser.add_argument(
        "-m",
        "--models",
        nargs="+",
        default=[f"graph.{number:03d}" for number in range(4)],
        metavar="FILE",
        help="model files, at least two, with or without suffix (default: graph.000 to graph.003)",
    )
    system_option(parser)
    label_options(parser)
    parser.add_argument("-S", "--set-prefix", help="has no effect")
    parser.add_argument(
        "-o", "--output", default="model_devi.out", metavar="FILE", help="table to write (default: model_devi.out)"
    )
    parser.add_argument(
        "-f", "--frequency", type=int, default=1, metavar="N", help="steps between the frames (default: 1)"
    )
    parser.add_argument(
        "--real_error", "--real-error", action="store_true", help="deviation from the labels of the data instead"
    )
    parser.add_argument("--atomic", action="store_true", help="append the deviation of the force of each atom")
    parser.add_argument(
        "--relative",
        type=float,
        metavar="LEVEL",
        help="force deviations relative to the force plus this level, eV/Angstrom",
    )
    parser.add_argument("--relative_v", "--relative-v", type=float, metavar="LEVEL", help="the same for virials, eV")


def uncertainty_options(parser: Parser) -> None:
    """Add the options of `dp uncertainty`."""
    parser.add_argument(
        "ACTION", choices=("fit", "test"), help="fit to data and write a file, or compare with true errors"
    )
    parser.add_argument("-m", "--model", default="frozen_model", metavar="FILE", help="model file")
    data_options(parser)
    label_options(parser)
    parser.add_argument(
        "--held-out", nargs="+", metavar="DATA", help="fit: data that were not trained on, for the scale"
    )
    parser.add_argument(
        "--input", metavar="INPUT", help="in place of both: input of the training, whose validation data are held out"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="fit: file to write (default: MODEL.uncertainty.npz, beside the model); test: table of every structure",
    )
    parser.add_argument(
        "--directions",
        type=int,
        default=2,
        metavar="N",
        help="fit: random directions of each structure along which forces enter, 0: energies only (default: 2)",
    )
    parser.add_argument(
        "--uncertainty", metavar="FILE", help="test: file of `dp uncertainty fit` (default: the one beside the model)"
    )


def dataset_options(parser: Parser) -> None:
    """Add the options of `dp data`."""
    parser.add_argument(
        "DATA",
        nargs="+",
        help="folder that is searched for systems, or file of data (extxyz, OUTCAR, .traj, HDF5, ...); "
        "the word convert before them writes them to OUT",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="of convert: a new folder for .npy files, or a file that ends with .hdf5, .h5, .extxyz or .xyz",
    )
    label_options(parser)


def eval_options(parser: Parser) -> None:
    """Add the options of `dp eval`."""
    parser.add_argument("-m", "--model", default="frozen_model", metavar="FILE", help="model file")
    data_options(parser)
    label_options(parser)
    parser.add_argument(
        "-o", "--output", default="predicted.extxyz", metavar="FILE", help="file to write (default: predicted.extxyz)"
    )
    parser.add_argument("-a", "--atomic", action="store_true", help="write atomic energies too")


def eval_desc_options(parser: Parser) -> None:
    """Add the options of `dp eval-desc`."""
    parser.add_argument("-m", "--model", default="frozen_model", metavar="FILE", help="model file")
    data_options(parser)
    parser.add_argument("-o", "--output", default="desc", metavar="DIR", help="folder for the files (default: desc)")
    parser.add_argument("--dtype", choices=("native", "fp32", "fp64"), default="native", help="precision of the files")
    parser.add_argument("--head", "--model-branch", action=NotYet, metavar="HEAD", help="(not supported yet)")


def embed_options(parser: Parser) -> None:
    """Add the options of `dp embed`."""
    parser.add_argument(
        "-m",
        "--model",
        default="model.ckpt.pt",
        metavar="FILE",
        help="checkpoint or model file (default: model.ckpt.pt)",
    )
    data_options(parser)
    parser.add_argument(
        "-o", "--output", default="embedding.hdf5", metavar="FILE", help="HDF5 file to write (default: embedding.hdf5)"
    )
    parser.add_argument(
        "--dtype", choices=("native", "fp32", "fp64"), default="fp32", help="precision of the file (default: fp32)"
    )
    parser.add_argument("--head", "--model-branch", action=NotYet, metavar="HEAD", help="(not supported yet)")


def doc_options(parser: Parser) -> None:
    """Add the options of `dp doc-train-input`."""
    parser.add_argument(
        "--out-type",
        choices=("rst", "md", "json", "json_schema"),
        default="rst",
        help="form of the output (default: rst)",
    )
    parser.add_argument("KEY", nargs="?", help="tell what this key means")
    parser.add_argument("--multi-task", action=NotYet, nargs=0, help="(not supported yet)")

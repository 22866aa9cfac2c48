"""`dp completion bash|zsh`: the shell completes commands, options and files. Written by the package shtab."""

from __future__ import annotations

from deepmd import cli_options as options
from deepmd.array_model.errors import InputError
from deepmd.cli_options import Parser

NOT_FILES = ("NAME", "N", "LEVEL", "SIZE", "STEP", "E", "EV", "RADIUS", "ELEMENT", "ATTRS", "HEAD")
"""What options take that is no file."""


def completion_options(parser: Parser) -> None:
    """Add the options of `dp completion`."""
    parser.add_argument("SHELL", choices=("bash", "zsh"), help='bash or zsh: eval "$(dp completion bash)"')


def completion_script(shell: str) -> str:
    """Return the completion script of a shell.

    Parameters
    ----------
    shell : "bash" or "zsh"
    """
    from deepmd.cli import COMMANDS

    try:
        import shtab
    except ImportError as error:
        raise InputError("dp completion needs the package 'shtab': pip install 'deepmd[completion]'") from error
    parser = Parser(prog="dp", parents=[options.common()])
    commands = parser.add_subparsers()
    for name, (text, add_options, _) in COMMANDS.items():
        # common options may follow the command; -b of change-bias is its own
        own = commands.add_parser(name, help=text, parents=[options.common()], conflict_handler="resolve")
        add_options(own)
        for action in own._actions:
            if action.nargs != 0 and not action.choices and action.metavar not in NOT_FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell=shell)
    return script

"""Every command that the pages name exists, with its options, its files and its variables; those of the README run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from commands.documented import LINES, ROOT, lines_of
from support import mark_slow, require

from deepmd import cli, cli_options

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split()
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for folder in ("benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if "ArgumentParser" in path.read_text() and path.name not in ("make_data.py", "worker.py")
)
"""Scripts with options; make_data.py needs programs that label data."""


def check_dp(line):
    """A complete line parses; of an incomplete one command and options are known."""
    if line.complete:
        cli._parse(line.arguments)
        return
    common = cli_options.common()
    rest = common.parse_known_args(line.arguments)[1]
    command = next((word for word in rest if word in cli.COMMANDS), None)
    options = cli_options.Parser(add_help=True)
    if command is None:  # options of every command: `dp -h`, `dp COMMAND -h`
        assert not [word for word in rest if not word.startswith("-") and not word.isupper()], "unknown command"
    else:
        cli.COMMANDS[command][1](options)
    known = {*options._option_string_actions, *common._option_string_actions, "-b", "--version"}
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known


def check_make(line):
    for word in line.arguments:
        name, given, _ = word.partition("=")
        assert name in MAKEFILE if given else name in TARGETS, word


def check_python(line):
    if line.arguments[0] not in ("-m", "-c"):
        assert (ROOT / line.arguments[0]).is_file() or (line.page.parent / line.arguments[0]).is_file()


def check_lammps(line):
    words = [*line.words]
    script = line.page.parent / words[words.index("-in") + 1]
    text = (script if script.exists() else line.page).read_text()  # the page shows it
    for position, word in enumerate(words):
        assert word != "-var" or re.search(rf"^variable +{words[position + 1]} ", text, re.MULTILINE), words[
            position + 1
        ]


def check_folder(line):
    (folder,) = line.arguments
    if f"mkdir {folder}\n" in line.page.read_text():
        return
    assert (ROOT / folder).is_dir() or (line.page.parent / folder).is_dir()


def check_torchrun(line):
    found = require("torch.distributed.run").get_args_parser().parse_args(line.arguments)
    assert (found.training_script, found.no_python) == ("dp", True)
    cli._parse(found.training_script_args)


CHECKS = {
    **{"dp": check_dp, "make": check_make, "python": check_python, "cd": check_folder},
    **dict.fromkeys(("lmp", "mpirun"), check_lammps),
    "torchrun": check_torchrun,
    **dict.fromkeys(("pip", "apt", "git", "pre-commit", "mkdir", "source", "export", "python3"), lambda line: None),
}


@pytest.mark.parametrize("line", LINES, ids=str)
def test_line(line):
    CHECKS[Path(line.program).name](line)


def test_lines_are_found():
    assert len([line for line in LINES if line.complete and line.program == "dp"]) > 10


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_how(target):
    """Its recipe can be written down, and the scripts in it exist."""
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for script in re.findall(r"python (\S+\.py)", done.stdout):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize(
    "script", mark_slow(SCRIPTS, [path for path in SCRIPTS if path.parts[0] == "benchmarks"]), ids=str
)
def test_script_tells_its_options(script):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / script, "--help"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_structure_for_lammps_is_that_of_the_script(tmp_path):
    require("ase")
    shutil.copytree(ROOT / "examples/lammps", tmp_path / "lammps")
    (tmp_path / "water").symlink_to(ROOT / "examples/water")
    (tmp_path / "lammps/water.data").unlink()
    subprocess.run([sys.executable, "make_data.py"], cwd=tmp_path / "lammps", check=True, capture_output=True)
    written, shipped = (folder / "water.data" for folder in (tmp_path / "lammps", ROOT / "examples/lammps"))
    # the first line names the version of ASE
    assert written.read_text().splitlines()[1:] == shipped.read_text().splitlines()[1:]


@pytest.fixture
def place(tmp_path):
    """The folder of the water example with three frames of each system and one step of training of a small model."""
    tree = json.loads((ROOT / "examples/water/input.json").read_text())
    tree["model"]["descriptor"].update(neuron=[2], axis_neuron=2, rcut=4.0, sel=[24, 40])
    tree["model"]["fitting_net"]["neuron"] = [2]
    tree["training"].update(numb_steps=1, disp_freq=1, save_freq=1)
    (tmp_path / "input.json").write_text(json.dumps(tree))
    shutil.copytree(ROOT / "examples/water/data", tmp_path / "data")
    shutil.copy(ROOT / "examples/water/structure.xyz", tmp_path)
    for array in (tmp_path / "data").rglob("*.npy"):
        np.save(array, np.load(array)[:3])
    return tmp_path


COPIES = {"a.pth": "water.pth", "b.pth": "water.pth", "model.pth": "water.pth", "model.pb": "water.pb"}
"""Files that the pages take as given, and where they come from here."""


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_the_readme_runs(place, capfd):
    """`dp` line after line, then the evaluation in Python."""
    require("torch")
    require("tensorflow")
    with chdir(place):
        for line in lines_of(ROOT / "README.md"):
            if not line.complete or line.program != "dp":
                continue
            for word in {*line.arguments} & COPIES.keys():
                shutil.copy(COPIES[word], word)
            assert cli.main(line.arguments) == 0, f"{shlex.join(line.words)}\n{capfd.readouterr().err}"
            if line.arguments[0] == "init":  # one step, of the same small model
                first = json.loads(Path("first.json").read_text())
                first["model"] = json.loads(Path("input.json").read_text())["model"]
                first["training"].update(numb_steps=1, disp_freq=1, save_freq=1)
                Path("first.json").write_text(json.dumps(first))
        _, evaluation = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        exec(evaluation, {})  # that before it trains 10,000 steps; deepmd.train has tests of its own

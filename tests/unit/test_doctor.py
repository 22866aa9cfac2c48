"""`dp doctor`, completion, the groups of the help, and a folder that DeePMD-kit shares."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import require

from deepmd import cli, doctor
from deepmd.mixed import WHAT_TO_DO, find_kit_folders

ROOT = Path(__file__).parents[2]


def python(program, path):
    return subprocess.run(
        [sys.executable, "-c", program], cwd=path, env={}, capture_output=True, text=True, check=False
    )


def test_the_first_import_tells_of_deepmd_kit_in_the_same_folder(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "deepmd", tmp_path / "deepmd", ignore=shutil.ignore_patterns("__pycache__"))
    assert python("import deepmd", tmp_path).stderr == ""
    (tmp_path / "deepmd/dpmodel").mkdir()
    told = python("import deepmd", tmp_path).stderr
    assert "holds files of DeePMD-kit (dpmodel)" in told
    assert "pip uninstall deepmd-kit" in told
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "deepmd/doctor.py"))
    (finding,) = [each for each in doctor._places() if each.what == "deepmd"]
    assert (finding.mark, finding.todo) == (doctor.BAD, WHAT_TO_DO)


def test_our_own_folders_are_not_taken_for_theirs():
    assert find_kit_folders(str(ROOT / "deepmd")) == []


@pytest.mark.parametrize(
    ("threads", "mark", "todo"),
    [(None, doctor.NOTE, "export"), ("2", doctor.OK, ""), ("3", doctor.BAD, "=2"), ("many", doctor.BAD, "=2")],
)
def test_threads(monkeypatch, threads, mark, todo):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    finding = doctor._threads()
    assert finding.mark == mark
    assert todo in finding.todo


def test_versions_beyond_what_is_tested():
    lowest, newest = doctor.TESTED["numpy"]
    assert doctor.compare_versions("numpy", lowest) == doctor.compare_versions("numpy", newest) == (doctor.OK, "")
    assert "older than what is tested" in doctor.compare_versions("numpy", "1.25.9")[1]
    assert "newer than what is tested" in doctor.compare_versions("numpy", "3.0.0")[1]


def test_a_framework_that_cannot_be_loaded(monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda package: "2.14.0")
    monkeypatch.setitem(doctor.ASK, "torch", "raise ImportError('libcudart.so.12: cannot open')")
    finding = doctor._framework("torch", "--pt", "torch")
    assert finding.mark == doctor.BAD
    assert finding.found == "2.14.0; cannot be loaded: ImportError: libcudart.so.12: cannot open"


def test_lammps_is_asked(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/lmp"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("DEEPMD_KIT_ENV", str(tmp_path))
    assert doctor._lammps().mark == doctor.NOTE
    for styles, mark in (("lj/cut deepmd", doctor.OK), ("lj/cut", doctor.NOTE)):
        program.write_text(f"#!/bin/sh\necho 'LAMMPS (22 Jul 2025)'\necho '{styles}'\n")
        program.chmod(0o755)
        assert doctor._lammps().mark == mark
    assert "22 Jul 2025" in doctor._lammps().found


def test_tested_versions_are_those_of_the_constraints():
    def pins(name):
        lines = (line.partition("==") for line in (ROOT / name).read_text().splitlines() if "==" in line)
        return {package.replace("_", "-").removesuffix("-cpu"): version for package, _, version in lines}

    lowest, newest = pins("constraints-lowest.txt"), pins("constraints-newest.txt")
    assert {name: (lowest[name], newest[name]) for name in doctor.TESTED} == doctor.TESTED


def test_every_command_is_in_a_group_of_the_help(capsys):
    assert sorted(name for names in cli.GROUPS.values() for name in names if name in cli.COMMANDS) == sorted(
        cli.COMMANDS
    )
    assert cli.main(["-h"]) == 0
    assert "train:\n  init" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"), [("dp conv", "convert-backend convert-from"), ("dp train --init-m", "--init-model")]
)
def test_the_shell_completes(words, expected, capsys):
    require("shtab")
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    given = words.split()
    ask = f'COMP_WORDS=({words}); COMP_CWORD={len(given) - 1}; _shtab_dp dp {given[-1]}; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
    assert cli.main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef dp")

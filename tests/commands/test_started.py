"""Commands that take longer, each started at its smallest size: `make test-commands`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands.documented import ROOT
from support import require

pytestmark = pytest.mark.slow

KIT = Path(os.environ.get("DEEPMD_KIT_ENV") or ROOT / ".venv-deepmd-kit").absolute()
CUDA = "lib/python*/site-packages/nvidia/cuda_runtime/lib/libcudart.so.12"
needs_kit = pytest.mark.skipif(
    not (KIT / "bin/lmp").exists(),
    reason="DeePMD-kit with LAMMPS is not there: "
    "make test-commands installs it, or DEEPMD_KIT_ENV names its environment",
)


def start(folder, *words, kit=False):
    """Run a program in a folder, with or without DeePMD-kit; return what it prints."""
    ours = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{ours}:{KIT / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)  # `lmp` is a Python program of DeePMD-kit, whose package is `deepmd` too
    if words[0] in (sys.executable, "torchrun"):
        environment["PYTHONPATH"] = str(ROOT)
    environment |= {"DEEPMD_KIT_ENV": str(KIT)} if kit else {"BENCH_OURS_ONLY": "1"}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def python(folder, script, *words, kit=False):
    return start(folder, sys.executable, ROOT / script, *words, kit=kit)


def test_demo(tmp_path):
    require("matplotlib")
    require("plotly")
    printed = python(tmp_path, "examples/water/demo.py", "--steps", 2, "--md-steps", 2, "--output", "demo")
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    pictures = {"learning_curve.png", "parity.png", "dynamics.png"}
    assert {*pictures, "report.html", "water.pth", "water.pb", "water.dp"} <= written
    assert printed.splitlines()[-1] == "demo/report.html"


def test_support_table(tmp_path):
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__", "commands"))
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    start(tmp_path, sys.executable, "tests/support_table.py")
    assert (tmp_path / "docs/support.md").read_text() == (ROOT / "docs/support.md").read_text()


def test_torchrun(tmp_path):
    words = ("torchrun", "--nproc_per_node=4", "--no-python", "dp", "--pt", "train", "input.json")
    assert " ".join(words) in (ROOT / "docs/scaling.md").read_text()
    (tmp_path / "data").symlink_to(ROOT / "examples/water/data")
    tree = json.loads((ROOT / "examples/water/input.json").read_text())
    tree["training"]["numb_steps"] = 1
    (tmp_path / "input.json").write_text(json.dumps(tree))
    start(tmp_path, *words)
    assert (tmp_path / "model.ckpt-1.pt").exists()


# -- benchmarks -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The folder of models of `make bench BENCH=--quick`, and a page for the tables."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copy(ROOT / "docs/benchmarks.md", folder / "page.md")
    return folder


def quick(work, script, *rows, kit=False):
    output = f"{Path(script).stem}-{kit}.json"
    options = ["--quick", "--rounds", 1, "--threads", 1, "--work", work, "--output", work / output]
    printed = python(work, script, *options, "--docs", work / "page.md", "--only", *rows, kit=kit)
    assert "fails" not in printed
    assert (work / output).exists()


def test_bench(work):
    quick(work, "benchmarks/run.py", "eval-192", "numpy", "cold")
    (home,) = {path.parents[1] for path in work.glob("*/ours/model.dp")}
    assert "between operations" in python(work, "benchmarks/where.py", home)


def test_bench_of_kinds(work):
    quick(work, "benchmarks/kinds.py", "se_e2_r-*")


def test_bench_of_training(work):
    options = ["--rounds", 1, "--steps", 1, "--models", "dpa3", "--only", "ours, torch"]
    places = ["--work", work, "--output", work / "dpa.json", "--docs", work / "page.md"]
    assert "dpa3, ours, torch" in python(work, "benchmarks/dpa.py", *options, *places)


def test_bench_of_memory(tmp_path):
    options = ["--frames", 3, "--times", 1, 2, "--atoms", 24, "--steps", 1, "--rounds", 1]
    assert "ms a frame" in python(tmp_path, "benchmarks/memory.py", *options)


def test_bench_of_processes(work):
    assert "| 2 | 8,113,456 |" in python(work, "benchmarks/processes.py", "--processes", 2, "--steps", 2)


@needs_kit
def test_bench_with_deepmd_kit(work):
    quick(work, "benchmarks/run.py", "compressed-192", kit=True)


def test_bench_gpu(work):
    """Without a device; rows are told apart by their precision."""
    quick(work, "benchmarks/gpu.py", "train-192-float32", "eval-192-*")


@needs_kit
def test_bench_gpu_with_deepmd_kit(work):
    quick(work, "benchmarks/gpu.py", "lammps-192-float32", kit=True)


NVIDIA_SMI = """#!/bin/sh
echo >> calls
case $(wc -l < calls) in 1) echo 100;; 2) echo 700;; *) echo 300;; esac
"""
WATCH = """
import pathlib, sides, time
with sides.watch_device(sides.ours().on({"CUDA_VISIBLE_DEVICES": "0"})) as peak:
    while pathlib.Path("calls").read_text().count("\\n") < 3:
        time.sleep(0.1)
print(peak["peak_device_memory"] // 2**20)
"""


def test_memory_of_a_device_is_the_peak_less_what_was_held_before(tmp_path):
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    paths = [f"PATH={tmp_path}:{os.environ['PATH']}", f"PYTHONPATH={ROOT / 'benchmarks'}"]
    assert start(tmp_path, "env", *paths, sys.executable, "-c", WATCH) == "600\n"


@needs_kit
def test_bench_lammps(work):
    options = ["--quick", "--rounds", 1, "--steps", 2, "--sizes", 192, "--runs", "2 threads"]
    printed = python(work, "benchmarks/lammps.py", *options, "--work", work, "--output", work / "lammps.json", kit=True)
    assert "ms/step" in printed


# -- LAMMPS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The folder of LAMMPS inputs, with small models under the names that its README gives them."""
    folder = tmp_path_factory.mktemp("examples") / "lammps"
    shutil.copytree(ROOT / "examples/lammps", folder)
    model = ROOT / "tests/golden/se_e2_a/model.dp"
    for name in ("model.pth", "model.savedmodel", "other.pth"):
        start(folder, sys.executable, "-m", "deepmd", "convert-backend", model, name)
    return folder


@needs_kit
@pytest.mark.parametrize(
    "words",
    [
        ("lmp", "-in", "in.water"),
        ("lmp", "-in", "in.water", "-var", "model", "model.savedmodel"),
        ("mpirun", "-np", "2", "lmp", "-in", "in.water"),
        ("lmp", "-in", "in.stress"),
        ("lmp", "-in", "in.deviation", "-var", "second", "other.pth"),
    ],
    ids=" ".join,
)
def test_lammps(examples, words):
    assert " ".join(words) in (examples / "README.md").read_text()
    assert "Total wall time" in start(examples, *words, kit=True)


@needs_kit
def test_interop_table(tmp_path):
    shutil.copy(ROOT / "docs/interop.md", tmp_path / "interop.md")
    python(tmp_path, "tests/interop/table.py", "--page", "interop.md", kit=True)
    assert "our `.pth`" in (tmp_path / "interop.md").read_text()

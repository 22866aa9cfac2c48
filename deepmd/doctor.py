"""`dp doctor`: what is installed and what to do, one line each. `python -m deepmd.doctor` does the same.

Frameworks are asked in processes of their own, because one that cannot be loaded may end its process.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deepmd.mixed import WHAT_TO_DO, find_kit_folders

TESTED = {
    "array-api-compat": ("1.12", "1.16.0"),
    "h5py": ("3.11.0", "3.14.0"),
    "numpy": ("1.26.0", "2.5.5"),
    "scipy": ("1.11.1", "1.18.1"),
    "vesin": ("0.5.0", "0.6.2"),
    "torch": ("2.13.0", "2.14.1"),
    "tensorflow": ("2.18.0", "2.21.0"),
    "ase": ("3.22.0", "3.29.0"),
    "lmdb": ("1.4.1", "3.0.0"),
    "matplotlib": ("3.8.0", "3.11.2"),
    "tensorboard": ("2.18.0", "2.21.0"),
}
"""Lowest and newest version with which the tests run: constraints-lowest.txt, constraints-newest.txt."""

PYTHONS = ((3, 11), (3, 13))

OPTIONAL = {
    "ase": ("ase", "the calculator, and data in files that ASE reads"),
    "matplotlib": ("plot", "pictures"),
    "lmdb": ("lmdb", "data in LMDB files"),
    "tensorboard": ("tensorboard", "training/tensorboard"),
    "shtab": ("completion", "dp completion"),
}
"""Extra and use of optional packages."""

NAMES = {"tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly")}
"""Distributions of a package, where they are several."""

ASK = {
    "torch": "import json, torch; count = torch.cuda.device_count(); print(json.dumps({"
    "'build': 'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPU', "
    "'devices': [torch.cuda.get_device_name(k) for k in range(count)]}))",
    "tensorflow": "import json, tensorflow as tf; info = tf.sysconfig.get_build_info(); print(json.dumps({"
    "'build': 'CUDA ' + str(info.get('cuda_version')) if info.get('is_cuda_build') else 'CPU', "
    "'devices': [each.name for each in tf.config.list_physical_devices('GPU')]}))",
}
"""Programs that tell build and devices of a framework."""

PATIENCE = 120
"""Seconds that a framework or LAMMPS may take to answer."""

OK, NOTE, BAD = "ok", "note", "bad"
MARKS = {OK: "[green]✓[/]", NOTE: "[yellow]•[/]", BAD: "[red]✗[/]"}


class Finding(NamedTuple):
    """A line: `OK`, `NOTE` (may be changed) or `BAD` (must be changed), what was looked at, what it is, what to do."""

    mark: str
    what: str
    found: str
    todo: str = ""


def version_of(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    for name in NAMES.get(package, (package,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def compare_versions(package: str, version: str) -> tuple[str, str]:
    """Return mark and advice for a version by the range of `TESTED`."""
    if package not in TESTED:
        return OK, ""
    lowest, newest = TESTED[package]
    if _numbers(version) < _numbers(lowest):
        return NOTE, f"older than what is tested ({lowest} to {newest}): pip install --upgrade {package}"
    if _numbers(version)[:2] > _numbers(newest)[:2]:
        return NOTE, f"newer than what is tested ({lowest} to {newest}); if it fails: pip install {package}=={newest}"
    return OK, ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in re.findall(r"\d+", version.partition("+")[0]))


def examine() -> Iterator[Finding]:
    """Yield all findings."""
    yield from _places()
    yield from _packages()
    trains = False
    for package, flag, extra in (("torch", "--pt", "torch"), ("tensorflow", "--tf", "tf")):
        finding = _framework(package, flag, extra)
        trains |= finding.mark != BAD and version_of(package) is not None
        yield finding
    if not trains:
        yield Finding(BAD, "training", "no backend that trains", "pip install 'deepmd[torch]' or 'deepmd[tf]'")
    yield _threads()
    yield _lammps()


def _places() -> Iterator[Finding]:
    """Yield Python, the folder of the package, and whether DeePMD-kit is mixed into it."""
    own, first, last = sys.version_info[:2], *PYTHONS
    todo = "" if first <= own <= last else f"tested: {first[0]}.{first[1]} to {last[0]}.{last[1]}"
    yield Finding(NOTE if todo else OK, "Python", f"{platform.python_version()}, {sys.executable}", todo)
    folder = Path(__file__).parent
    kit, foreign = version_of("deepmd-kit"), find_kit_folders(str(folder))
    if foreign:
        yield Finding(BAD, "deepmd", f"{folder} holds files of DeePMD-kit ({', '.join(foreign)})", WHAT_TO_DO)
    elif kit:
        text = f"{folder}; deepmd-kit {kit} is installed too, and `import deepmd` may mean either"
        yield Finding(BAD, "deepmd", text, WHAT_TO_DO)
    else:
        from deepmd.version import __version__

        yield Finding(OK, "deepmd", f"{__version__}, {folder}")
    program, beside = shutil.which("dp"), Path(sys.executable).parent / "dp"
    if program and beside.exists() and not Path(program).samefile(beside):
        yield Finding(NOTE, "dp", f"{program} comes first in PATH", f"of this environment is {beside}")


def _packages() -> Iterator[Finding]:
    """Yield a line for the required packages together, and one for each optional package."""
    required = [name for name in TESTED if name not in OPTIONAL and name not in ASK]
    versions = {name: version_of(name) for name in required}
    advice = [
        f"{name}: {todo}"
        for name, version in versions.items()
        if version and (todo := compare_versions(name, version)[1])
    ]
    missing = [name for name, version in versions.items() if version is None]
    mark = BAD if missing else NOTE if advice else OK
    found = ", ".join(f"{name} {version or 'is missing'}" for name, version in versions.items())
    yield Finding(mark, "packages", found, f"pip install {' '.join(missing)}" if missing else "; ".join(advice))
    for name, (extra, use) in OPTIONAL.items():
        version = version_of(name)
        if version is None:
            yield Finding(NOTE, name, "not installed", f"for {use}: pip install 'deepmd[{extra}]'")
        else:
            mark, todo = compare_versions(name, version)
            yield Finding(mark, name, version, todo)


def _framework(package: str, flag: str, extra: str) -> Finding:
    """Return version, build and devices of a framework."""
    version = version_of(package)
    if version is None:
        return Finding(NOTE, package, "not installed", f"for dp {flag}: pip install 'deepmd[{extra}]'")
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK[package]],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            check=False,
        )
        told = json.loads(done.stdout.strip().rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        return Finding(
            BAD, package, f"{version}; did not load within {PATIENCE} s", f"pip install --force-reinstall {package}"
        )
    except json.JSONDecodeError:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return Finding(
            BAD, package, f"{version}; cannot be loaded: {lines[-1]}", f"pip install --force-reinstall {package}"
        )
    mark, todo = compare_versions(package, version)
    devices = ", ".join(told["devices"]) or "no GPU"
    gpus = [*Path("/dev").glob("nvidia[0-9]*")]
    if gpus and not told["devices"]:
        mark, devices = NOTE, f"does not see the {len(gpus)} GPU(s) of this machine"
        build = "a build with CUDA" if told["build"] == "CPU" else "another driver, or CUDA_VISIBLE_DEVICES"
        todo = f"needs {build}" + (f"; {todo}" if todo else "")
    return Finding(mark, package, f"{version}, {told['build']} build, {devices}", todo)


def _threads() -> Finding:
    """Return what threads are used, by the environment and the processors that the process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not given:
        return Finding(
            NOTE,
            "threads",
            f"{cores} cores, OMP_NUM_THREADS is unset: a thread for each core",
            "on a machine that others use too, say how many: export OMP_NUM_THREADS=N",
        )
    if not given.isdecimal() or int(given) < 1:
        return Finding(
            BAD, "threads", f"OMP_NUM_THREADS={given}", f"a number of threads: export OMP_NUM_THREADS={cores}"
        )
    if int(given) > cores:
        text = "more threads than cores wait for each other"
        return Finding(
            BAD, "threads", f"OMP_NUM_THREADS={given}, {cores} cores: {text}", f"export OMP_NUM_THREADS={cores}"
        )
    return Finding(OK, "threads", f"OMP_NUM_THREADS={given}, {cores} cores")


def _lammps() -> Finding:
    """Return the LAMMPS in PATH or in the environment of DeePMD-kit, and whether it has `pair_style deepmd`."""
    kit = os.environ.get("DEEPMD_KIT_ENV")
    places = [shutil.which("lmp"), *([str(Path(kit) / "bin/lmp")] if kit else [])]
    program = next((place for place in places if place and Path(place).exists()), None)
    advice = "it comes with pip install 'deepmd-kit[lmp]' in an environment of its own (docs/interop.md)"
    if program is None:
        return Finding(NOTE, "LAMMPS", "no lmp in PATH or DEEPMD_KIT_ENV", f"to run models in LAMMPS: {advice}")
    try:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        told = subprocess.run(
            [program, "-help"], capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(BAD, "LAMMPS", f"{program} does not start: {error}", advice)
    version = re.search(r"(\d+ \w+ \d{4}(?: - \w+ \d+)?)", told.stdout)
    name = f"{program}{f', {version[1]}' if version else ''}"
    if not re.search(r"\bdeepmd\b", told.stdout):
        return Finding(NOTE, "LAMMPS", f"{name}, without pair_style deepmd", advice)
    return Finding(OK, "LAMMPS", f"{name}, pair_style deepmd")


def show() -> int:
    """Print all findings as they come; return the exit code: 1 if anything must be changed."""
    from rich.console import Console
    from rich.markup import escape

    console, worst = Console(highlight=False, soft_wrap=True), OK
    for finding in examine():
        todo = f"  → {escape(finding.todo)}" if finding.todo else ""
        console.print(f"{MARKS[finding.mark]} {finding.what:16} {escape(finding.found)}{todo}")
        worst = BAD if BAD in (worst, finding.mark) else worst
    return 1 if worst == BAD else 0


if __name__ == "__main__":
    sys.exit(show())

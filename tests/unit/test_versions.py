"""Versions: constraints-lowest.txt names the lowest of pyproject.toml, and the classifiers what is tested."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNS = ("torch", "tf", "ase", "plot", "tensorboard", "lmdb", "test")
"""Extras that the tests need."""

NO_BUILD = {"torch": "its lower versions are offered with CUDA libraries of gigabytes only"}


def pinned(name):
    lines = (ROOT / name).read_text().splitlines()
    pins = (re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if not line.startswith("#"))
    return {pin[1].lower().replace("_", "-"): Version(pin[2]) for pin in pins}


def test_the_lowest_versions_are_tested():
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in RUNS)]
    needed = [Requirement(text) for group in groups for text in group]
    lowest = {each.name: Version(specifier.version) for each in needed for specifier in each.specifier}
    assert len(lowest) == len({each.name for each in needed}), "every requirement names its lowest version"
    pins = pinned("constraints-lowest.txt")
    assert {name: pins[name.lower()] for name in lowest if name not in NO_BUILD} == {
        name: version for name, version in lowest.items() if name not in NO_BUILD
    }


def test_the_newest_are_pinned():
    assert set(pinned("constraints-newest.txt")) >= {Requirement(text).name for text in PROJECT["dependencies"]}

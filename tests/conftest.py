"""Fixtures of all tests."""

from __future__ import annotations

import gc
import importlib.abc
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from support import RUNNERS, require

from deepmd.io import convert
from deepmd.process import load_triton

load_triton()  # tests import TensorFlow themselves
GOLDEN = Path(__file__).parent / "golden"
PACKAGES = {".pth": "torch", ".pb": "tensorflow", ".savedmodel": "tensorflow"}

hypothesis.settings.register_profile("quick", derandomize=True, deadline=None, database=None, max_examples=40)
hypothesis.settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items):
    """Mark the tests of torch `gpu`. If DEVICE asks for CUDA and there is none, they are skipped."""
    asked, without = os.environ.get("DEVICE", ""), False
    if asked.lower().startswith("cuda") and importlib.util.find_spec("torch"):
        import torch

        without = not torch.cuda.is_available()
    for item in items:
        if "torch" in item.nodeid or ("/train/" in item.nodeid and "tf" not in item.nodeid):
            item.add_marker(pytest.mark.gpu)
            if without:
                item.add_marker(pytest.mark.skip(reason=f"DEVICE is {asked!r}, and torch finds no CUDA device"))


class _Missing(importlib.abc.MetaPathFinder):
    """Finder that skips the test which imports a framework that is not installed (see `support.require`)."""

    def find_spec(self, name, path=None, target=None):
        if name in PACKAGES.values():
            report = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            report(f"{name} is not installed")


def pytest_collection_finish():
    """Skip tests of missing frameworks from here on; modules that import one are skipped while they are collected."""
    sys.meta_path.append(_Missing())
    gc.freeze()  # and seldom look for garbage: the modules of the frameworks were walked through each time, 3 % of all
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(params=list(vars(RUNNERS)))
def run(request):
    """Call `function(*arguments, xp=...)` on a backend: run(function, *arguments, dynamic=1).

    NumPy arrays in and out.
    """
    runner = getattr(RUNNERS, request.param)
    return lambda function, *arguments, dynamic=1: runner(function, arguments, dynamic)


@pytest.fixture(scope="session")
def file_of(tmp_path_factory):
    """Our file of a stored case in a format, written once for all tests, which only read it: file_of(case, suffix)."""

    @cache
    def write(case, suffix):
        if suffix in PACKAGES:
            require(PACKAGES[suffix])
        path = tmp_path_factory.mktemp(case) / f"model{suffix}"
        convert(GOLDEN / case / "model.dp", path)
        return path

    return write

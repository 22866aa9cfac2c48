"""Backends that tests run on. A missing framework skips the test, but fails it in continuous integration."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

from deepmd.adapters.contracts import Evaluator, evaluate_module
from deepmd.array_model.contracts import Model
from deepmd.array_model.spectral import Plan
from deepmd.backends import BACKENDS

NAMES = tuple(BACKENDS)
"""All backends; each has derivatives, unlike strict.py."""


def require(package: str) -> Any:
    """Import a package that a test needs. If it is missing, skip the test, or fail it in continuous integration."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        text = f"{package} is not installed: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text, allow_module_level=True)


def evaluator(backend: str, model: Model, params: Any, plan: Plan) -> Evaluator:
    """Return the evaluator of a model on a backend."""
    if package := BACKENDS[backend].package:
        require(package)
    return evaluate_module(backend).evaluator(model, params, plan)

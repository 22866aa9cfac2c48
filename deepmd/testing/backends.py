"""The backends that a test runs on, and what happens when one is not installed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest

from deepmd.adapters.contracts import Evaluator, evaluate_module
from deepmd.array_model.contracts import Model
from deepmd.array_model.spectral import Plan
from deepmd.io.formats import BACKENDS

NAMES = tuple(BACKENDS)
"""Backends with derivatives."""


def require(package: str) -> Any:
    """Import a package that a test needs: a skip where it is not installed, but a failure in continuous integration."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        report: Callable[[str], Any] = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        return report(f"{package} is not installed: {error}")


def evaluator(backend: str, model: Model, params: Any, plan: Plan) -> Evaluator:
    """Return the evaluator of a model on a backend."""
    if package := BACKENDS[backend].package:
        require(package)
    return evaluate_module(backend).evaluator(model, params, plan)

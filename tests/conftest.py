"""Fixtures of all tests."""

from __future__ import annotations

import hypothesis
import pytest
from support import RUNNERS

hypothesis.settings.register_profile("quick", derandomize=True, deadline=None, database=None, max_examples=40)
hypothesis.settings.load_profile("quick")


@pytest.fixture(params=list(vars(RUNNERS)))
def run(request):
    """Call `function(*arguments, xp=...)` on a backend: run(function, *arguments, dynamic=1).

    NumPy arrays in and out.
    """
    runner = getattr(RUNNERS, request.param)
    return lambda function, *arguments, dynamic=1: runner(function, arguments, dynamic)

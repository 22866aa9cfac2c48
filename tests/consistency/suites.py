"""The suites for models and descriptors, with few graphs of TensorFlow in quick tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from deepmd import testing


class _Quick:
    """TensorFlow computes the configurations `on_tensorflow`, some of each kind; the others are slow tests.

    Building a graph takes about 1 s. What TensorFlow alone can get wrong is a function of its namespace, and each is
    tested by itself in tests/unit/test_namespace.py.
    """

    on_tensorflow: ClassVar[Sequence[str]] = ()

    @classmethod
    def marks(cls, name: str, backend: str) -> Sequence[pytest.MarkDecorator]:
        return () if backend != "tf" or name in cls.on_tensorflow else (pytest.mark.slow,)


class ModelAgreement(_Quick, testing.ModelAgreement):
    """The same numbers on every backend, and forces that are derivatives."""


class ModelConformance(_Quick, testing.ModelConformance):
    """All the physics that every model must have."""


class DescriptorAgreement(_Quick, testing.DescriptorAgreement):
    """`ModelAgreement` where `configs` are descriptors."""


class DescriptorConformance(_Quick, testing.DescriptorConformance):
    """`ModelConformance` where `configs` are descriptors."""

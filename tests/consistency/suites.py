"""The suites for models and descriptors, with one graph of TensorFlow a class in quick tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from deepmd import testing


class _Quick:
    """TensorFlow computes the first configuration of a class, and those of `on_tensorflow`; the others are slow tests.

    Building a graph takes about 1 s. What TensorFlow alone can get wrong is a function of its namespace, and each is
    tested by itself in tests/unit/test_namespace.py.
    """

    configs: ClassVar[dict[str, Any]]
    on_tensorflow: ClassVar[Sequence[str]] = ()

    @classmethod
    def marks(cls, name: str, backend: str) -> Sequence[pytest.MarkDecorator]:
        quick = backend != "tf" or name == next(iter(cls.configs)) or name in cls.on_tensorflow
        return () if quick else (pytest.mark.slow,)


class ModelAgreement(_Quick, testing.ModelAgreement):
    """The same numbers on every backend, and forces that are derivatives."""


class ModelConformance(_Quick, testing.ModelConformance):
    """All the physics that every model must have."""


class DescriptorAgreement(_Quick, testing.DescriptorAgreement):
    """`ModelAgreement` where `configs` are descriptors."""


class DescriptorConformance(_Quick, testing.DescriptorConformance):
    """`ModelConformance` where `configs` are descriptors."""

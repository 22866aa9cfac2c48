"""Conformance suites: test classes to inherit, for models and descriptors of this package and of plug-ins.

Needs pytest and array-api-strict; nothing else imports this package.

A plug-in's test of a new descriptor is::

    from deepmd.testing import DescriptorConformance, variants


    class TestMine(DescriptorConformance):
        configs = variants(Mine(rcut=3.0, sel=(30, 30)), resnet_dt=[True], precision=["float32"])
"""

from deepmd.testing.conformance import (
    DescriptorAgreement,
    DescriptorConformance,
    ModelAgreement,
    ModelConformance,
    variants,
)
from deepmd.testing.tolerances import TOLERANCES, assert_close

__all__ = [
    "TOLERANCES",
    "DescriptorAgreement",
    "DescriptorConformance",
    "ModelAgreement",
    "ModelConformance",
    "assert_close",
    "variants",
]

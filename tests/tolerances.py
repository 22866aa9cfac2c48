"""The one table of tolerances; it lives in the package because the suites for plug-in authors use it too."""

from deepmd.testing.tolerances import TOLERANCES, assert_close

__all__ = ["TOLERANCES", "assert_close"]

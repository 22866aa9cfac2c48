"""Version of the package, in a module of its own, so that reading the version imports nothing else."""

__version__ = "0.1.0"

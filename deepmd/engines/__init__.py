"""Interfaces to simulation engines, each with a package of its own: torch-sim, metatomic (docs/engines.md)."""

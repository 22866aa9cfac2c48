"""What the classes of this package predict, by kind of fitting net."""

from __future__ import annotations

from deepmd import DeepPot
from deepmd.infer import DeepDipole, DeepDOS, DeepPolar, DeepProperty


def evaluate(path, kind, given):
    """What our classes give."""
    arrays = given["coord"][None], None if given["cell"] is None else given["cell"][None], given["types"]
    if kind == "ener":
        potential = DeepPot(path)
        fparam = given["fparam"] if potential.get_dim_fparam() else None
        names = ("energy", "force", "virial", "atom_energy", "atom_virial")
        return dict(zip(names, potential.eval(*arrays, atomic=True, fparam=fparam), strict=True))
    if kind in ("dipole", "polar"):
        model = {"dipole": DeepDipole, "polar": DeepPolar}[kind](path)
        return {f"atom_{kind}": model.eval(*arrays, atomic=True), kind: model.eval(*arrays, atomic=False)}
    model = {"dos": DeepDOS, "property": DeepProperty}[kind](path)
    return dict(zip((kind, f"atom_{kind}"), model.eval(*arrays, atomic=True), strict=True))

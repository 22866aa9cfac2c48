"""Tables of kinds: descriptors, fitting nets and models by name. A new kind is a row here.

Plug-ins register with `register`, loaded through the entry points `deepmd.plugins`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any, TypeVar

from deepmd.array_model.contracts import Component, Descriptor, FittingNet, Model
from deepmd.array_model.descriptors.dpa2 import Dpa2
from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.loc_frame import LocFrame
from deepmd.array_model.descriptors.se_atten import SeAtten, SeAttenV2
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.descriptors.se_e2_a_typed import SeE2ATyped
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.descriptors.se_e3 import SeE3
from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.array_model.errors import InputError, nearest
from deepmd.array_model.fittings.dipole import DipoleFitting
from deepmd.array_model.fittings.dos import DosFitting
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.fittings.polar import PolarFitting
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.array_model.models.linear import LinearModel
from deepmd.array_model.models.pairtab import PairTabModel
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.models.zbl import ZblModel
from deepmd.unsupported import KINDS as UNSUPPORTED

DESCRIPTORS: tuple[type[Descriptor], ...] = (
    Dpa2,
    Dpa3,
    Hybrid,
    LocFrame,
    SeAtten,
    SeAttenV2,
    SeE2A,
    SeE2ATyped,
    SeE2R,
    SeE3,
    SeE3Tebd,
)
FITTING_NETS: tuple[type[FittingNet], ...] = (DipoleFitting, DosFitting, EnergyFitting, PolarFitting, PropertyFitting)
MODELS: tuple[type[Model], ...] = (LinearModel, PairTabModel, StandardModel, ZblModel)

KINDS: dict[str, dict[str, type[Component]]] = {
    "descriptor": {cls.kind: cls for cls in DESCRIPTORS},
    "fitting_net": {cls.kind: cls for cls in FITTING_NETS},
    "model": {cls.kind: cls for cls in MODELS},
}
"""Classes of options by role and name."""

ALIASES: dict[str, dict[str, str]] = {
    "descriptor": {
        "se_a": "se_e2_a",
        "se_r": "se_e2_r",
        "se_at": "se_e3",
        "se_a_3be": "se_e3",
        "se_t": "se_e3",
        "dpa1": "se_atten",
    },
    "fitting_net": {},
    "model": {"linear_ener": "linear"},
}
"""Aliases of kinds: {role: {alias: name}}."""

K = TypeVar("K", bound=Component)


def register(role: str, name: str, aliases: tuple[str, ...] = ()) -> Callable[[type[K]], type[K]]:
    """Return a class decorator for plug-ins, which adds a class of options to `KINDS` under `name` and its aliases."""

    def keep(cls: type[K]) -> type[K]:
        cls.kind = name
        KINDS[role][name] = cls
        ALIASES[role].update(dict.fromkeys(aliases, name))
        return cls

    return keep


def canonical(role: str, name: Any, where: str) -> str:
    """Resolve aliases: return the name in `KINDS`. `where` is the path in the input, for the error."""
    _load_plugins()
    kinds, aliases = KINDS[role], ALIASES[role]
    key = aliases.get(name, name) if isinstance(name, str) else str(name)
    if key not in kinds:
        if key in UNSUPPORTED[role]:
            text = f"type {name!r} is known, but not supported yet ({UNSUPPORTED[role][key]})"
            raise InputError(f"{where}: {text}. Supported: {', '.join(sorted(kinds))}")
        known = sorted([*kinds, *aliases])
        raise InputError(f"{where}: unknown type {name!r}. Known: {', '.join(known)}.{nearest(str(name), known)}")
    return str(key)


def lookup(role: str, name: Any, where: str) -> Any:
    """Return the class of options of a kind (see `canonical`): Any, because options are known at run time only."""
    return KINDS[role][canonical(role, name, where)]


def registered(role: str) -> dict[str, type[Component]]:
    """Return {name: class} of a role, plug-ins included."""
    _load_plugins()
    return dict(sorted(KINDS[role].items()))


@cache
def _load_plugins() -> None:
    for entry in metadata.entry_points(group="deepmd.plugins"):
        entry.load()

"""Electron configurations of the elements, as inputs of a type embedding (docs/theory/networks.md#type-embedding)."""

from __future__ import annotations

import math
from functools import cache

from deepmd.array_model.errors import InputError, nearest

_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr
Nb Mo Tc Ru Rh Pd Ag Cd
In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra Ac Th Pa U Np
Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""

ELEMENTS = tuple(_SYMBOLS.split())
"""Symbols in the order of the atomic numbers, from 1 on."""

ORBITALS = (
    "1s",
    "2s",
    "2p",
    "3s",
    "3p",
    "3d",
    "4s",
    "4p",
    "4d",
    "4f",
    "5s",
    "5p",
    "5d",
    "5f",
    "6s",
    "6p",
    "6d",
    "7s",
    "7p",
)
"""Orbitals in the order of the input of the type embedding."""

FILLING = (
    "1s",
    "2s",
    "2p",
    "3s",
    "3p",
    "4s",
    "3d",
    "4p",
    "5s",
    "4d",
    "5p",
    "6s",
    "4f",
    "5d",
    "6p",
    "7s",
    "5f",
    "6d",
    "7p",
)
"""Orbitals in the order of filling (Madelung rule)."""

EXCEPTIONS = {
    # element: (from, to, electrons) in which the ground state differs from the Madelung rule
    **dict.fromkeys(("Cr", "Cu"), ("4s", "3d", 1)),
    **dict.fromkeys(("Nb", "Mo", "Ru", "Rh", "Ag"), ("5s", "4d", 1)),
    "Pd": ("5s", "4d", 2),
    **dict.fromkeys(("La", "Ce", "Gd"), ("4f", "5d", 1)),
    **dict.fromkeys(("Pt", "Au"), ("6s", "5d", 1)),
    **dict.fromkeys(("Ac", "Pa", "U", "Np", "Cm"), ("5f", "6d", 1)),
    "Th": ("5f", "6d", 2),
    # later work finds 7s2 for Ds and Rg, and 7p1 for Lr; DeePMD-kit's models were trained with the entries here
    **dict.fromkeys(("Ds", "Rg"), ("7s", "6d", 1)),
}


def _slots(orbital: str) -> int:
    return {"s": 1, "p": 3, "d": 5, "f": 7}[orbital[-1]]


def occupations(element: str) -> dict[str, int]:
    """Return the number of electrons in each orbital of the neutral atom."""
    if element not in ELEMENTS:
        raise InputError(
            f"use_econf_tebd needs elements as the names of types, and {element!r} is none.{nearest(element, ELEMENTS)}"
        )
    left, out = ELEMENTS.index(element) + 1, {}
    for orbital in FILLING:
        out[orbital] = min(left, 2 * _slots(orbital))
        left -= out[orbital]
    if element in EXCEPTIONS:
        donor, acceptor, number = EXCEPTIONS[element]
        return {**out, donor: out[donor] - number, acceptor: out[acceptor] + number}
    return out


@cache
def configuration(element: str) -> tuple[float, ...]:
    """Return the unit vector (118,) of an element: per slot of each orbital two entries, ±1/sqrt(118).

    + is an electron, - a vacancy. An orbital has one electron in every slot before any slot has two (Hund).
    """
    held = occupations(element)
    signs: list[int] = []
    for orbital in ORBITALS:
        pairs = max(held[orbital] - _slots(orbital), 0)
        single = held[orbital] - 2 * pairs
        signs += [1, 1] * pairs + [-1, 1] * single + [-1, -1] * (_slots(orbital) - pairs - single)
    return tuple(sign / math.sqrt(len(signs)) for sign in signs)

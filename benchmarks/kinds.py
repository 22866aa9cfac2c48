"""Measure other descriptors than `se_e2_a` beside DeePMD-kit, and write a table of docs/benchmarks.md.

Rounds and options as in run.py.

python benchmarks/kinds.py [--quick] [--only ROW ...] [--time-limit SECONDS]          (see benchmarks/README.md)
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report
from prepare import Workplace
from rows import NATIVE, PER_ATOM, PER_STEP, TRAINERS, Row, both
from run import command
from sides import Side

MARKERS = ("<!-- descriptors: written by benchmarks/kinds.py -->", "<!-- end of descriptors -->")

SECTIONS = {"rcut": 6.0, "rcut_smth": 0.5, "sel": [46, 92], "resnet_dt": False, "type_one_side": True}
"""One section of neighbours for each type, as in examples/water."""

DPA1 = {
    **{
        "type": "se_atten",
        "rcut": 6.0,
        "rcut_smth": 0.5,
        "sel": 120,
        "neuron": [25, 50, 100],
        "axis_neuron": 16,
        "resnet_dt": False,
    },
    **{"type_one_side": True, "attn": 128, "attn_dotr": True, "attn_mask": False},
}

DESCRIPTORS: dict[str, dict[str, Any]] = {
    "se_e2_r": {"type": "se_e2_r", **SECTIONS, "neuron": [5, 10, 20]},
    "se_e3": {
        "type": "se_e3",
        **{k: v for k, v in SECTIONS.items() if k != "type_one_side"},
        "sel": [40, 80],
        "neuron": [2, 4, 8],
    },
    "hybrid": {
        "type": "hybrid",
        "list": [
            {"type": "se_e2_a", **SECTIONS, "neuron": [25, 50, 100], "axis_neuron": 16},
            {"type": "se_e2_r", **SECTIONS, "rcut": 4.0, "sel": [16, 32], "neuron": [5, 10, 20]},
        ],
    },
    "dpa1-0": {**DPA1, "attn_layer": 0},
    "dpa1-2": {**DPA1, "attn_layer": 2},
}
"""Sections `descriptor` of the input by the name of their rows.

Whatever they do not say has its default in either program.
"""


def every_row(quick: bool) -> list[Row]:
    """Return two rows for each descriptor."""
    trainers = both(TRAINERS, {"pt": "--pt", "tf": "--tf"}, {"torch": ("pt",), "tf": ("tf",)})
    files = both(NATIVE, {".pb": "model.pb", ".pth": "model.pth"})
    titles = {"dpa1-0": "DPA-1, no attention", "dpa1-2": "DPA-1, 2 attention layers"}
    rows = []
    for name in DESCRIPTORS:
        title = titles.get(name, name)
        curve = (4, 8) if name in ("se_e3", "dpa1-2") else (5, 20)  # steps of these take seconds
        rows.append(Row(f"{name}-train", f"{title}: training", "train", PER_STEP, trainers, curve=curve))
        rows.append(Row(f"{name}-eval", f"{title}: evaluation", "eval", PER_ATOM, files))
    return rows


def prepare(args: argparse.Namespace, sides: dict[str, Side], rows: list[Row]) -> Callable[[Row], Workplace]:
    """Make the model of every descriptor that has a row."""
    places = {}
    for name in dict.fromkeys(_descriptor(row) for row in rows):
        print(f"== {name}")
        places[name] = Workplace(args.work, args.data, args.quick, DESCRIPTORS[name], 10 if name == "dpa1-2" else 300)
        places[name].prepare(sides, args.threads)
    return lambda row: places[_descriptor(row)]


def _descriptor(row: Row) -> str:
    return row.name.rpartition("-")[0]


def write(results: dict[str, Any], docs: Path) -> None:
    """Put the table between its markers of a page."""
    rows = [row for row in results["rows"].values() if row["rounds"]]
    report.put(docs, MARKERS, [report.conditions(results), report.comparison(rows), report.agreement(rows)])


if __name__ == "__main__":
    command(__doc__, "kinds", every_row, prepare, write)

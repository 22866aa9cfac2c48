"""Write the table of docs/support.md from the tables that the tests run through: python tests/support_table.py."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))

from golden import golden_cases  # noqa: E402 - tests are no package
from interop import other_kinds, tf_kinds  # noqa: E402
from interop import trained as trained_by_kit  # noqa: E402
from interop.lammps_run import KINDS as LAMMPS  # noqa: E402
from train import small_descriptors  # noqa: E402
from train.other_data import KINDS as TRAINED_FITTINGS  # noqa: E402

PAGE = TESTS.parent / "docs/support.md"
BEGIN, END = "<!-- written by tests/support_table.py -->\n", "<!-- end -->\n"

KINDS = (
    *("se_e2_a", "se_e2_r", "se_e3", "se_e3_tebd", "se_atten", "se_atten_v2", "hybrid", "loc_frame", "dpa2", "dpa3"),
    *("dipole", "polar", "dos", "property"),
    *("pairtab", "linear", "zbl"),
)
"""Descriptors, fitting nets, kinds of models; their stored cases begin with these names."""

ELSEWHERE = {
    # tests of their own: kind: columns
    **dict.fromkeys(("dpa2", "dpa3"), ("LAMMPS",)),
    "se_e2_a": ("train", "`.dp` `.yaml` `.pb`", "`.pth`", "its `.pth` `.pt`", "it reads our `.dp`", "LAMMPS"),
    "loc_frame": ("its `.pb`",),
    "pairtab": ("train",),
    "linear": ("train",),
    "zbl": ("train",),
    "se_atten_v2": (
        "compress",
        "NumPy, torch, TensorFlow",
        "`.dp` `.yaml` `.pb`",
        "`.pth`",
        "it reads our `.dp`",
        "LAMMPS",
    ),
}
"""`se_atten_v2` is `se_atten` with `strip` and smooth type embedding, which is stored as a case of that."""


def begins(cases: object, kind: str) -> bool:
    """Whether any case is of a kind."""
    return any(case == kind or case.startswith(f"{kind}_") for case in cases)  # type: ignore[attr-defined]


def columns(kind: str) -> dict[str, bool]:
    """Return what the tests show of a kind."""
    ways = {case: way for case, way in golden_cases.KINDS.items() if case == kind or case.startswith(f"{kind}_")}
    read_tf = [name for name in tf_kinds.KINDS if name not in tf_kinds.REFUSED]
    trained = {**small_descriptors.KINDS, **small_descriptors.MESSAGES, **TRAINED_FITTINGS}
    return {
        "NumPy, torch, TensorFlow": begins((*golden_cases.CASES, *golden_cases.MODEL_CASES), kind),
        "train": kind in trained,
        "`.dp` `.yaml` `.pb`": any({".dp", ".yaml", ".pb"} <= set(way) for way in ways.values()),
        "`.pth`": any(".pth" in way for way in ways.values()),
        "it reads our `.dp`": begins(other_kinds.DP_CASES, kind),
        "its `.pth` `.pt`": begins(other_kinds.KINDS, kind),
        "its `.pb`": begins(read_tf, kind)
        or any("tf" in row[3] and row[1].get("type", "se_e2_a") == kind for row in trained_by_kit.VARIANTS.values()),
        "compress": kind in golden_cases.COMPRESSED,
        "LAMMPS": begins(LAMMPS, kind),
    }


def table() -> str:
    """Return the table."""
    rows = {kind: columns(kind) for kind in KINDS}
    for kind, names in ELSEWHERE.items():
        rows[kind].update(dict.fromkeys(names, True))
    names = list(rows["se_e2_a"])
    lines = [f"| | {' | '.join(names)} |", f"|---{'|:-:' * len(names)}|"]
    lines += [
        f"| `{kind}` | {' | '.join('yes' if row[name] else '-' for name in names)} |" for kind, row in rows.items()
    ]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with the table of today."""
    start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:start] + table() + text[stop:]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))

"""Measure this program and DeePMD-kit in turn on a CUDA device: training, evaluation and LAMMPS, float64 and float32.

Rounds and options as in run.py. Without a CUDA device --quick is implied, and everything runs on the processor.

python benchmarks/gpu.py [--quick] [--only ROW ...] [--time-limit SECONDS]          (see benchmarks/README.md)
"""

import argparse
import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report
from prepare import Workplace
from rows import COMPRESSED, KIT, NATIVE, PER_ATOM, PER_STEP, TRAINERS, Contestant, Row, both
from run import command
from sides import Side

from deepmd.array_model.errors import InputError

MARKERS = ("<!-- gpu: written by benchmarks/gpu.py -->", "<!-- end of gpu -->")
PRECISIONS = ("float64", "float32")
SIZES = (192, 1536, 12288, 98304)
SHORT_CURVE = 12288
"""Trainings with frames of so many atoms or more write four rows, one every ten steps."""

PROBES = {
    "torch": "import torch; print(torch.cuda.is_available())",
    "TensorFlow": "import tensorflow as tf; print(bool(tf.config.list_physical_devices('GPU')))",
}
"""Programs that print True where a framework sees a CUDA device; DeePMD-kit runs on the processor where it does not."""

LAMMPS = (
    Contestant("ours .pth", "theirs", "../ours/model.pth", against=(f"{KIT} .pth", f"{KIT} .pb")),
    Contestant("ours compressed .pth", "theirs", "../ours/compressed.pth", against=(f"{KIT} compressed .pb",)),
    Contestant(f"{KIT} .pth", "theirs", "model.pth"),
    Contestant(f"{KIT} .pb", "theirs", "model.pb"),
    Contestant(f"{KIT} compressed .pb", "theirs", "compressed.pb"),
)
"""All files run in the LAMMPS of DeePMD-kit."""


def every_row(quick: bool) -> list[Row]:
    """Return training, evaluation, compressed evaluation and LAMMPS of every size in every precision."""
    trainers, files, compressed = (
        tuple(each for each in contestants if not each.allocator)  # settings of glibc are for the processor
        for contestants in (
            both(TRAINERS, {"pt": "--pt", "tf": "--tf"}, {"torch": ("pt",), "tf": ("tf",)}),
            both(NATIVE, {".pb": "model.pb", ".pth": "model.pth"}),
            both(COMPRESSED, {".pb": "compressed.pb"}),
        )
    )
    rows = []
    for natoms in SIZES[:1] if quick else SIZES:
        curve = (4, 10) if natoms >= SHORT_CURVE else (5, 40)
        for precision in PRECISIONS:
            name, title = f"{natoms}-{precision}", f"{natoms:,} atoms, {precision}"
            rows += [
                Row(f"train-{name}", f"training, {title}", "train", PER_STEP, trainers, natoms, curve=curve),
                Row(f"eval-{name}", f"evaluation, {title}", "eval", PER_ATOM, files, natoms),
                Row(f"compressed-{name}", f"compressed, {title}", "eval", PER_ATOM, compressed, natoms),
                Row(f"lammps-{name}", f"LAMMPS, {title}", "lammps", PER_STEP, LAMMPS, natoms),
            ]
    return rows


def find_device() -> tuple[str, dict[str, str]]:
    """Return the name of the device that torch chooses, and variables by which programs see it alone.

    The processor has no variables (docs/python.md#devices).
    """
    import torch

    from deepmd.adapters.torch.device import CPU, choose_device

    device = torch.device(choose_device())
    if device == CPU:
        return "processor", {}
    found = torch.cuda.get_device_properties(device)
    name = f"{found.name}, {found.total_memory / report.GIGA:.0f} GB"
    return name, {"CUDA_VISIBLE_DEVICES": f"GPU-{found.uuid}", "DEVICE": "cuda"}


def blind_frameworks(side: Side) -> set[str]:
    """Return the frameworks of a side that see no CUDA device."""
    options: dict[str, Any] = {"env": side.environment(1), "capture_output": True, "text": True, "check": False}
    return {
        name
        for name, probe in PROBES.items()
        if "True" not in subprocess.run([side.python, "-c", probe], **options).stdout
    }


def prepare(
    variables: dict[str, str], args: argparse.Namespace, sides: dict[str, Side], rows: list[Row]
) -> Callable[[Row], Workplace]:
    """Make the model of every precision, and note which frameworks see no device."""
    places = {}
    for precision in dict.fromkeys(_precision(row.name) for row in rows):
        print(f"== {precision}")
        places[precision] = Workplace(args.work, args.data, args.quick, precision=precision)
        places[precision].prepare(sides, args.threads)
    for side in sides.values() if variables else ():
        blind = blind_frameworks(side.on(variables))
        targets = {each.target for row in rows for each in row.contestants if each.side == side.name}
        for place in places.values():
            place.missing |= {
                (side.name, target): f"its {_framework(target)} sees no CUDA device"
                for target in targets
                if _framework(target) in blind
            }
    return lambda row: places[_precision(row.name)]


def write(results: dict[str, Any], docs: Path) -> None:
    """Put the tables between their markers of a page."""
    rows = [row for row in results["rows"].values() if row["rounds"]]
    agreements = [
        f"{precision}: {text}"
        for precision in PRECISIONS
        if (text := report.agreement([row for row in rows if _precision(row["name"]) == precision]))
    ]
    report.put(
        docs, MARKERS, [report.conditions(results), report.comparison(rows), *agreements, report.everything(rows)]
    )


def _precision(row: str) -> str:
    return row.rpartition("-")[2]


def _framework(target: str) -> str:
    return "torch" if target == TRAINERS["torch"] or target.endswith(".pth") else "TensorFlow"


def main() -> None:
    """Run."""
    try:
        name, variables = find_device()
    except InputError as error:
        raise SystemExit(str(error)) from error
    steps = functools.partial(prepare, variables)
    command(__doc__, "gpu", every_row, steps, write, device=(name, variables), quick=not variables)


if __name__ == "__main__":
    main()

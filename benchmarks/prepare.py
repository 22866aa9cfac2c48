"""Data and models to measure with, made of what the project ships."""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from sides import ROOT, Side, run

from deepmd.array_model.errors import InputError
from deepmd.data.systems import System, find_systems, load_system
from deepmd.io import load_model, save_model

NATOMS, FRAMES, STEPS = 192, 20, 300
SHIPPED = ROOT / "examples/water"
TYPE_MAP = ("O", "H")
LIMIT = 1800.0

# DeePMD-kit's `dp convert-backend` notes the model section only; its `dp compress` asks for the rest of the input
COMPLETE_PB = """
import sys, tensorflow as tf
from pathlib import Path
source, training_input, target = map(Path, sys.argv[1:])
graph = tf.compat.v1.GraphDef.FromString(source.read_bytes())
for node in graph.node:
    if node.name == "train_attr/training_script":
        node.attr["value"].tensor.string_val[0] = training_input.read_bytes()
target.write_bytes(graph.SerializeToString())
"""


class Workplace:
    """A folder with data/, ours/ and theirs/, and what could not be made there.

    Parameters
    ----------
    root : where folders like this one go; what was made before with the same settings is used again
    data : folder with systems of O and H whose number of atoms divides 192; None for those of examples/water
    quick : train the model for a few steps only
    descriptor : options in place of those of examples/water; no compressed files then
    steps : how long to train the model, unless `quick`. Few for models that are slow to train and have no
        expansion, whose terms are chosen after training
    precision : of descriptor and fitting net
    """

    def __init__(
        self,
        root: Path,
        data: Path | None,
        quick: bool,
        descriptor: dict[str, Any] | None = None,
        steps: int = STEPS,
        precision: str = "float64",
    ) -> None:
        self.steps = STEPS // 10 if quick else steps
        self.source = data or SHIPPED / "data"
        self.descriptor = descriptor
        self.precision = precision
        settings = f"{self.source.resolve()} {self.steps}" + (json.dumps(descriptor) if descriptor else "")
        settings += precision if precision != "float64" else ""
        name = hashlib.sha256(settings.encode()).hexdigest()[:8]
        self.folder = (root / name).resolve()
        self.missing: dict[tuple[str, str], str] = {}
        try:
            self._sources = [load_system(path, TYPE_MAP) for path in find_systems(str(self.source))]
        except InputError as error:
            raise SystemExit(f"data to measure with: {error}") from error
        self._systems = self.systems()

    def structure(self, natoms: int) -> Path:
        """Return a file with one frame of this many atoms."""
        path = self.folder / f"data/{natoms}.npz"
        if not path.exists():
            self._save_structure(path, _edge(natoms))
        return path

    def systems(self, natoms: int = NATOMS) -> list[Path]:
        """Return folders with training systems of this many atoms, 192 times a cube; the largest have two frames."""
        folders = [self.folder / f"data/{natoms}/{k}" for k in range(len(self._sources))]
        for system, folder in zip(self._sources, folders, strict=True):
            if not (folder / "type_map.raw").exists():
                _save_system(system, folder, _edge(natoms), max(2, FRAMES * NATOMS // natoms))
        return folders

    def write_input(self, path: Path, steps: int, disp_freq: int, batch: int = 1, natoms: int = NATOMS) -> None:
        """Write the input of examples/water, or with another descriptor, for these data."""
        options = json.loads((SHIPPED / "input.json").read_text())
        if self.descriptor:
            options["model"]["descriptor"] = copy.deepcopy(self.descriptor)
        for section in (options["model"]["fitting_net"], *_simple(options["model"]["descriptor"])):
            section.update(seed=1, precision=self.precision)
        training = options["training"]
        training.update(numb_steps=steps, disp_freq=disp_freq, save_freq=10**9, seed=1)
        training["training_data"] = {"systems": [str(path) for path in self.systems(natoms)], "batch_size": batch}
        del training["validation_data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(options, indent=4))

    def prepare(self, sides: dict[str, Side], threads: int) -> None:
        """Train the model and write it in the formats of both programs."""
        self.prepare_ours(sides["ours"], threads)
        if "theirs" in sides:
            self.prepare_theirs(sides["theirs"])

    def prepare_ours(self, side: Side, threads: int) -> None:
        """Train the model unless it is there, and write it in every format anew, because formats are worked on."""
        home = self.folder / "ours"
        if not (home / "model.dp").exists():
            print(f"training the model for {self.steps} steps")
            self.write_input(home / "input.json", self.steps, self.steps)
            self._dp(side, "--pt", "train", "input.json", threads=threads)
            self._dp(side, "freeze", "-o", "model.dp")
        print(f"writing our model files in {home}")
        for suffix in ("pth", "pb"):
            self._dp(side, "convert-backend", "model.dp", f"model.{suffix}")
            if not self.descriptor:
                self._try(
                    side, f"compressed.{suffix}", "compress", "-i", f"model.{suffix}", "-o", f"compressed.{suffix}"
                )

    def prepare_theirs(self, side: Side) -> None:
        """Have DeePMD-kit convert the model to its own files, and compress it."""
        home = self.folder / "theirs"
        home.mkdir(exist_ok=True)
        if not (home / "model.dp").exists():
            content = load_model(self.folder / "ours/model.dp")
            content.params["out_std"] = np.ones_like(
                content.params["out_std"]
            )  # in its .pb, but in no other file, it multiplies the energy
            save_model(home / "model.dp", content)
        print(f"writing the model files of DeePMD-kit in {home}")
        for suffix in ("pb", "pth"):
            self._try(side, f"model.{suffix}", "convert-backend", "model.dp", f"model.{suffix}")
        if not self.descriptor and not (home / "compressed.pb").exists() and (home / "model.pb").exists():
            self.write_input(home / "input.json", 1, 1)
            run(
                [side.python, "-c", COMPLETE_PB, "model.pb", "input.json", "complete.pb"],
                side.environment(1),
                home,
                LIMIT,
            )
            self._try(side, "compressed.pb", "compress", "-i", "complete.pb", "-o", "compressed.pb")

    def _dp(self, side: Side, *words: str, threads: int = 1) -> None:
        run([*side.dp, *words], side.environment(threads), self.folder / side.name, LIMIT)

    def _try(self, side: Side, target: str, *words: str) -> None:
        """Make a file, or note why there is none; files of theirs are made once."""
        path = self.folder / side.name / target
        if side.name == "theirs" and path.exists():
            return
        path.unlink(missing_ok=True)
        try:
            self._dp(side, *words)
        except RuntimeError as error:
            path.unlink(missing_ok=True)
            self.missing[side.name, target] = f"dp {words[0]}: {error}"
            print(f"{side.name}: no {target}: {error}")

    def _save_structure(self, path: Path, times: int) -> None:
        system = load_system(self._systems[0], TYPE_MAP)
        assert system.cell is not None  # as that of every system that was written here
        coord, cell = _repeat(system.coord[:1], system.cell[:1], (times,) * 3)
        np.savez(path, coord=coord, cell=cell.reshape(1, 9), types=np.tile(system.types, times**3))


def _edge(natoms: int) -> int:
    """Return how often the cell of 192 atoms is repeated along each axis."""
    edge: int = round((natoms / NATOMS) ** (1 / 3))
    return edge


def _save_system(system: System, folder: Path, edge: int, frames: int) -> None:
    """Write a training system of 192 atoms, or of an edge cubed times as many.

    Frames are repeated along their third axis to 192 atoms, then along all axes.
    """
    times, rest = divmod(NATOMS, system.num_atoms)
    if rest or system.cell is None:
        raise SystemExit(
            f"{system.path}: {system.num_atoms} atoms; "
            f"accepted: periodic systems whose number of atoms divides {NATOMS}"
        )
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "set.000").mkdir(parents=True)
    some = np.linspace(0, system.num_frames - 1, frames).astype(int)
    coord, cell = _repeat(system.coord[some], system.cell[some], (edge, edge, edge * times))
    copies = edge**3 * times
    labels: dict[str, np.ndarray] = {
        name: copies * system.data[name][some] for name in ("energy", "virial") if name in system.data
    }
    arrays: dict[str, np.ndarray] = {
        "coord": coord,
        "box": cell,
        "force": np.tile(system.data["force"][some], (1, copies, 1)),
        **labels,
    }
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(frames, -1))
    np.savetxt(folder / "type.raw", np.tile(system.types, copies), fmt="%d")
    (folder / "type_map.raw").write_text("\n".join(TYPE_MAP) + "\n")


def _simple(descriptor: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sections of a descriptor that have nets: itself, or the members of a hybrid."""
    sections: list[dict[str, Any]] = descriptor.get("list", [descriptor])
    return sections


def _repeat(coord: np.ndarray, cell: np.ndarray, times: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Repeat frames (F, n, 3) along the lattice vectors (F, 3, 3)."""
    shifts = np.stack(np.meshgrid(*(np.arange(k) for k in times), indexing="ij"), axis=-1).reshape(-1, 3)
    copies = coord[:, None] + (shifts @ cell)[:, :, None]
    return copies.reshape(len(coord), -1, 3), cell * np.array(times)[:, None]

"""Stored cases as frames of DeePMD-kit, and our files of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from interop.kit import ROOT, Frame

from deepmd.io import load_model, save_model
from deepmd.plan.expansions import choose_plan

GOLDEN = ROOT / "tests/golden"

CASES = sorted(path.name for path in GOLDEN.glob("se_e2_a*"))


def golden_frame(case: str, boundary: str = "pbc") -> Frame:
    """The structure of a stored result."""
    stored = np.load(GOLDEN / case / "expected.npz")
    found = {key.split("/")[1]: stored[key] for key in stored.files if key.startswith(f"{boundary}/")}
    shapes = {"fparam": (1, -1), "aparam": (1, len(found["type"]), -1), "charge_spin": (1, 2)}
    extra = {key: found[key].reshape(shape) for key, shape in shapes.items() if key in found}
    return Frame(found["coord"], found["type"], found.get("cell"), **extra)


class Files:
    """Our files of the stored models, made on demand: files[case, "model.pth"], files[case, "compressed.pb"]."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, key: tuple[str, str]) -> Path:
        case, name = key
        path = self.folder / case / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            content = load_model(GOLDEN / case / "model.dp")
            if name.startswith("compressed"):
                plan, _ = choose_plan(content.model, content.params, None, stored=True)
                content = replace(content, plan=plan)
            save_model(path, content)
        return path

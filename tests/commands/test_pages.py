"""Every block of code of the pages runs as it stands, or says why it does not (docs/run_page.py)."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from dataclasses import replace

import pytest
from commands.documented import PAGES, ROOT
from support import require

import deepmd.infer
import deepmd.io
from deepmd.io import convert, load_model, save_model
from deepmd.io.input_doc import input_doc

_spec = importlib.util.spec_from_file_location("run_page", ROOT / "docs/run_page.py")
assert _spec is not None
assert _spec.loader is not None
run_page = sys.modules["run_page"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_page)

GOLDEN = ROOT / "tests/golden"
FILES = {"model": "se_e2_a", "dipole": "dipole", "dos": "dos", "gap": "property"}
"""Model files that the pages take as given."""

RUN = [page for page in PAGES if any(not block.reason for block in run_page.blocks_of(page))]


@pytest.fixture
def place(tmp_path):
    """A folder with the files that pages take as given."""
    require("torch")
    require("tensorflow")
    for name, case in FILES.items():
        content = replace(load_model(GOLDEN / case / "model.dp"), min_nbor_dist=0.9)  # dp compress asks for it
        save_model(tmp_path / f"{name}.pth", content)
    convert(tmp_path / "model.pth", tmp_path / "model.pb")
    shutil.copy(tmp_path / "model.pth", tmp_path / "water.pth")
    shutil.copytree(ROOT / "examples/water/data", tmp_path / "data")
    for name in "abcd":
        shutil.copy(tmp_path / "model.pth", tmp_path / f"{name}.pth")
    shutil.copytree(ROOT / "examples/water", tmp_path / "examples/water")
    for path in (ROOT / "examples/water").iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    return tmp_path


def only_json(page):
    return all(block.language == "json" for block in run_page.blocks_of(page))


@pytest.mark.parametrize("page", [page for page in RUN if only_json(page)], ids=lambda page: page.name)
def test_page_of_sections(page, tmp_path):
    run_page.run_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated", "ignore::UserWarning")
@pytest.mark.parametrize("page", [page for page in RUN if not only_json(page)], ids=lambda page: page.name)
def test_page(page, place):
    run_page.run_page(page, place)


def test_blocks_that_fail_are_seen(tmp_path):
    for code in ("```sh\nfalse\ntrue\n```\n", "```python\nraise ValueError\n```\n", "```json\n{1}\n```\n"):
        (tmp_path / "page.md").write_text(code)
        with pytest.raises((ValueError, run_page.subprocess.CalledProcessError)):
            run_page.run_page(tmp_path / "page.md", tmp_path)


def test_the_reference_of_the_input_is_that_of_today():
    page = (ROOT / "docs/reference/input.md").read_text()
    written = page.partition("<!-- written by dp doc-train-input --out-type md -->\n")[2]
    assert written == input_doc("md"), "write it anew: dp doc-train-input --out-type md"


def test_every_public_name_has_an_entry():
    text = (ROOT / "docs/reference/python.md").read_text()
    entries = {line.removeprefix("::: ") for line in text.splitlines() if line.startswith("::: ")}
    for module in (deepmd, deepmd.infer, deepmd.io):
        for name in set(module.__all__) - {"__version__", "DeepPotential"}:  # the latter is DeepEval
            assert any(entry.endswith(f".{name}") for entry in entries), name


def test_every_error_and_warning_is_explained():
    text = (ROOT / "docs/troubleshooting.md").read_text()
    for path in (ROOT / "deepmd").rglob("*.py"):
        for name in re.findall(r"^class (\w+(?:Warning|Error))\(", path.read_text(), re.MULTILINE):
            assert f"`{name}`" in text, f"{name} of {path.relative_to(ROOT)}"

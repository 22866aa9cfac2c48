"""Run the code blocks of a page one after the other, as a reader would: python docs/run_page.py PAGE [FOLDER].

Shell blocks run in bash, which stops at the first error; the next block runs in the folder where one ends. Python
blocks share their names. JSON blocks are parsed. A comment before a block says what is done beside the page:
`<!-- not run: REASON -->` leaves the block out, `<!-- before: CODE -->` runs Python before it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(
    r"(?:<!-- (?P<word>not run|before): (?P<note>.*?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
ROOT = Path(__file__).resolve().parents[1]
SHELL = ("sh", "bash", "shell", "console")
LANGUAGES = (*SHELL, "python", "json")


class Block(NamedTuple):
    """A block of code, what runs before it, and why it does not run ("" if it does)."""

    language: str
    code: str
    before: str
    reason: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of code of a page; blocks of other languages are text."""
    for found in BLOCK.finditer(page.read_text()):
        if found["language"] in LANGUAGES:
            note = {found["word"]: found["note"]}
            yield Block(found["language"], found["code"], note.get("before", ""), note.get("not run", ""))


def run_page(page: Path, folder: Path, tell: bool = False) -> None:
    """Run the blocks of a page in a folder.

    Raises
    ------
    subprocess.CalledProcessError, or what a Python block raises
    """
    names: dict[str, Any] = {"__name__": "__main__", "ROOT": ROOT}
    for block in blocks_of(page):
        if block.reason:
            continue
        if tell:
            print(f"\n{block.code}", flush=True)  # noqa: T201
        if block.language == "json":
            json.loads(f"{{{block.code}}}" if block.code.lstrip().startswith('"') else block.code)
            continue
        with chdir(folder):
            exec(block.before, names)
            if block.language == "python":
                exec(compile(block.code, f"{page.name}: {block.code.splitlines()[0]}", "exec"), names)
                continue
            inside, outside = os.pipe()
            command = f"set -e\n{block.code}\npwd >&{outside}"
            subprocess.run(["bash", "-c", command], check=True, pass_fds=[outside])
            os.close(outside)
            folder = Path(os.read(inside, 4096).decode().strip())
            os.close(inside)


def main() -> None:
    """Run."""
    page = Path(sys.argv[1]).resolve()
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix=f"{page.stem}-")).resolve()
    folder.mkdir(exist_ok=True)
    start = time.perf_counter()
    run_page(page, folder, tell=True)
    print(f"\n{page.name}: done in {time.perf_counter() - start:.0f} s; files are in {folder}")  # noqa: T201


if __name__ == "__main__":
    main()

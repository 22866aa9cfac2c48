"""Command lines that the pages of the project tell to type, in shell blocks and between backticks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(path for folder in ("docs", "examples", "benchmarks") for path in sorted((ROOT / folder).rglob("*.md"))),
)
BLOCK = re.compile(r"```(?:sh|bash|shell|console)\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`((?:dp|make|python|lmp) [^`]+)`")


class Line(NamedTuple):
    """A command, the page that has it, and whether it stands in a shell block, where it must be complete."""

    page: Path
    words: tuple[str, ...]
    complete: bool

    @property
    def program(self) -> str:
        """The first word that is no assignment of a variable."""
        return next(word for word in self.words if not re.match(r"[A-Z_]+=", word))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words after the program."""
        return self.words[self.words.index(self.program) + 1 :]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {shlex.join(self.words)}"


def lines_of(page: Path) -> Iterator[Line]:
    """Yield the commands of a page in the order of the page, those of shell blocks first."""
    text = page.read_text()
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.partition(" #")[0].split("&&"):
                if (words := shlex.split(part, comments=True)) and words[0] != "$":
                    yield Line(page, tuple(words), complete=True)
    for code in INLINE.findall(BLOCK.sub("", text)):
        yield Line(page, tuple(shlex.split(code.replace("\n", " "))), complete=False)


LINES = [line for page in PAGES for line in lines_of(page)]

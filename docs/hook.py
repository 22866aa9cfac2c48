"""What the site has besides the pages of this folder (mkdocs.yml): other files as pages, and links to them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks/README.md": "how_to_measure.md",
    "examples/lammps/README.md": "lammps_inputs.md",
}
"""Files of the repository that are pages of the site too."""


def on_files(files: Files, config: Any) -> Files:
    """Add the files that are pages."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to other files of the repository point to their page, or be text where there is none."""
    own = page.file.src_uri
    source = next((name for name, target in PAGES.items() if target == own), f"docs/{own}")

    def replace(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        target = normpath(PurePosixPath(source).parent / path)
        if target in PAGES:
            target = f"docs/{PAGES[target]}"
        elif not target.startswith("docs/") or (ROOT / target).is_dir():
            return text
        return f"[{text}]({relpath(target, PurePosixPath('docs', own).parent)}{anchor})"

    return re.sub(r"\[([^]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)]*)?\)", replace, markdown)

"""Citations of pages of docs/ and links between pages lead somewhere: the page exists and has the section."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CITED = re.compile(r"docs/[\w/-]+\.md(?:#[\w-]+)?")
LINK = re.compile(r"\]\((?!\w+:)([^()\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


PAGES = {
    path: path.read_text() for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
}


def sections(page):
    """Names of the headings of a page as links spell them: small letters, hyphens for blanks, no other signs."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def dead(targets):
    """Those of (page, section or "") that do not exist."""
    return [
        f"{page}#{section}"
        for page, section in targets
        if not page.exists() or (section and section not in sections(page))
    ]


@pytest.mark.parametrize("folder", ["deepmd", "tests", "benchmarks"])
def test_every_cited_page_and_section_exists(folder):
    cited = {place for path in (ROOT / folder).rglob("*.py") for place in CITED.findall(path.read_text())}
    assert cited
    assert not dead((ROOT / page, section) for page, _, section in (place.partition("#") for place in sorted(cited)))


def links():
    """(page, linked page or folder, section or "") of every link that is not an address."""
    return [
        (page, (page.parent / target).resolve() if target else page, section)
        for page, text in PAGES.items()
        for target, _, section in (link.partition("#") for link in LINK.findall(FENCED.sub("", text)))
    ]


def test_links_between_pages_lead_somewhere():
    assert links()
    assert not dead((target, section) for _, target, section in links())


def test_every_page_is_linked():
    linked = {target for _, target, _ in links()}
    assert not {page for page in PAGES if (ROOT / "docs") in page.parents and not {page, page.parent} & linked}

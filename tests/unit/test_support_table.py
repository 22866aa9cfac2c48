"""The table of docs/support.md is that of the tests."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


def test_the_page_is_up_to_date(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "path", [str(TESTS), *sys.path])
    import support_table

    text = support_table.PAGE.read_text()
    assert support_table.page(text) == text, "run python tests/support_table.py"

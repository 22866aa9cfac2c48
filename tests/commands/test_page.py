"""The report page in a browser without a window: it renders, tells values under the mouse, asks no network, prints.

`make test-page`; Debian: `apt install chromium`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from commands.documented import ROOT
from support import require

pytestmark = pytest.mark.slow

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The report of a training of a few steps, in a folder whose name would be a tag if it were not escaped."""
    folder = tmp_path_factory.mktemp("report") / "<b>water"
    folder.mkdir()
    (folder / "data").symlink_to(ROOT / "examples/water/data")
    tree = json.loads((ROOT / "examples/water/fast.json").read_text())
    tree["training"] |= {"numb_steps": 50, "disp_freq": 1}
    (folder / "input.json").write_text(json.dumps(tree))
    words = [sys.executable, "-m", "deepmd", "--pt", "train", "input.json", "--report"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    require("playwright")
    if BROWSER is None:
        pytest.skip("no Chromium: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, page_file):
    """The page, opened; what it asked for and what it complained about are lists."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)  # ms; a page of 5 MB on a machine that does other things
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.goto(page_file.as_uri())
    page.wait_for_selector(".main-svg")
    yield page
    context.close()


def test_it_renders_without_errors(page):
    assert page.complaints == []
    plots = page.query_selector_all(".js-plotly-plot")
    assert len(plots) == 5 + 3 + 3  # curves, parity, histograms
    for plot in plots:
        box = plot.bounding_box()
        assert 250 < box["width"] < 400, "as wide as its column, of which there are three"
        drawn = plot.query_selector(".main-svg").bounding_box()
        assert drawn["width"] <= box["width"] + 1
        assert box["height"] > 200
    assert page.locator(".scatterlayer .point").count() > 1000
    for name in ("Learning curve", "Errors", "Data", "Use the model", "Input", "Versions"):
        assert page.get_by_role("heading", name=name, exact=True).is_visible()
    assert "<b>water" in page.inner_text("h1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280, "nothing is cut off on the right"


def test_it_tells_values_under_the_mouse(page):
    plot = page.locator(".js-plotly-plot").nth(6)  # forces
    plot.scroll_into_view_if_needed()
    box = plot.locator(".scatterlayer .point").nth(40).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hovertext")
    text = plot.locator(".hoverlayer").text_content()
    assert "label" in text
    assert "water_330b, frame" in text
    assert "atom" in text


def test_no_request_leaves_it(page, page_file):
    page.locator("summary").click()
    page.mouse.wheel(0, 3000)
    page.wait_for_timeout(500)
    assert page.asked[:1] == [page_file.as_uri()]
    assert [url for url in page.asked[1:] if not url.startswith(("data:", "blob:"))] == []


def test_it_prints(page, tmp_path):
    page.emulate_media(media="print")
    paper = page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 12
    assert page.locator("details").get_attribute("open") is not None, "the input is printed"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")  # a PDF leaves the page as it is on the screen
    assert page.locator(".main-svg").first.bounding_box()["width"] < 400, "plots fit two in a row of A4"

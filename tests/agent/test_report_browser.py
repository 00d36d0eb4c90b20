"""The HTML report in a real browser: offline, fluid with 1,200 heads, hostile tokens inert, usable by keyboard."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

playwright_api = pytest.importorskip("playwright.sync_api")

from agent.database import open_database  # noqa: E402
from agent.exports import export_run  # noqa: E402
from tests.believable import fill_database  # noqa: E402

pytestmark = pytest.mark.browser
expect = playwright_api.expect
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    engine = open_database(str(folder / "r.sqlite"))
    facts = fill_database(engine, n_layers=40, n_heads=30)
    assert export_run(engine, facts.run_id, folder / "r.html") == 1200
    engine.dispose()
    return folder / "r.html"


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def page(request, browser, report):
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
    made = context.new_page()
    problems: list[str] = []
    asked: list[str] = []
    made.on("console", lambda message: problems.append(message.text))
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("request", lambda one: asked.append(one.url))
    made.goto(report.as_uri())
    made.wait_for_selector(".head")
    yield made
    assert problems == []
    assert asked == [report.as_uri()]
    assert made.evaluate("window.hacked") is None
    context.close()


def test_no_sideways_scroll_and_everything_is_there(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.locator(".cell").count() == 1200
    assert page.locator("#totals dd").first.text_content() == "1200"
    assert page.locator(".head").count() == 60  # the rest only when asked for
    page.click("#more")
    assert page.locator(".head").count() == 120


def test_search_filters_list_and_map(page):
    page.fill("#query", "capital cairo")
    expect(page.locator("#found")).not_to_have_text("1200 of 1200 heads")
    found = int(page.text_content("#found").split()[0])
    assert 0 < found < 400
    assert page.locator(".cell:not(.out)").count() == found
    page.select_option("#status", "failed")
    assert page.text_content("#found") == "0 of 1200 heads"


def test_searching_all_heads_is_fluid(page):
    page.fill("#query", "zzz")  # builds the search texts once
    expect(page.locator("#found")).to_have_text("0 of 1200 heads")
    started = time.monotonic()
    page.fill("#query", "paris")
    expect(page.locator("#found")).not_to_have_text("0 of 1200 heads")
    assert time.monotonic() - started < 2


def test_hostile_tokens_are_text_and_heads_open_and_close(page):
    page.locator('.cell[data-key="39.0"]').click()
    dialog = page.locator("dialog")
    assert "<script>window.hacked=1</script>" in dialog.inner_text()
    assert "<U+202E>gnp.exe" in dialog.inner_text()
    assert dialog.locator("script, img").count() == 0
    assert page.url.endswith("#39.0")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_arrow_keys_move_over_the_map(page):
    page.locator('.cell[data-key="39.0"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.key") == "38.1"
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()


def test_colours_by_test(page):
    page.select_option("#colour", "verdict")
    assert "supported" in page.text_content("#legend")
    assert page.locator(".f-supported").count() > 100

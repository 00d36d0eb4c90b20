"""The HTML report in a real browser: offline, fluid with 1,200 heads, hostile tokens inert, usable by keyboard."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

playwright_api = pytest.importorskip("playwright.sync_api")

from agent.output.run_files import export_run  # noqa: E402
from agent.runs.database import open_database  # noqa: E402
from agent.runs.identity import ModelCard  # noqa: E402
from agent.runs.store import open_run, store_result  # noqa: E402
from maps_engine.model import ModelShape  # noqa: E402
from tests.support.believable import a_mapping, a_report, fill_database, identity_of  # noqa: E402
from tests.support.eval.browser import axe_findings  # noqa: E402
from tests.support.record_fixtures import quick  # noqa: E402

pytestmark = pytest.mark.browser
expect = playwright_api.expect
CHROMIUM = "/usr/bin/chromium"
FEW = {(2, 1): "copying", (2, 3): "copying 3", (1, 0): "copying 3", (0, 1): "antonym", (0, 3): None}  # of 3 x 5 heads


@pytest.fixture(scope="module")
def report(made_once) -> Path:
    def make(folder: Path) -> None:
        engine = quick(open_database(str(folder / "r.sqlite")))
        facts = fill_database(engine, n_layers=40, n_heads=30)
        assert export_run(engine, facts.run_id, folder / "r.html") == 1200
        engine.dispose()

    return made_once("report", make) / "r.html"


@pytest.fixture(scope="module")
def report_of_few(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    engine = open_database(str(folder / "r.sqlite"))
    card = ModelCard("few", "sha256:few", ModelShape(3, 5, 5, 16, 4, 99))
    run = open_run(engine, card=card, identity=identity_of("few"), heads=FEW).run_id
    for (layer, head), operation in FEW.items():
        known = operation and operation.removesuffix(" 3")
        made = a_report(a_mapping(layer, head, model="few", operation=known), known, "ok" if operation else "unclear")
        said = replace(made.description, operation=operation or "", observed_pattern="not copying 3 at all")
        store_result(engine, run, replace(made, description=said))
    export_run(engine, run, folder / "r.html")
    engine.dispose()
    return folder / "r.html"


@pytest.fixture
def few(browser, report_of_few):
    made = browser.new_page()
    made.goto(report_of_few.as_uri())
    made.wait_for_selector(".head")
    yield made
    made.close()


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


def test_the_map_has_a_line_for_every_layer_and_a_colour_for_every_category(page):
    first, second, above = (page.locator(f'.cell[data-key="{key}"]').bounding_box() for key in ("38.0", "38.1", "39.0"))
    assert (second["y"], above["x"]) == (first["y"], first["x"])
    assert second["x"] > first["x"]
    assert above["y"] < first["y"]
    looks = page.evaluate(
        """() => ["algorithmic", "knowledge", "linguistic", "translation"].map((name) =>
          getComputedStyle(document.querySelector(`.cell.f-${name}`)).backgroundColor)"""
    )
    assert len(set(looks)) == 4


def test_colours_by_test(page):
    page.select_option("#colour", "verdict")
    assert "supported" in page.text_content("#legend")
    assert page.locator(".f-supported").count() > 100


def shown_heads(page) -> list[str]:
    return page.locator(".head .id").all_text_contents()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, report_of_few, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(report_of_few.as_uri())
    assert axe_findings(page) == []
    page.locator(".head").first.click()
    assert axe_findings(page) == []
    page.close()


def test_a_common_operation_shows_its_heads_alone_whatever_was_searched_before(few):
    few.select_option("#status", "unclear")
    few.fill("#query", "nothing at all")
    few.locator("#operations button", has_text="copying 3").click()
    assert shown_heads(few) == ["1.0", "2.3"]
    assert few.locator(".cell:enabled:not(.out)").count() == 2
    few.wait_for_timeout(200)  # a search that was still waiting stays away
    assert few.text_content("#found") == "2 of 5 heads"
    assert (few.input_value("#query"), few.input_value("#status")) == ("", "")
    assert few.locator("#operation-name").inner_text() == "copying 3"


def test_the_chosen_operation_can_be_taken_away_or_narrowed(few):
    few.locator("#operations button").first.click()
    few.fill("#query", "1.0")
    expect(few.locator("#found")).to_have_text("1 of 5 heads")
    few.fill("#query", "")
    few.click("#every-operation")
    expect(few.locator("#found")).to_have_text("5 of 5 heads")
    assert not few.locator("#operation").is_visible()


def focused(page) -> str | None:
    return page.evaluate("document.activeElement.dataset.key")


def test_the_map_is_reached_by_tab_where_its_first_head_is_not_labelled(few):
    few.locator("#colour").focus()
    for _ in range(2):  # the map's own box scrolls and may take a stop
        few.keyboard.press("Tab")
        if focused(few):
            break
    assert focused(few) == "2.1"
    assert few.locator('.cell[tabindex="0"]').count() == 1


def test_arrow_keys_skip_heads_without_a_result(few):
    few.locator('.cell[data-key="2.1"]').focus()
    seen = []
    for key in ("ArrowDown", "ArrowUp", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"):
        few.keyboard.press(key)
        seen.append(focused(few))
    assert seen == ["0.1", "2.1", "2.3", "1.0", "0.1", "0.3", "0.3"]


def test_another_head_in_the_address_opens_it_in_the_open_page(few):
    for key in ("1.0", "2.3"):
        few.evaluate(f"location.hash = '{key}'")
        expect(few.locator("#page-title")).to_contain_text(f"Head {key}")
    few.go_back()
    expect(few.locator("#page-title")).to_contain_text("Head 1.0")
    few.evaluate("location.hash = '9.9'")
    expect(few.locator("dialog")).not_to_be_visible()

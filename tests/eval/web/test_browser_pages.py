"""Head browser and lead pages in a real Chromium: hostile tokens, links and Back, accessibility, no outside request, no
JavaScript (docs/design.md, "The web app").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlalchemy import Engine

from eval.rating.people import invite
from eval.rating.ratings import Answer
from tests.support.believable import Believable
from tests.support.eval.browser import Watched, answer, axe_findings, chromium, join, open_page
from tests.support.eval.studies import items_of, launched_from_run, rater, work
from tests.support.eval.web_server import served

pytestmark = pytest.mark.browser
PAGES = (
    "/",
    "/believable-360m",
    "/believable-360m?metric=percentile",
    "/believable-360m?metric=operations",
    "/believable-360m?metric=relation:antonym&view=table",
    "/believable-360m/head/7/0",
    "/believable-360m/head/7/1",
    "/search?q=Pa",
    "/compare?a=believable-360m:7.0&b=believable-360m:7.1",
    "/lead",
    "/lead/new",
    "/lead/studies/1",
    "/lead/studies/1/preview?item=5",
    "/lead/studies/1/agreement",
    "/lead/studies/1/disagreements",
    "/about",
    "/api/docs",
    "/nothing-here",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def base(
    small_template: tuple[Path, Believable], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Engine]]:
    """A server with a study that three scripted raters have worked on; shared, since these tests only look."""
    import shutil

    from eval.rating.store import open_studies

    path, facts = small_template
    copy = tmp_path_factory.mktemp("pages") / "records.sqlite"
    shutil.copy(path, copy)
    engine = open_studies(str(copy))
    study = launched_from_run(engine, facts.run_id, k=3, n_heads=8, control_share=0.25)
    items = items_of(engine, study)
    for number in range(3):

        def rule(screen: object, number: int = number) -> Answer:
            position = items[screen.public_id].position  # type: ignore[attr-defined]
            return Answer("yes", ("yes", "partly", "no")[(position * number) % 3], "<i>note</i>")

        work(engine, rater(engine, study), rule)
    with served(str(copy)) as address:
        yield address, engine


def rating_page(browser: Browser, base: tuple[str, Engine], **options: object) -> Watched:
    """A fresh rater on the first item of a new study."""
    study = launched_from_run(base[1], 1, k=9, n_heads=3, practice=1)
    watched = open_page(browser, base[0], **options)  # type: ignore[arg-type]
    join(watched, invite(base[1], study_id=study)[1])
    return watched


def assert_axe(watched: Watched, where: str) -> None:
    assert axe_findings(watched.page) == [], where


def overflow(watched: Watched) -> int:
    return int(watched.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_passes_the_accessibility_check(browser: Browser, base: tuple[str, Engine], scheme: str) -> None:
    watched = open_page(browser, base[0], color_scheme=scheme)
    for path in PAGES:
        watched.page.goto(path)
        assert_axe(watched, path)
    watched = rating_page(browser, base, color_scheme=scheme)
    assert_axe(watched, "question 1")
    watched.page.keyboard.press("y")
    watched.page.wait_for_selector("#answer")
    watched.page.click("summary:has-text('Skip')")
    assert_axe(watched, "question 2")
    answer(watched.page)
    assert_axe(watched, "feedback")
    answer(watched.page)
    for path in ("/rate/mine",):
        watched.page.goto(path)
        assert_axe(watched, path)
    watched.page.click("a:has-text('Change')")
    assert_axe(watched, "edit")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_pages_reflow_without_sideways_scrolling(browser: Browser, base: tuple[str, Engine], width: int) -> None:
    size = {"width": width, "height": 800}
    watched = open_page(browser, base[0], viewport=size)
    wide = {}
    for path in PAGES:
        watched.page.goto(path)
        wide[path] = overflow(watched)
    watched = rating_page(browser, base, viewport=size)
    wide["question 1"] = overflow(watched)
    watched.page.keyboard.press("y")
    watched.page.wait_for_selector("#answer")
    wide["question 2"] = overflow(watched)
    assert {path: n for path, n in wide.items() if n > 0} == {}


def test_hostile_tokens_are_inert_in_the_browser(browser: Browser, base: tuple[str, Engine]) -> None:
    watched = open_page(browser, base[0])
    page = watched.page
    for path in ("/believable-360m/head/7/0", "/compare?a=believable-360m:7.0&b=believable-360m:7.0"):
        page.goto(path)
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img, main script, main iframe").count() == 0
    assert page.inner_text(".mapping >> nth=0").count("U+202E") >= 1
    for q in ('"><img src=x onerror=window.hacked=1>', "<script>window.hacked=1</script>", "\u202eabc"):
        page.goto("/search")
        page.fill("main #q", q)
        page.click("main button[type=submit]")
        assert page.input_value("main #q") == q
        assert page.evaluate("window.hacked") is None
    page.goto("/")
    blocked = (
        "() => new Promise((r) => { const s = document.createElement('script'); "
        "document.addEventListener('securitypolicyviolation', () => r('refused')); s.textContent = 'window.hacked=1'; "
        "document.body.append(s); setTimeout(() => r('ran'), 1000); })"
    )
    assert page.evaluate(blocked) == "refused"


def test_hostile_tokens_are_inert_on_the_rating_page(browser: Browser, base: tuple[str, Engine]) -> None:
    study = launched_from_run(base[1], 1, k=1, first_layer=7, practice=0, attention=0, control_share=0.0)
    watched = open_page(browser, base[0])
    join(watched, invite(base[1], study_id=study)[1])
    page, met = watched.page, False
    while page.locator(".rating").count():
        met = met or "U+202E" in page.inner_text(".mapping")
        assert page.evaluate("window.hacked") is None
        assert overflow(watched) == 0
        answer(page)
    assert met
    assert watched.errors == []


def test_the_grid_keeps_its_metric_in_the_address_and_goes_back(browser: Browser, base: tuple[str, Engine]) -> None:
    watched = open_page(browser, base[0])
    page = watched.page
    page.goto("/")
    page.click("main a:has-text('believable-360m')")
    assert page.locator("a.cell").count() == 48
    page.select_option("#metric", "percentile")
    page.wait_for_url("**metric=percentile**")
    page.wait_for_selector(".cell.c8")
    link = page.url
    page.click("a.cell >> nth=2")
    page.wait_for_url("**/head/7/2*")
    assert "Layer 7, head 2" in page.inner_text("h1")
    page.click("text=head 3")
    assert "Layer 7, head 3" in page.inner_text("h1")
    page.go_back()
    page.go_back()
    page.wait_for_selector("#metric")
    assert page.url == link
    assert page.input_value("#metric") == "percentile"
    page.go_back()
    page.wait_for_function("() => document.querySelector('#metric')?.value === 'category'")
    fresh = open_page(browser, base[0]).page
    fresh.goto(link)
    assert fresh.input_value("#metric") == "percentile"
    fresh.click(".tabs a:has-text('Table')")
    assert fresh.locator("tbody tr").count() == 48
    assert watched.errors == []


@pytest.mark.parametrize("width", [320, 1280])
def test_both_letters_of_a_cell_fit_side_by_side(browser: Browser, base: tuple[str, Engine], width: int) -> None:
    page = open_page(browser, base[0], viewport={"width": width, "height": 800}).page
    page.goto("/believable-360m")
    cell = page.locator("a.cell.sides").first
    box, sides = cell.bounding_box(), [side.bounding_box() for side in cell.locator(".side").all()]
    assert box is not None
    left, right = (side for side in sides if side is not None)
    assert left["width"] == pytest.approx(right["width"], abs=0.5)
    assert left["x"] + left["width"] == pytest.approx(right["x"], abs=0.5)
    assert left["width"] + right["width"] == pytest.approx(box["width"], abs=0.5)
    assert (left["height"], right["height"]) == (box["height"], box["height"])
    wide = cell.locator(".side").evaluate_all("sides => sides.map((one) => one.scrollWidth - one.clientWidth)")
    assert wide == [0, 0]
    cell.click()
    assert "Layer 7, head 0" in page.inner_text("h1")


def test_search_finds_heads_and_compare_shows_two(browser: Browser, base: tuple[str, Engine]) -> None:
    page = open_page(browser, base[0]).page
    page.goto("/believable-360m")
    page.fill("#q", "antonym")
    page.keyboard.press("Enter")
    page.click("tbody a >> nth=0")
    assert "antonym" in page.inner_text("#main")
    page.click("a:has-text('Compare') >> nth=1")
    page.fill("#b", "believable-360m:L7 H0")
    page.click("main button[type=submit]")
    assert page.locator(".half .card").count() == 2
    page.goto("/believable-360m/head/7/1")
    page.click("summary:has-text('suppresses')")
    assert page.locator("details[open] .mapping tbody tr").count() == 30
    page.click("text=Describe again")
    page.wait_for_selector("#job")


def test_no_request_leaves_the_machine(browser: Browser, base: tuple[str, Engine]) -> None:
    watched = open_page(browser, base[0])
    for path in PAGES:
        watched.page.goto(path)
        watched.page.wait_for_load_state("networkidle")
    rated = rating_page(browser, base)
    answer(rated.page)
    rated.page.goto("/rate/mine")
    seen = watched.requests + rated.requests
    assert len(seen) > 40
    assert {url.split("/")[2] for url in seen if not url.startswith("data:")} == {base[0].split("/")[2]}
    assert [e for e in watched.errors if "404" not in e] == []


def test_browsing_works_without_javascript(browser: Browser, base: tuple[str, Engine]) -> None:
    page = open_page(browser, base[0], java_script_enabled=False).page
    page.goto("/believable-360m")
    page.select_option("#metric", "score")
    page.click("main button:has-text('Show')")
    assert page.locator(".cell.c8, .cell.c7, .cell.c6").count() > 0
    page.select_option("#metric", "operations")
    page.click("main button:has-text('Show')")
    assert page.locator("a.cell.c8").first.inner_text() == "2"
    page.goto("/believable-360m")
    assert page.locator("a.cell.sides").first.inner_text().split() == ["L", "W"]
    page.click("a.cell >> nth=0")
    page.click("summary:has-text('What it suppresses')")
    # operations, tested words, salient tokens, parts, queries with their keys, what the tokens suppress
    assert page.locator(".mapping").count() == 6
    assert page.locator(".mapping.operations tbody tr").count() == page.locator(".mapping.parts tbody tr").count() == 2
    assert page.locator(".mapping.tested tbody tr").count() == 3
    account = page.locator("section[aria-labelledby=says] .said").inner_text()
    assert account.startswith("Attends to the token before (61%). When it attends to a token, it maps ")
    assert (
        page.locator("h2:has-text('What it attends to') + .said").inner_text() == "Attends to the token before (61%)."
    )
    bars = page.locator("figure svg rect").evaluate_all("found => found.map(one => one.getBoundingClientRect().height)")
    assert max(range(len(bars)), key=bars.__getitem__) == 1, "the tallest bar is that of the token before"
    page.click("summary:has-text('Queries with their keys')")
    assert page.locator("details[open] .mapping").last.is_visible()
    page.goto("/believable-360m")
    page.select_option("#metric", "attention:kinds")
    page.click("main button:has-text('Show')")
    assert page.locator("a.cell").first.inner_text() == "P"
    page.goto("/search")
    page.fill("main #q", "France")
    page.click("main button[type=submit]")
    assert page.locator("tbody tr").count() > 0
    page.goto("/lead/studies/1/disagreements")
    page.select_option("select >> nth=0", "partly")
    page.click("text=Keep the verdict >> nth=0")
    assert "Settled: partly" in page.inner_text("main")

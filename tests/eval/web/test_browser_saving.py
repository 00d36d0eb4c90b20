"""Answers that meet trouble on their way, and raters at once, in a real Chromium against a real server process."""

from __future__ import annotations

import re
import threading
from contextlib import suppress

import pytest
from playwright.sync_api import Browser, Error, Page, Route

from eval.rating.people import invite
from tests.support.eval.browser import NOT_SAVED, SCREEN_ID, answer, chromium, join, open_page, screen_id
from tests.support.eval.browser_site import Site, browser, site

__all__ = ["browser", "site"]
pytestmark = pytest.mark.browser


def _state(page: Page) -> str:
    page.wait_for_function(f"() => {NOT_SAVED}")
    return page.inner_text("#save-state")


@pytest.mark.parametrize("trouble", ["abort", "500", "slow"])
def test_a_failed_save_keeps_the_answer_and_a_retry_stores_one_row(site: Site, browser: Browser, trouble: str) -> None:
    watched, _, _ = site.rater(browser, site.study())
    page = watched.page
    answer(page, plausible="2", save=False)
    page.fill("#note", "a thought worth keeping")
    before = screen_id(page)

    def fail(route: Route) -> None:
        if not re.search(r"/rate/[\w-]{16}$", route.request.url):
            route.continue_()
        elif trouble == "abort":
            route.abort()
        elif trouble == "500":
            route.fulfill(status=500, body="<h1>boom</h1>", content_type="text/html")
        else:
            stored = route.fetch()  # the server gets it, but its answer takes ten seconds
            threading.Event().wait(10)
            with suppress(Error):  # the page has given this request up by now
                route.fulfill(response=stored)

    page.route("**/rate/**", fail)
    page.click("button:has-text('Save and next')")
    said = _state(page)
    assert "Your answer is still here" in said
    assert screen_id(page) == before
    assert page.input_value("#note") == "a thought worth keeping"
    assert page.is_checked("input[name=plausible][value=partly]")
    assert "boom" not in page.content()
    page.unroute("**/rate/**")
    page.click("button:has-text('Save and next')")
    page.wait_for_function("() => document.querySelector('#saved-line')?.innerText.includes('saved')")
    rows = site.rows("SELECT plausible, note, version FROM ratings")
    assert rows == [("partly", "a thought worth keeping", 1)]


def test_a_first_question_that_failed_is_answered_by_pressing_again(site: Site, browser: Browser) -> None:
    watched, _, _ = site.rater(browser, site.study(n_heads=2))
    asked: list[str] = []

    def fail_once(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.abort()
        else:
            route.continue_()

    watched.page.route("**/rate/*/pattern", fail_once)
    answer(watched.page)
    assert len(asked) == 2
    assert site.rows("SELECT pattern, version FROM ratings") == [("yes", 1)]


def test_keys_pressed_while_an_answer_is_saved_send_nothing_more(site: Site, browser: Browser) -> None:
    study = site.study(n_heads=3)
    watched, _, _ = site.rater(browser, study)
    page = watched.page
    answer(page, save=False)
    before, sent = screen_id(page), []

    def late(route: Route) -> None:
        sent.append(route.request.url)
        if len(sent) == 1:
            page.keyboard.press("Enter")
            page.keyboard.press("Enter")
        route.continue_()

    page.route(re.compile(r"/rate/[\w-]{16}$"), late)
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => ({SCREEN_ID}) !== {before!r}")
    page.keyboard.press("y")  # at once, as a quick rater does: the new screen takes keys as soon as it shows
    page.wait_for_selector("#answer")
    page.wait_for_timeout(300)
    assert len(sent) == 1
    now = screen_id(page).removesuffix("/skip")
    assert [url for url in watched.requests if url.endswith("/pattern")][1:] == [f"{site.base}{now}/pattern"]
    assert page.locator("#answer").count() == 1
    assert site.rows("SELECT plausible, version FROM ratings") == [("yes", 1)]


def test_eight_browsers_at_once_give_each_item_exactly_k_raters(site: Site) -> None:
    study = site.study(k=3, n_heads=12)
    tokens = [invite(site.engine, study_id=study)[1] for _ in range(8)]
    errors: list[BaseException] = []

    def rate_all(token: str) -> None:
        try:
            with chromium() as own:
                watched = open_page(own, site.base)
                join(watched, token)
                while watched.page.locator(".rating").count():
                    answer(watched.page)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=rate_all, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert errors == []
    per_item = site.rows(
        "SELECT item_id, count(*), count(DISTINCT rater_id) FROM ratings WHERE counted GROUP BY item_id"
    )
    assert len(per_item) == 12
    assert {(n, distinct) for _, n, distinct in per_item} == {(3, 3)}
    assert site.rows("SELECT count(*) FROM slots WHERE state != 'done'") == [(0,)]

"""A real headless Chromium for tests: contexts that report outside requests and policy violations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

AXE = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
}


def axe_findings(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is now, one line a rule."""
    found = Axe().run(page, options=AXE)
    return [f"{v['id']}: {v['help']} {[n['target'] for n in v['nodes'][:3]]}" for v in found.response["violations"]]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium under playwright."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page and what it did: requests, texts of its responses, console errors."""

    page: Page
    context: BrowserContext
    requests: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def open_page(browser: Browser, base: str, *, keep_bodies: bool = False, **options: Any) -> Watched:
    """A fresh context (own cookies) with its page; paths are relative to `base`."""
    context = browser.new_context(base_url=base, **options)
    page = context.new_page()
    watched = Watched(page, context)
    page.on("request", lambda request: watched.requests.append(request.url))
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("console", lambda m: watched.errors.append(m.text) if m.type == "error" else None)
    if keep_bodies:

        def keep(response: Any) -> None:
            if response.request.resource_type in ("document", "fetch", "xhr") and response.status < 300:
                watched.bodies.append(response.url + "\n" + str(response.all_headers()) + "\n" + response.text())

        page.on("requestfinished", lambda request: keep(request.response()))
    return watched


def join(watched: Watched, token: str) -> str:
    """Follow a personal link up to the first item; returns the resume code."""
    page = watched.page
    page.goto(f"/join/{token}")
    page.click("main button[type=submit]")
    code = page.inner_text("#resume-code")
    page.click("main a.primary")
    page.click("main button[type=submit]")
    page.wait_for_function(f"() => {BEGUN}")
    return code


def answer(page: Page, *, plausible: str = "1", save: bool = True) -> None:
    """Answer the item on screen by keys, and wait for the next screen."""
    page.wait_for_load_state("load")  # keys pressed before the page's script has run are nobody's
    before = screen_id(page)
    if page.locator("#answer").count() == 0:
        _press(page, "y", "document.querySelector('#answer') !== null")
    page.keyboard.press(plausible)
    if save:
        _press(page, "Enter", f"({SCREEN_ID}) !== {before!r}")


def _press(page: Page, key: str, done: str) -> None:
    """Press `key` until `done`: on a page that says its request failed, again, as it bids the rater."""
    for _ in range(5):
        page.keyboard.press(key)
        page.wait_for_function(f"() => ({done}) || ({NOT_SAVED})")
        if page.evaluate(done):
            return
        page.evaluate("document.querySelector('#save-state').textContent = ''")  # the next wait is for the next answer
    raise AssertionError(page.inner_text("main"))


BEGUN = "document.querySelector('[data-focus]') && !document.querySelector('form[action=\"/rate/instructions\"]')"
NOT_SAVED = "document.querySelector('#save-state')?.innerText.includes('Not saved')"
# Not the heading beside an item: "Item 4 of 12" becomes "Item 4 of 11" while the others rate.
SCREEN_ID = "document.querySelector('details form')?.getAttribute('action') ?? document.querySelector('h1').innerText"


def screen_id(page: Page) -> str:
    """What tells one screen from the next: the item's address, or the heading where there is no item."""
    return str(page.evaluate(SCREEN_ID))

"""What raters rely on (docs/design.md, "Rating studies"), in a real Chromium against a real server process."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlalchemy import create_engine, select, text

from agent.runs.database import reading
from eval.rating.answers import final_ratings
from eval.rating.exchange.export import export
from eval.rating.people import invite
from eval.rating.progress import progress
from eval.rating.tables import Event, Item
from tests.support.eval.browser import answer, join, open_page, screen_id
from tests.support.eval.browser_site import Site, browser, site

__all__ = ["browser", "site"]
pytestmark = pytest.mark.browser


def test_a_rater_sees_no_head_no_score_no_kind(site: Site, browser: Browser) -> None:
    study = site.study(n_heads=4, control_share=0.5, attention=1, practice=1)
    watched, token, _ = site.rater(browser, study, keep_bodies=True)
    page = watched.page
    while page.locator(".rating").count():
        answer(page)
    page.goto("/rate/mine")
    page.click("a:has-text('Change')")
    page.wait_for_selector("#note")
    for path in ("/", "/believable-360m", "/believable-360m/head/1/1.json", "/lead", "/api/v1/studies"):
        page.goto(path)
    everything = "\n".join([*watched.bodies, *watched.requests])
    assert len(watched.bodies) > 10
    for secret in ("believable", "sha256", "fingerprint", "swapped", "attention", "salience", "percentile", token):
        assert secret not in re.sub(r"http://[^\n]*/(?:join/|believable|lead|api)[^\n]*", "", everything), secret
    assert not re.search(r"\b(?:real|control)\b(?!s)", re.sub(r"Cache-Control|cache-control", "", everything))
    assert not re.search(r"(?i)\blayer\b|\bhead \d|\bL\d+ ?H\d+", everything)
    with reading(site.engine) as session:
        for item in session.scalars(select(Item).where(Item.study_id == study)):
            assert not item.public_id.isdigit()
            assert item.kind not in item.public_id


def test_ten_items_are_rated_by_keyboard_alone(site: Site, browser: Browser) -> None:
    study = site.study(n_heads=10)
    watched = open_page(browser, site.base)
    page = watched.page
    page.goto(f"/join/{invite(site.engine, study_id=study)[1]}")
    page.mouse.move(0, 0)
    for selector in ("#resume-code", ".instructions", ".rating"):
        page.keyboard.press("Enter")
        page.wait_for_selector(selector)
    for number in range(10):
        assert {k.upper() for k in page.locator("kbd").all_inner_texts()} >= {"Y", "N", "S"}
        if number == 3:
            page.keyboard.press("n")
            page.wait_for_selector("#answer")
            page.keyboard.press("o")
            page.keyboard.type("y1s is text here")
            page.keyboard.press("Escape")
        answer(page, plausible="1234"[number % 4])
    assert "All done" in page.inner_text("h1")
    found = site.rows("SELECT pattern, plausible, note FROM ratings ORDER BY id")
    assert [row[1] for row in found] == [
        "yes",
        "partly",
        "no",
        "cannot",
        "yes",
        "partly",
        "no",
        "cannot",
        "yes",
        "partly",
    ]
    assert found[3][::2] == ("no", "y1s is text here")


def test_a_rater_resumes_in_a_new_browser_by_the_same_link(site: Site, browser: Browser) -> None:
    watched, token, code = site.rater(browser, site.study())
    page = watched.page
    answer(page)
    answer(page, plausible="3", save=False)
    page.fill("#note", "half a thought")
    with page.expect_response(lambda r: r.url.endswith("/draft") and "half" in (r.request.post_data or "")):
        page.keyboard.press("Tab")
    here = screen_id(page)
    watched.context.close()
    again = open_page(browser, site.base).page
    again.goto(f"/join/{token}")
    again.fill("#code", code)
    again.keyboard.press("Enter")
    again.wait_for_selector(".rating")
    assert screen_id(again) == here
    assert again.input_value("#note") == "half a thought"
    assert again.is_checked("input[name=plausible][value=no]")
    assert "You said yes" in again.inner_text("#answer")


def test_undo_and_edit_keep_one_value_and_the_history(site: Site, browser: Browser) -> None:
    study = site.study()
    page = site.rater(browser, study)[0].page
    answer(page)
    page.keyboard.press("u")
    page.wait_for_url("**/rate/mine/*")
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rate/mine")
    assert "no" in page.inner_text("table")
    (rating,) = final_ratings(site.engine, study, history=True)
    assert rating.plausible == "no"
    assert [v["plausible"] for v in rating.history] == ["yes", "no"]
    assert '"plausible": "no"' in export(site.engine, study, "jsonl")
    with reading(site.engine) as session:
        events = [e.what for e in session.scalars(select(Event).where(Event.study_id == study).order_by(Event.id))]
    assert events[-2:] == ["rated", "changed"]


def test_skip_needs_a_reason(site: Site, browser: Browser) -> None:
    page = site.rater(browser, site.study())[0].page
    before = screen_id(page)
    page.keyboard.press("s")
    page.click("details button[type=submit]")
    page.wait_for_selector("#skip-error")
    assert "why you skip" in page.inner_text("#skip-error")
    assert page.get_attribute("#skip_reason", "aria-describedby") == "skip-error"
    assert screen_id(page) == before
    page.fill("#skip_reason", "I do not read this script")
    page.click("details button[type=submit]")
    page.wait_for_selector("#skip-error", state="detached")
    assert screen_id(page) != before
    assert site.rows("SELECT skip_reason FROM ratings") == [("I do not read this script",)]


def test_the_total_follows_what_others_rate_while_the_item_stays(site: Site, browser: Browser) -> None:
    study = site.study(n_heads=4)
    page, other = (site.rater(browser, study)[0].page for _ in range(2))
    item, heading = screen_id(page), page.inner_text("h1")
    answer(other)
    page.reload()
    assert (heading, page.inner_text("h1")) == ("Item 1 of 4", "Item 1 of 2")  # one rated, one on the other's screen
    assert screen_id(page) == item


def test_progress_shows_after_each_item_up_to_the_finish(site: Site, browser: Browser) -> None:
    page = site.rater(browser, site.study(n_heads=3))[0].page
    lines = []
    for _ in range(3):
        lines.append((page.inner_text("h1"), page.inner_text("#saved-line")))
        answer(page)
    assert [h for h, _ in lines] == ["Item 1 of 3", "Item 2 of 3", "Item 3 of 3"]
    assert lines[0][1] == "0 of 3"
    assert all(re.fullmatch(rf"{n} of 3, saved \d\d:\d\d", lines[n][1]) for n in (1, 2))
    assert re.search(r"3 of 3 rated, saved \d\d:\d\d", page.inner_text("main"))


def test_a_second_use_of_the_link_is_refused(site: Site, browser: Browser) -> None:
    watched, token, _ = site.rater(browser, site.study())
    assert token not in " ".join(u for u in watched.requests if "/join/" not in u)
    assert token not in watched.page.url
    other = open_page(browser, site.base).page
    other.goto(f"/join/{token}")
    assert token not in other.url
    other.click("main button[type=submit]")
    assert "used before" in other.inner_text("main")
    other.goto("/rate")
    assert "not signed in" in other.inner_text("main")
    cookies = {c["name"]: c for c in watched.context.cookies()}
    own = cookies["__Host-headscribe"]
    assert own["httpOnly"]
    assert own["secure"]
    assert own["sameSite"] == "Lax"


def test_rating_works_without_javascript(site: Site, browser: Browser) -> None:
    study = site.study(n_heads=3, practice=1)
    watched = open_page(browser, site.base, java_script_enabled=False)
    page = watched.page
    join(watched, invite(site.engine, study_id=study)[1])
    assert "Practice 1 of 1" in page.inner_text("h1")
    for number in range(4):
        page.click("button[name=pattern][value=yes]")
        if number == 1:
            page.click("button:has-text('Save and next')")
            assert "Please answer question 2" in page.inner_text("#plausible-error")
        page.check("input[name=plausible][value=yes]", force=True)
        page.click("button:has-text('Save and next')")
        if number == 0:
            assert "country to its capital" in page.inner_text("[role=status]")
    assert "All done" in page.inner_text("h1")
    page.goto("/rate/mine")
    assert page.locator("tbody tr").count() == 3
    page.click("text=Sign out")
    assert site.rows("SELECT count(*) FROM ratings") == [(4,)]


def test_the_lead_sees_leases(site: Site, browser: Browser) -> None:
    study = site.study()
    site.rater(browser, study)
    lead = open_page(browser, site.base).page
    lead.goto(f"/lead/studies/{study}")
    assert "until" in lead.inner_text("[aria-label=Leases]")
    engine = create_engine(site.engine.url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE slots SET lease_expires = :t WHERE state = 'leased'"), {"t": time.time() - 60})
    engine.dispose()
    lead.reload()
    assert "ran out" in lead.inner_text("[aria-label=Leases]")
    assert "signed in" in lead.inner_text("[aria-label='Audit trail']")
    assert progress(site.engine, study).leases[0].expired


def test_keys_can_be_switched_off(site: Site, browser: Browser) -> None:
    page = site.rater(browser, site.study())[0].page
    page.click("#keys-switch")
    before = screen_id(page)
    page.keyboard.press("y")
    page.wait_for_timeout(300)
    assert screen_id(page) == before
    assert page.locator("#answer").count() == 0
    assert not page.locator("kbd").first.is_visible()


def test_a_study_by_scripted_raters_reaches_its_report(site: Site, browser: Browser, tmp_path: Path) -> None:
    lead = open_page(browser, site.base).page
    lead.goto("/lead/new")
    lead.fill("#name", "Scripted")
    for field, value in {"#n_heads": "4", "#k": "2", "#control_percent": "25", "#practice": "1"}.items():
        lead.fill(field, value)
    lead.click("text=Make the draft")
    assert "no-tested-rows" in lead.inner_text("main")  # the model of the fixture's run is nowhere
    assert lead.input_value("#name") == "Scripted"
    lead.uncheck("#tested_rows")
    lead.click("text=Make the draft")
    lead.click("text=Launch")
    for number in range(2):
        lead.click("text=Make a personal link")
        token = lead.inner_text("#personal-link").rpartition("/")[2]
        watched = open_page(browser, site.base)
        join(watched, token)
        while watched.page.locator(".rating").count():
            answer(watched.page, plausible=str(1 + number))
        watched.context.close()
    lead.click("text=Agreement")
    shown = lead.inner_text("main")
    assert all(part in shown for part in ("Krippendorff", "AC1", "Real minus swapped", "By layer"))
    lead.click("text=Overview")
    with lead.expect_download() as got:
        lead.click("text=Report, HTML")
    path = tmp_path / "report.html"
    got.value.save_as(path)
    assert 'src="data:image/svg+xml;base64,' in path.read_text(encoding="utf-8")

"""The web app without a browser: guards, cookies, roles, tokens, errors, JSON, jobs."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Engine
from starlette.testclient import TestClient

from agent.errors import UnknownRun
from eval.errors import BadStudy, NotFound
from eval.rating.people import invite
from eval.rating.studies import close_study
from eval.web.app import create_app
from eval.web.security import POLICY, RateLimit
from eval.web.serve import is_loopback, serve
from eval.web.settings import WebSettings
from maps_engine.errors import HeadscribeError, UserMistake
from tests.support.believable import HOSTILE, Believable
from tests.support.eval.studies import YES, launched_from_run
from tests.support.eval.web_app import OURS, client_of, sign_in

PAGES = (
    "/",
    "/believable-360m",
    "/believable-360m?metric=percentile",
    "/believable-360m?metric=relation:antonym&view=table",
    "/believable-360m?metric=suppression:antonym",
    "/believable-360m/head/7/0",
    "/believable-360m/head/0/1",
    "/search?q=Par",
    "/compare?a=believable-360m:7.0&b=believable-360m:6.1",
    "/lead",
    "/lead/new",
    "/about",
    "/api/docs",
)


@pytest.mark.parametrize("path", PAGES)
def test_pages_come_with_strict_headers_and_nothing_inline(site: tuple[WebSettings, TestClient], path: str) -> None:
    answer = site[1].get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    text = answer.text
    assert not re.search(r"<script(?! src=\"/static/)", text)
    assert not re.search(r"\sstyle=|\son[a-z]+=\"|<style|javascript:", text)
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text)


def test_a_head_page_shows_words_for_which_the_description_holds_and_words_that_it_missed(
    site: tuple[WebSettings, TestClient],
) -> None:
    pages = [site[1].get(f"/believable-360m/head/{layer}/{head}").text for layer in (6, 7) for head in range(4)]
    (page, *_) = [one for one in pages if "percentile among heads" in one]
    table = re.search(r"Words that the description was tested on</caption>(.*?)</table>", page, re.S).group(1)
    held, also, missed = re.findall(r"<tr><td>(yes|no)</td>(.*?)</tr>", table, re.S)
    assert (held[0], also[0], missed[0]) == ("yes", "yes", "no")
    assert "France" in held[1]
    assert held[1].count("Paris") >= 2  # as said, and among the targets
    assert "Peru" in also[1]
    assert "&lt;b&gt;Chad" in missed[1]


def test_hostile_tokens_are_escaped(site: tuple[WebSettings, TestClient]) -> None:
    text = site[1].get("/believable-360m/head/7/0").text
    for bad in ("<script>window", "<img src=x", "\u202e", "\x00", "\x1b", "x" * 200):
        assert bad not in text
    assert "U+202E" in text
    assert "10,000 characters" in text
    twin = site[1].get("/believable-360m/head/7/0.json").json()
    assert [row["token"] for row in twin["rows"][: len(HOSTILE)]] == list(HOSTILE)


@pytest.mark.parametrize("view", ["grid", "table"])
def test_every_head_of_a_chosen_run_keeps_the_run(site: tuple[WebSettings, TestClient], view: str) -> None:
    text = site[1].get(f"/believable-360m?run=1&view={view}").text
    links = re.findall(r'href="(/believable-360m/head/[^"]*)"', text)
    assert len(links) == 48
    assert [link for link in links if not link.endswith("?run=1")] == []


def test_a_grid_of_relation_scores_says_how_they_were_made(site: tuple[WebSettings, TestClient]) -> None:
    text = site[1].get("/believable-360m?metric=relation:antonym").text
    assert '<p class="dim small">relation score: antonym, in the top 10, source ' in text
    assert "in the top" not in site[1].get("/believable-360m?metric=percentile").text


def test_the_table_of_a_run_leads_to_heads_of_that_run(site: tuple[WebSettings, TestClient]) -> None:
    for view in ("grid", "table"):
        page = site[1].get(f"/believable-360m?run=1&view={view}").text
        links = re.findall(r'href="(/believable-360m/head/[^"]+)"', page)
        assert len(links) == 48
        assert [link for link in links if not link.endswith("?run=1")] == [], view


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("this was taken away"), 404),
        (UnknownRun("this was never labelled"), 404),
        (BadStudy("a study has no such setting"), 400),
        (UserMistake("no such option"), 400),
    ],
)
def test_not_found_follows_from_the_type_and_never_from_the_words(
    filled: tuple[Engine, Believable], error: HeadscribeError, status: int
) -> None:
    app = create_app(WebSettings(filled[0]))

    def failing() -> None:
        raise error

    app.router.routes.insert(0, APIRoute("/failing", failing))
    assert client_of(app).get("/failing").status_code == status


def test_a_page_and_its_json_twin_say_the_same(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    twin = client.get("/believable-360m/head/7/1.json").json()
    api = client.get("/api/v1/models/believable-360m/heads/7/1").json()
    assert twin == api
    assert {"rows", "suppressed_rows", "description", "test", "relations", "similar", "provenance"} <= set(twin)
    assert len(twin["relations"]) == 6


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 404),
        ({"sec-fetch-site": "same-origin"}, 404),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "https://127.0.0.1"}, 404),
        ({"origin": "https://127.0.0.1", "sec-fetch-site": "cross-site"}, 403),
        ({"authorization": "Bearer x"}, 404),
    ],
)
def test_requests_from_other_sites_change_nothing(
    site: tuple[WebSettings, TestClient], headers: dict[str, str], status: int
) -> None:
    assert site[1].post("/lead/studies/99/launch", headers=headers).status_code == status


def test_a_bearer_header_does_not_lend_a_cookie_its_intent(site: tuple[WebSettings, TestClient]) -> None:
    headers = {"authorization": "Bearer x", "cookie": "__Host-headscribe=y"}
    assert site[1].post("/lead/studies/99/launch", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_unknown_host_names_are_refused(site: tuple[WebSettings, TestClient], host: str) -> None:
    assert site[1].get("/", headers={"host": host}).status_code == 400


def test_large_bodies_are_refused(site: tuple[WebSettings, TestClient]) -> None:
    answer = site[1].post("/join", headers=OURS | {"content-length": "9999999"}, content=b"x")
    assert answer.status_code == 413


def test_a_link_signs_in_once_with_a_strict_cookie_until_sign_out(guarded: tuple[Engine, TestClient]) -> None:
    engine, client = guarded
    _, token = invite(engine, study_id=1)
    first = client.get(f"/join/{token}")
    cookie = first.headers["set-cookie"]
    assert cookie.startswith("__Host-")
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert token not in first.headers["location"]
    asked = client.get("/join")
    assert "Continue as R1?" in asked.text
    assert token not in asked.text
    joined = client.post("/join", headers=OURS)
    code = re.search(r'id="resume-code">([a-z0-9-]+)<', joined.text)
    assert code is not None
    assert client.get("/rate").status_code == 200
    for path in ("/", "/lead", "/believable-360m", "/search?q=a", "/api/v1/models", "/believable-360m/head/1/1.json"):
        assert client.get(path).status_code in (303, 403), path
    assert client.post("/sign-out", headers=OURS).status_code == 303
    assert client.get("/rate").status_code == 401
    again = sign_in(client, token)
    assert again.status_code == 403
    assert "used before" in again.text
    assert client.post("/join", headers=OURS, data={"code": code[1]}).headers["location"] == "/rate"


def test_tries_at_links_are_limited(guarded: tuple[Engine, TestClient]) -> None:
    _, client = guarded
    seen = [client.post("/join", headers=OURS, data={"code": str(n)}).status_code for n in range(12)]
    assert seen == [401] * 10 + [429] * 2


def test_leads_come_in_by_link_too(guarded: tuple[Engine, TestClient]) -> None:
    engine, client = guarded
    assert client.get("/lead").status_code == 401
    assert client.get("/").status_code == 200
    assert "personal link" in client.get("/").text
    sign_in(client, invite(engine, study_id=None, name="Ada", role="lead")[1])
    assert client.get("/lead").status_code == 200
    assert client.get("/believable-360m").status_code == 200


def test_raters_may_browse_once_their_study_is_closed(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    study = launched_from_run(engine, facts.run_id, n_heads=5)
    client = client_of(create_app(WebSettings(engine)))
    assert client.get("/believable-360m").status_code == 200
    sign_in(client, invite(engine, study_id=study)[1])
    assert client.get("/believable-360m").status_code == 403
    close_study(engine, study)
    assert client.get("/believable-360m").status_code == 200
    assert client.get("/lead").status_code == 403


def test_the_lead_makes_launches_invites_and_exports(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    form = {"name": "Mine", "run": "1", "k": "2", "n_heads": "4", "control_percent": "25", "practice": "1"}
    wrong = client.post("/lead/studies", headers=OURS, data=form | {"k": "x"})
    assert wrong.status_code == 422
    assert "k must be a whole number" in wrong.text
    assert 'value="Mine"' in wrong.text
    made = client.post("/lead/studies", headers=OURS, data=form)
    study = made.headers["location"]
    assert "believable-360m" in client.get(study + "/preview?item=3").text
    assert client.post(study + "/launch", headers=OURS).status_code == 303
    assert client.post(study + "/launch", headers=OURS).status_code == 409
    link = re.search(r'id="personal-link">([^<]+)<', client.post(study + "/invite", headers=OURS).text)
    assert link is not None
    assert "/join/" in link[1]
    client.post(study + "/judge", headers=OURS)
    for page in ("", "/agreement", "/disagreements"):
        assert client.get(study + page).status_code == 200
    for fmt in ("csv", "jsonl", "label-studio", "report-md", "report-html"):
        answer = client.get(f"{study}/export/{fmt}")
        assert "attachment" in answer.headers["content-disposition"]
    assert client.get(f"{study}/export/xml").status_code == 400
    assert client.post(study + "/close", headers=OURS).status_code == 303


def test_the_lead_makes_a_study_of_each_operation(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    box = '<input type="checkbox" id="each_operation" name="each_operation" value="1"'
    assert f"{box}>" in client.get("/lead/new").text
    form = {"name": "Mine", "run": "1", "k": "2", "n_heads": "4", "control_percent": "25", "each_operation": "1"}
    assert f"{box} checked>" in client.post("/lead/studies", headers=OURS, data=form | {"k": "x"}).text
    study = client.post("/lead/studies", headers=OURS, data=form).headers["location"]
    page = client.get(study).text
    assert "<dt>descriptions</dt><dd>8, one for each operation of a head</dd>" in page
    assert "<dt>control items</dt><dd>2</dd>" in page
    previews = [client.get(f"{study}/preview?item={n}").text for n in range(10)]
    real = [one for one in previews if '<span class="chip">real</span>' in one]
    about = [re.search(r"<dt>operation</dt><dd>(.*?)</dd><dt>part</dt><dd>(\d)</dd>", one) for one in real]
    assert sum(found is not None and found[2] == "1" and "plural nouns" in found[1] for found in about) == 4
    assert sum("Maps plural nouns so." in one for one in real) == 4
    plain = client.post("/lead/studies", headers=OURS, data={k: v for k, v in form.items() if k != "each_operation"})
    assert "<dt>descriptions</dt><dd>4</dd>" in client.get(plain.headers["location"]).text


def test_errors_are_one_line_pages(site: tuple[WebSettings, TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    client = site[1]
    for path in ("/nope", "/believable-360m/head/99/0", "/believable-360m/head/x/0", "/compare?a=zzz"):
        answer = client.get(path)
        assert answer.status_code in (400, 404, 422), path
        assert "Traceback" not in answer.text
    monkeypatch.setattr("eval.web.browser.browse.models", lambda _: 1 / 0)
    crash = client.get("/")
    assert crash.status_code == 500
    assert crash.headers["content-security-policy"] == POLICY
    assert "ZeroDivision" not in crash.text


def test_a_lost_database_is_said_plainly(site: tuple[WebSettings, TestClient]) -> None:
    settings, client = site
    with settings.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE runs")
    answer = client.get("/")
    assert answer.status_code == 503
    assert "database cannot be used" in answer.text


def test_wide_addresses_need_accounts() -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "host.example")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(Exception, match="--accounts"):
        serve(database=None, host="0.0.0.0")


def test_the_rate_limit_forgets(site: tuple[WebSettings, TestClient]) -> None:
    now = [0.0]
    limit = RateLimit(2, 10, lambda: now[0])
    assert [limit.wait("a") > 0 for _ in range(3)] == [False, False, True]
    assert limit.wait("b") == 0
    now[0] = 11
    assert limit.wait("a") == 0
    app = site[1].app
    assert isinstance(app, FastAPI)
    app.state.api_limit = RateLimit(1, 60)
    assert site[1].get("/api/v1/models").status_code == 200
    answer = site[1].get("/api/v1/models")
    assert (answer.status_code, int(answer.headers["retry-after"]) > 50) == (429, True)


def test_search_finds_the_other_names_of_an_operation(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    path = "/api/v1/models/believable-360m/search"
    own, other, operation = (
        client.get(path, params={"q": text, "where": where}).json()
        for text, where in (
            ('plural nouns to "are"', "all"),
            ("plural nouns to verb", "all"),
            ("plural nouns to verb", "operation"),
        )
    )
    assert own["total"] == other["total"] == operation["total"] > 0
    head = other["heads"][0]
    page = client.get(f"/believable-360m/head/{head['layer']}/{head['head']}").text
    assert "(also plural nouns to verb forms)" in page


def test_search_finds_by_side(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    reads = client.get("/api/v1/models/believable-360m/search?q=france&where=reads").json()
    promotes = client.get("/api/v1/models/believable-360m/search?q=paris&where=promotes").json()
    assert reads["total"] == promotes["total"] > 0
    assert all(h["operation"] == "capital of a country" for h in reads["heads"])
    assert client.get("/api/v1/models/believable-360m/search?q=fran&where=reads").json()["total"] == reads["total"]
    for odd in ("%", "_", "'", "\x00", "\U0010ffff", "\\"):
        assert client.get("/api/v1/models/believable-360m/search", params={"q": odd}).status_code == 200


def test_my_ratings_and_edits(guarded: tuple[Engine, TestClient]) -> None:
    engine, client = guarded
    sign_in(client, invite(engine, study_id=1)[1])
    client.post("/rate/instructions", headers=OURS)
    found = re.search(r'action="/rate/([\w-]{16})/pattern"', client.get("/rate").text)
    assert found is not None
    item = found[1]
    assert client.post(f"/rate/{item}/draft", headers=OURS, data={"pattern": "yes"}).status_code == 204
    assert client.post(f"/rate/{item}", headers=OURS, data={"pattern": "yes"}).status_code == 422
    answer = {"pattern": YES.pattern, "plausible": YES.plausible}
    assert client.post(f"/rate/{item}", headers=OURS, data=answer).status_code == 200  # practice: feedback
    assert client.get(f"/rate/mine/{item}").status_code == 200
    assert client.post(f"/rate/mine/{item}", headers=OURS, data={"pattern": "no"}).status_code == 422
    changed = client.post(f"/rate/mine/{item}", headers=OURS, data=answer | {"note": "hm"})
    assert changed.headers["location"] == "/rate/mine"
    assert client.get("/rate/mine").status_code == 200
    assert client.get("/rate/mine/none").status_code == 404

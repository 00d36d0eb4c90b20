"""The web app without a browser: guards, cookies, roles, tokens, errors, JSON, jobs."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, replace
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from agent.results import Claim, HeadReport
from agent.run_identity import ModelCard, RunIdentity
from agent.run_store import RelationScore, open_run, store_relation_scores
from agent.run_tables import show_run
from eval.errors import BadStudy
from eval.rating.people import invite, new_api_token
from eval.rating.studies import close_study
from eval.scoring.keeping import DatabaseKeeper
from eval.scoring.results import HeadScore, Outcome
from eval.web.app import create_app
from eval.web.jobs import RUN_IDENTITY, keep_in_records
from eval.web.pages import token_text
from eval.web.security import POLICY, RateLimit
from eval.web.serve import is_loopback, serve
from eval.web.settings import WebSettings
from maps_engine.model import ModelShape
from maps_engine.results import SourceChoice, SourceEvidence
from tests.believable import HOSTILE, SETTINGS, Believable, a_mapping, a_report
from tests.eval.study_help import YES, launched_from_run

OURS = {"sec-fetch-site": "same-origin"}


def describe(_model: str, layer: int, head: int) -> HeadReport:
    if head == 5:
        raise BadStudy("this head is not for describing")
    if head == 4:
        raise ZeroDivisionError
    mapping = replace(a_mapping(layer, head, operation="antonym"), fingerprint="sha256:believable-360m")
    return a_report(mapping, "antonym")


def client_of(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="https://127.0.0.1", follow_redirects=False)


@pytest.fixture
def site(filled: tuple[Engine, Believable]) -> tuple[WebSettings, TestClient]:
    settings = WebSettings(filled[0], describe=describe)
    return settings, client_of(create_app(settings))


@pytest.fixture
def guarded(filled: tuple[Engine, Believable]) -> tuple[Engine, TestClient]:
    engine, facts = filled
    launched_from_run(engine, facts.run_id, n_heads=5)
    return engine, client_of(create_app(WebSettings(engine, accounts=True, describe=describe)))


def sign_in(client: TestClient, token: str) -> Any:
    assert client.get(f"/join/{token}").headers["location"] == "/join"
    return client.post("/join", headers=OURS)


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


def test_row_10_hostile_tokens_are_escaped(site: tuple[WebSettings, TestClient]) -> None:
    text = site[1].get("/believable-360m/head/7/0").text
    for bad in ("<script>window", "<img src=x", "\u202e", "\x00", "\x1b", "x" * 200):
        assert bad not in text
    assert "U+202E" in text
    assert "10,000 characters" in text
    twin = site[1].get("/believable-360m/head/7/0.json").json()
    assert [row["token"] for row in twin["rows"][: len(HOSTILE)]] == list(HOSTILE)


def test_tokens_show_what_cannot_be_seen() -> None:
    assert token_text(" a\n\x00") == (
        '<bdi class="tok"><span class="sp">␣</span>a<span class="esc">\\n</span><span class="esc">U+0000</span></bdi>'
    )
    assert "empty" in token_text("")
    for bad in HOSTILE:
        shown = str(token_text(bad))
        assert "<script" not in shown
        shown.encode("utf-8")


def test_row_14_json_twin_says_the_same(site: tuple[WebSettings, TestClient]) -> None:
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


def test_row_09_links_cookies_roles_and_sign_out(guarded: tuple[Engine, TestClient]) -> None:
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


def test_row_09_tries_at_links_are_limited(guarded: tuple[Engine, TestClient]) -> None:
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


def test_api_tokens_and_scopes(guarded: tuple[Engine, TestClient]) -> None:
    engine, client = guarded
    read = {"authorization": "Bearer " + new_api_token(engine, name="r", scopes=("read",))}
    export = {"authorization": "Bearer " + new_api_token(engine, name="e", scopes=("export",))}
    assert client.get("/api/v1/models").status_code == 401
    assert client.get("/api/v1/models", headers={"authorization": "Bearer hs_x"}).status_code == 403
    assert client.get("/api/v1/models", headers=read).status_code == 200
    assert client.get("/api/v1/studies", headers=read).status_code == 403
    assert client.get("/api/v1/studies", headers=export).json()[0]["state"] == "launched"
    assert client.get("/api/v1/studies/1/ratings?format=csv", headers=export).text.startswith("item,kind")
    assert client.get("/api/v1/studies/1/ratings?format=xml", headers=export).status_code == 422


def test_the_api_reads_what_is_there(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    (model,) = client.get("/api/v1/models").json()
    assert (model["slug"], model["n_layers"], model["counts"]["total"]) == ("believable-360m", 8, 48)
    assert len(client.get("/api/v1/models/believable-360m/heads").json()["heads"]) == 48
    scores = client.get("/api/v1/models/believable-360m/relation-scores?relation=antonym").json()["scores"]
    assert len(scores) == 48
    assert client.get("/api/v1/runs").json()[0]["counts"]["total"] == 48
    assert client.get("/api/v1/runs/1").json()["state"] == "finished"
    page = client.get("/api/v1/runs/1/descriptions?offset=40&limit=20").json()
    assert (page["total"], len(page["descriptions"])) == (48, 8)
    found = client.get("/api/v1/models/believable-360m/search?q=antonym&where=operation").json()
    assert found["total"] == len(found["heads"]) > 0
    for path in ("/api/v1/models/nope/heads", "/api/v1/runs/77", "/api/v1/models/believable-360m/heads/99/0"):
        answer = client.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"]), path
    assert client.get("/api/openapi.json").json()["openapi"].startswith("3.")


def test_a_describe_job_runs_and_is_kept(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]

    def post(head: int) -> Any:
        return client.post(
            "/api/v1/describe", headers=OURS, json={"model": "believable-360m", "layer": 1, "head": head}
        )

    def finished(job: str) -> dict[str, Any]:
        for _ in range(100):
            found: dict[str, Any] = client.get(f"/api/v1/jobs/{job}").json()
            if found["state"] in ("done", "failed"):
                return found
            time.sleep(0.05)
        raise AssertionError("the job did not end")

    answer = post(2)
    assert answer.status_code == 202
    done = finished(answer.json()["id"])
    assert (done["state"], done["result"]["description"]["operation"]) == ("done", "antonym")
    assert client.get("/believable-360m/head/1/2.json").json()["description"]["operation"] == "antonym"
    assert finished(post(5).json()["id"])["error"] == "this head is not for describing"
    broken = finished(post(4).json()["id"])
    assert (broken["state"], broken["error"]) == ("failed", "internal error (ZeroDivisionError)")
    assert post(77).status_code == 404
    assert client.get("/api/v1/jobs/none").status_code == 404
    form = client.post("/believable-360m/head/1/3/describe", headers=OURS)
    assert form.headers["location"] == "/believable-360m/head/1/3"
    assert "Describing:" in client.get("/believable-360m/head/1/3/job").text


def test_one_more_head_leaves_a_finished_run_finished(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    identity = RunIdentity("sha256:believable-360m", SETTINGS, "p" * 12, "lexical", {"made": "by this test"})
    shape = ModelShape(facts.n_layers, facts.n_heads, 2, 576, 64, 49152)
    card = ModelCard("believable-360m", identity.fingerprint, shape)
    run = open_run(engine, card=card, identity=identity, heads=[(0, 0)]).run_id
    report = replace(describe("", 0, 0), provenance={RUN_IDENTITY: identity.settings()})
    keep = keep_in_records(engine)
    keep(facts.slug, report)
    assert show_run(engine, run).state == "finished"
    keep(facts.slug, replace(report, mapping=replace(report.mapping, head=1)))
    found = show_run(engine, run)
    assert (found.state, found.counts.done, found.counts.total) == ("finished", 2, 2)
    open_run(engine, card=card, identity=identity, heads=[(0, 2), (0, 3)])
    keep(facts.slug, replace(report, mapping=replace(report.mapping, head=2)))
    assert show_run(engine, run).state == "running"  # head 3 waits for somebody


def test_relation_scores_say_how_they_were_made(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    other = RelationScore("synonym", "linguistic", 7, 1, 0.99, 0.0, 25, 40)
    store_relation_scores(engine, facts.model_id, [other], settings=replace(SETTINGS, source="embedding"))
    client = client_of(create_app(WebSettings(engine)))
    base = f"/api/v1/models/{facts.slug}"
    found = client.get(f"{base}/relation-scores?relation=synonym").json()
    assert (found["source"], found["k"], found["n_pairs"]) == ("embedding", 25, 40)
    shown = client.get(f"{base}/heads/7/1").json()["relations"]
    assert {(one["relation"] == "synonym", one["source"], one["k"]) for one in shown} == {
        (True, "embedding", 25),
        (False, "first-mlp", 10),
    }
    page = client.get(f"/{facts.slug}/head/7/1").text
    assert "top 25, embedding" in page
    assert page.count("top 10, first-mlp") == 6
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE relation_scores SET source = NULL")
    assert "top 25, source unknown" in client.get(f"/{facts.slug}/head/7/1").text


def test_a_relation_that_was_not_scored_is_not_found(site: tuple[WebSettings, TestClient]) -> None:
    for name in ("foo", "foo\x00", "anto\x00nym"):
        answer = site[1].get("/api/v1/models/believable-360m/relation-scores", params={"relation": name})
        assert answer.status_code == 404
        assert "antonym, capital of a country" in answer.json()["error"]


def test_the_head_page_says_which_source_was_chosen_and_why(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    evidence = (SourceEvidence("first-mlp", 0.625, "copying <b>"), SourceEvidence("embedding", 0.1))
    choice = SourceChoice("first-mlp", "head", evidence)
    report = replace(
        describe("", 7, 1), provenance={"settings": {"source": "first-mlp"}, "source_choice": asdict(choice)}
    )
    auto = replace(SETTINGS, source="auto")
    keep_in_records(engine)(facts.slug, replace(report, mapping=replace(report.mapping, settings=auto)))
    client = client_of(create_app(WebSettings(engine)))
    text = client.get(f"/{facts.slug}/head/7/1").text
    why = "(chosen by head; first-mlp 0.62 copying &lt;b&gt;, embedding 0.10)"
    assert f'<dd>first-mlp <span class="dim">{why}</span></dd>' in text
    twin = client.get(f"/{facts.slug}/head/7/1.json").json()
    assert (twin["source"], twin["source_choice"]["evidence"][1]["source"]) == ("first-mlp", "embedding")
    old = client.get(f"/{facts.slug}/head/7/1.json?run={facts.run_id}").json()
    assert (old["source"], old["source_choice"]) == ("first-mlp", None)


def test_claims_say_what_they_count(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    report = describe("", 7, 1)
    kinds = {"pairs": "known pairs", "form": "rows", "target-field": "distinct targets", "input-field": "tokens"}
    claims = tuple(Claim(kind, f"of {kind}", 3, 9) for kind in kinds)
    said = replace(report.description, claims=claims)
    keep_in_records(engine)(facts.slug, replace(report, description=said))
    client = client_of(create_app(WebSettings(engine)))
    text = client.get(f"/{facts.slug}/head/7/1").text
    for kind, unit in kinds.items():
        assert f"of {kind} in 3 of 9 {unit}" in text
    twin = client.get(f"/{facts.slug}/head/7/1.json").json()
    assert [one["counted"] for one in twin["description"]["claims"]] == list(kinds.values())


def test_the_api_can_be_found_and_says_what_it_does(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    places = {"/api": "/api/docs", "/docs": "/api/docs", "/redoc": "/api/docs", "/openapi.json": "/api/openapi.json"}
    for asked, place in places.items():
        assert client.get(asked).headers["location"] == place
        assert ModelCard(asked[1:], "", ModelShape(1, 1, 1, 1, 1, 1)).slug != asked[1:]  # no model is shadowed
    assert '<a href="/api/docs">API</a>' in client.get("/").text
    text = client.get("/api/docs").text
    schema = client.get("/api/openapi.json").json()
    operations = [one for methods in schema["paths"].values() for one in methods.values()]
    assert len(operations) == 12
    for path, one in zip(schema["paths"], operations, strict=True):
        assert not one["summary"].startswith("Api ")
        assert one["summary"] in text
        assert f" {path}" in text
        assert "Successful Response" not in str(one["responses"])
    assert "relation-scores?relation&amp;[suppression]" in text


def test_scores_of_the_description_are_shown(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    client = client_of(create_app(WebSettings(engine)))
    assert "Scores of the description" not in client.get(f"/{facts.slug}/head/7/0").text

    def scored(scorer: str, score: float | None) -> HeadScore:
        return HeadScore(7, 0, scorer, "antonym", Outcome(score, 20, 0, 0.6, 0.9), Outcome(0.4, 20), (6, 0))

    for items, score in ((10, 0.55), (20, 0.75)):
        keeper = DatabaseKeeper(engine, facts.run_id, {"judge": "lexical", "items": items})
        keeper.keep([scored("fuzzing", None), scored("detection", score)])
    text = client.get(f"/{facts.slug}/head/7/0").text
    assert '0.75 [0.60, 0.90] <span class="dim">swapped 0.40; judge lexical</span>' in text
    assert "0.55 [" not in text  # other settings, scored before
    found = client.get(f"/api/v1/models/{facts.slug}/heads/7/0").json()["scores"]
    assert [(one["scorer"], one["score"]) for one in found] == [("detection", 0.75), ("fuzzing", None)]


def test_without_a_describer_the_api_says_so(filled: tuple[Engine, Believable]) -> None:
    client = client_of(create_app(WebSettings(filled[0])))
    answer = client.post("/api/v1/describe", headers=OURS, json={"model": "believable-360m", "layer": 1, "head": 1})
    assert answer.status_code == 409
    assert "without a describer" in answer.json()["error"]


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


def test_errors_are_one_line_pages(site: tuple[WebSettings, TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    client = site[1]
    for path in ("/nope", "/believable-360m/head/99/0", "/believable-360m/head/x/0", "/compare?a=zzz"):
        answer = client.get(path)
        assert answer.status_code in (400, 404, 422), path
        assert "Traceback" not in answer.text
    monkeypatch.setattr("eval.web.browse.models", lambda _: 1 / 0)
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
    assert client.get("/rate/mine/none").status_code == 400

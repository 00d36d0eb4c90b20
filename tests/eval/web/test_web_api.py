"""The JSON API, describe jobs, and what a head's page and its JSON say of their numbers."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, event, select
from starlette.testclient import TestClient

from agent.results.descriptions import Claim
from agent.runs.database import writing
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.records import DescriptionRecord
from agent.runs.relation_scores import RelationScore, store_relation_scores
from agent.runs.store import open_run
from agent.runs.stored import stored_head
from agent.runs.tables import show_run
from eval.rating.people import new_api_token
from eval.scoring.keepers import DatabaseKeeper
from eval.scoring.results import HeadScore, Outcome
from eval.web.app import create_app
from eval.web.jobs import keep_in_records
from eval.web.settings import WebSettings
from maps_engine.model import ModelShape
from maps_engine.qk.kinds import READINGS
from tests.support.believable import SETTINGS, TRUER, Believable
from tests.support.eval.web_app import OURS, client_of, describe, described


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


def test_a_page_of_descriptions_reads_no_other_heads(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    client = client_of(create_app(WebSettings(engine)))
    whole = client.get(f"/api/v1/runs/{facts.run_id}/descriptions?limit=1000").json()["descriptions"]
    loaded: list[object] = []

    def count(record: object, _: object) -> None:
        loaded.append(record)

    event.listen(DescriptionRecord, "load", count)
    try:
        for offset, limit in ((0, 5), (40, 20), (1000, 5)):
            loaded.clear()
            page = client.get(f"/api/v1/runs/{facts.run_id}/descriptions?offset={offset}&limit={limit}").json()
            assert page == {"total": 48, "descriptions": whole[offset : offset + limit]}
            assert len(loaded) == len(page["descriptions"])
    finally:
        event.remove(DescriptionRecord, "load", count)


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
    keep = keep_in_records(engine)

    def keep_head(head: int) -> None:
        keep(facts.slug, described(describe("", 0, head).report, identity))

    keep_head(0)
    assert show_run(engine, run).state == "finished"
    keep_head(1)
    found = show_run(engine, run)
    assert (found.state, found.counts.done, found.counts.total) == ("finished", 2, 2)
    open_run(engine, card=card, identity=identity, heads=[(0, 2), (0, 3)])
    keep_head(2)
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


def test_the_head_page_says_which_source_was_chosen_of_a_run_that_says_auto(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    report = describe("", 7, 1).report
    report = replace(report, provenance=replace(report.provenance, settings=SETTINGS))
    auto = replace(report.mapping, settings=replace(SETTINGS, source="auto"))
    keep_in_records(engine)(facts.slug, described(replace(report, mapping=auto)))
    choice = {"source": "first-mlp", "decided_by": "head", "evidence": [{"source": "first-mlp", "score": 0.6}]}
    with writing(engine) as session:  # as runs are that were made when it was chosen head by head
        newest = session.scalars(select(DescriptionRecord).order_by(DescriptionRecord.id.desc()).limit(1)).one()
        newest.provenance = newest.provenance | {"source_choice": choice}
    client = client_of(create_app(WebSettings(engine)))
    text = client.get(f"/{facts.slug}/head/7/1").text
    assert "<dd>first-mlp</dd>" in text
    twin = client.get(f"/{facts.slug}/head/7/1.json").json()
    assert twin["description"]["provenance"]["source_choice"] == choice
    old = client.get(f"/{facts.slug}/head/7/1.json?run={facts.run_id}").json()
    assert (twin["source"], old["source"]) == ("first-mlp", "first-mlp")
    assert "source_choice" not in twin


def test_rows_stand_beside_the_same_tokens_under_the_truest_reading(filled: tuple[Engine, Believable]) -> None:
    client = client_of(create_app(WebSettings(filled[0])))
    slug, (layer, head) = filled[1].slug, (7, 0)
    text = client.get(f"/{slug}/head/{layer}/{head}").text
    assert '<th scope="col">Read through first-mlp</th><th scope="col">Read through residual behind' in text
    told = client.get(f"/{slug}/head/{layer}/{head}.json").json()
    assert told["same_tokens"]["reading"] == TRUER
    tokens = [[row["token_id"] for row in rows] for rows in (told["rows"], told["same_tokens"]["rows"])]
    assert tokens[0] == tokens[1]
    beside = stored_head(filled[0], filled[1].run_id, layer, head).same_tokens
    assert f'<span class="score">{beside.rows[0].targets[0].score:.1f}</span>' in text


def test_what_a_head_writes_whatever_it_reads(filled: tuple[Engine, Believable]) -> None:
    client = client_of(create_app(WebSettings(filled[0])))
    place = f"/{filled[1].slug}/head/7/0"
    assert "<h3>Whatever it reads</h3>" in (text := client.get(place).text)
    assert "40 % of the length of a salient row" in text
    told = client.get(f"{place}.json").json()["constant"]
    assert (told["share"], told["targets"][0]["token"]) == (0.4, " the")


def test_parts_and_all_operations_of_a_head(filled: tuple[Engine, Believable]) -> None:
    client = client_of(create_app(WebSettings(filled[0])))
    slug = filled[1].slug
    place = f"/{slug}/head/7/0"
    told = client.get(f"{place}.json").json()
    assert [part["share"] for part in told["parts"]] == [0.21, 0.08]
    assert "held_out_rows" not in told["parts"][0]
    first, second = told["description"]["operations"]
    assert (first["operation"], first["part"]) == (told["description"]["operation"], 0)
    assert (second["operation"], second["kind"], second["share"]) == ('plural nouns to "are", "were"', "part", 0.08)
    assert second["test"]["pairs"]["shuffled"] == 0.06
    text = client.get(place).text
    assert "<h2>All that it does</h2>" in text
    assert '<a href="#part-2">2</a>' in text
    assert '<tr id="part-2"><td class="num">2</td><td class="num">8.0 %</td>' in text
    for where in ("operation", "description", "all"):
        found = client.get(f"/api/v1/models/{slug}/search", params={"q": "Plural Nouns", "where": where}).json()
        assert (7, 0) in [(one["layer"], one["head"]) for one in found["heads"]], where


def test_undertrained_tokens_are_dimmed(filled: tuple[Engine, Believable]) -> None:
    client = client_of(create_app(WebSettings(filled[0])))
    place = f"/{filled[1].slug}/head/7/0"
    told = client.get(f"{place}.json").json()
    assert told["undertrained"] == [told["rows"][0]["targets"][-1]["token_id"]]
    text = client.get(place).text
    assert '<span class="dim" title="undertrained: no evidence">' in text
    assert "Dimmed tokens are undertrained" in text
    side = f"{filled[1].slug}:7.0"
    compared = client.get("/compare", params={"a": side, "b": side}).text
    assert compared.count("Whatever it reads (40 % of the length of a salient row)") == 2
    assert 'title="undertrained: no evidence"' in compared


def test_claims_say_what_they_count(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    report = describe("", 7, 1).report
    kinds = {"pairs": "known pairs", "form": "rows", "target-field": "distinct targets", "input-field": "tokens"}
    claims = tuple(Claim(kind, f"of {kind}", 3, 9) for kind in kinds)
    said = replace(report.description, claims=claims)
    keep_in_records(engine)(facts.slug, described(replace(report, description=said)))
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


def test_what_a_head_attends_to(filled: tuple[Engine, Believable]) -> None:
    client = client_of(create_app(WebSettings(filled[0])))
    slug = filled[1].slug
    told = client.get(f"/{slug}/head/7/0.json").json()["attention"]
    assert told["kinds"] == ["previous token"]
    assert told["said"] == "to the token before (61%)"
    assert (told["previous"], told["self"], len(told["profile"])) == (0.61, 0.03, 63)
    assert told["attends"][0]["targets"][0].keys() == {"token", "token_id", "score"}
    text = client.get(f"/{slug}/head/7/0").text
    assert '<p class="said">Attends to the token before (61%).</p>' in text
    assert 'aria-label="Attention by distance: 0 back 0.03, 1 back 0.61' in text
    fed = client.get(f"/{slug}/head/7/1").text
    assert f'Its keys are fed by <a href="/{slug}/head/6/0">L6 H0</a> <span class="dim">(previous token, 4.2)' in fed
    fits = client.get(f"/{slug}/head/7/2.json").json()["attention"]["fits"]
    assert fits == [{"reads": "months", "seeks": "months", "logit": 1.6, "effect": 5.0, "strength": 14.0}]
    listed = client.get(f"/api/v1/models/{slug}/heads").json()["heads"]
    of_lists = {(one["layer"], one["head"]): one["attention"] for one in listed}
    assert of_lists[7, 0].keys() == {"kinds", *READINGS, "reach"}
    assert of_lists[7, 2]["kinds"] == ["class to class"]


def test_heads_are_found_by_their_kind_of_attention(filled: tuple[Engine, Believable]) -> None:
    client, slug = client_of(create_app(WebSettings(filled[0]))), filled[1].slug
    found = client.get(f"/api/v1/models/{slug}/search", params={"q": "Induction", "where": "attention"}).json()
    assert {one["head"] for one in found["heads"]} == {1}
    assert found["total"] == 8
    assert found["heads"][0]["why"] == ["attention: induction"]
    everywhere = client.get(f"/search?model={slug}&q=class+to+class").text
    assert f'<a href="/{slug}/head/7/2">L7 H2</a>' in everywhere

"""The web app and the raters' approvals on the real model, the real embedder and a real store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from agent.commands.label_heads import app as label_heads
from agent.commands.operations import app as known
from agent.runs.stored import stored_lines
from agent.runs.tables import list_runs
from eval.commands.rate_heads import app as rate_heads
from eval.rating.store import open_studies
from eval.web.app import create_app
from eval.web.serve import find_describer
from eval.web.settings import WebSettings
from tests.support.eval.studies import YES, launched_from_run, rater, work

pytestmark = pytest.mark.model
OURS = {"sec-fetch-site": "same-origin"}
RUN = CliRunner()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One head labelled by `label-heads`, so that the app knows the model."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = str(tmp_path / "records.sqlite")
    done = RUN.invoke(label_heads, ["--layers", "26", "--heads", "2", "--database", path, "--json"])
    assert done.exit_code == 0, done.output
    return path


def test_a_describe_job_with_the_real_model_joins_the_run_of_label_heads(database: str) -> None:
    engine = open_studies(database)
    app = create_app(WebSettings(engine, describe=find_describer()))
    client = TestClient(app, base_url="https://127.0.0.1", follow_redirects=False)
    slug = client.get("/api/v1/models").json()[0]["slug"]
    job = client.post("/api/v1/describe", headers=OURS, json={"model": slug, "layer": 23, "head": 4})
    assert job.status_code == 202, job.text
    found: dict[str, Any] = {"state": "queued"}
    for _ in range(600):
        found = client.get(f"/api/v1/jobs/{job.json()['id']}").json()
        if found["state"] in ("done", "failed"):
            break
        time.sleep(0.2)
    assert found["state"] == "done", found
    operation = found["result"]["description"]["operation"]
    assert len(list_runs(engine)) == 1
    lines = {(one.layer, one.head): one for one in stored_lines(engine, list_runs(engine)[0].run_id)}
    assert sorted(lines) == [(23, 4), (26, 2)]
    assert {one.category for one in lines.values()} == {"knowledge", "linguistic"}  # nationalities, and pronouns
    twin = client.get(f"/{slug}/head/23/4.json").json()
    assert (twin["description"]["operation"], twin["description"]["category"]) == (operation, "knowledge")
    assert operation in client.get(f"/{slug}/head/23/4").text
    engine.dispose()


def test_what_raters_approve_is_retrieved(database: str) -> None:
    engine = open_studies(database)
    with engine.begin() as connection:  # a name of its own: what the catalogue knows is not added
        connection.exec_driver_sql("UPDATE descriptions SET operation = 'person word to its pronoun'")
    study = launched_from_run(engine, 1, k=2, practice=0, attention=0, control_share=0.0)
    for _ in range(2):
        work(engine, rater(engine, study), lambda _: YES)
    options = ["approve", str(study), "--database", database, "--json"]
    (found,) = json.loads(RUN.invoke(rate_heads, options).output)
    assert (found["known"], found["operation"]["name"]) == (False, "person word to its pronoun")
    (stored,) = json.loads(RUN.invoke(known, ["list", "--added", "--json"]).output)
    assert stored["examples"] == found["operation"]["examples"]
    assert "approved in study" in stored["origin"]
    head = ["--from-run", "1", "--layer", "26", "--head", "2"]
    added = RUN.invoke(known, ["add", "again", *head, "--database", database])
    assert added.exit_code == 0, added.output
    again = json.loads(RUN.invoke(known, ["list", "--added", "again", "--json"]).output)[0]
    assert again["examples"] == stored["examples"], "one way in, whoever approves"
    engine.dispose()

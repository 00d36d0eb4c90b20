"""The web app around the believable database, for tests without a browser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from agent.pipeline.one_head import DescribedHead
from agent.results.reports import HeadReport
from agent.runs.identity import ModelCard, RunIdentity
from eval.errors import BadStudy
from maps_engine.model import ModelShape
from tests.support.believable import a_mapping, a_report

OURS = {"sec-fetch-site": "same-origin"}


def describe(_model: str, layer: int, head: int) -> DescribedHead:
    if head == 5:
        raise BadStudy("this head is not for describing")
    if head == 4:
        raise ZeroDivisionError
    mapping = replace(a_mapping(layer, head, operation="antonym"), fingerprint="sha256:believable-360m")
    return described(a_report(mapping, "antonym"))


def described(report: HeadReport, identity: RunIdentity | None = None) -> DescribedHead:
    """The head of the believable model, as `label-heads` with other settings would have described it."""
    mapping = report.mapping
    shape = ModelShape(12, 6, 2, 576, 64, 49152)
    card = ModelCard("believable-360m", mapping.fingerprint, shape)
    made = RunIdentity(mapping.fingerprint, mapping.settings, "p" * 12, "lexical", {})
    return DescribedHead(report, "linguistic", card, identity or made)


def client_of(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="https://127.0.0.1", follow_redirects=False)


def sign_in(client: TestClient, token: str) -> Any:
    assert client.get(f"/join/{token}").headers["location"] == "/join"
    return client.post("/join", headers=OURS)

"""The web app around the believable database, for tests without a browser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from agent.results import HeadReport
from eval.errors import BadStudy
from tests.support.believable import a_mapping, a_report

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


def sign_in(client: TestClient, token: str) -> Any:
    assert client.get(f"/join/{token}").headers["location"] == "/join"
    return client.post("/join", headers=OURS)

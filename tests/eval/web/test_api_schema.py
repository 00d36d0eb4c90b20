"""schemathesis over the JSON API: no request, however odd, gives a 500."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from sqlalchemy import Engine

from eval.rating.store import open_studies
from eval.web.app import create_app
from eval.web.security import RateLimit
from eval.web.settings import WebSettings
from tests.support.believable import Believable, a_mapping, a_report
from tests.support.eval.studies import launched_from_run

pytestmark = pytest.mark.slow
OURS = {"sec-fetch-site": "same-origin", "host": "127.0.0.1"}


@pytest.fixture(scope="module")
def api(small_template: tuple[Path, Believable], tmp_path_factory: pytest.TempPathFactory) -> object:
    """The schema of an app over a filled database with a study."""
    path, facts = small_template
    copy = tmp_path_factory.mktemp("api") / "records.sqlite"
    shutil.copy(path, copy)
    engine: Engine = open_studies(str(copy))
    launched_from_run(engine, facts.run_id, n_heads=3)

    def describe(_model: str, layer: int, head: int) -> object:
        return a_report(a_mapping(layer % 8, head % 6, operation="antonym"), "antonym")

    app = create_app(WebSettings(engine, describe=describe))  # type: ignore[arg-type]
    app.state.api_limit = RateLimit(10**9, 1)
    return schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=OURS)


def _probe(operation: Any) -> None:
    """Throw generated requests, valid and broken, at one operation."""

    @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    @settings(max_examples=30, suppress_health_check=list(HealthCheck), database=None)
    def probe(case: Any) -> None:
        response = case.call(headers=OURS)
        assert response.status_code < 500, f"{operation.label}: {response.text[:300]}"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe()


def test_no_request_gives_a_server_error(api: Any) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:
        _probe(operation)

"""Databases for the tests of eval: both systems, empty and believable."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from eval.rating.store import open_studies
from eval.web.app import create_app
from eval.web.settings import WebSettings
from tests.support.believable import Believable
from tests.support.eval.studies import launched_from_run
from tests.support.eval.web_app import client_of, describe
from tests.support.postgres import postgres_server, postgres_url
from tests.support.record_fixtures import believable, quick, small_template

__all__ = ["believable", "postgres_server", "postgres_url", "small_template"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def studies(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database with rating tables, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        url = str(tmp_path / "studies.sqlite")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pgserver's own folder warnings
            url = request.getfixturevalue("postgres_url")
    engine = quick(open_studies(url))
    yield engine
    engine.dispose()


@pytest.fixture
def filled(believable: tuple[Engine, Believable]) -> tuple[Engine, Believable]:
    """The small believable database with the rating tables."""
    engine, facts = believable
    open_studies(engine.url).dispose()
    return engine, facts


@pytest.fixture
def site(filled: tuple[Engine, Believable]) -> tuple[WebSettings, TestClient]:
    """The app without accounts."""
    settings = WebSettings(filled[0], describe=describe)
    return settings, client_of(create_app(settings))


@pytest.fixture
def guarded(filled: tuple[Engine, Believable]) -> tuple[Engine, TestClient]:
    """The app with accounts and one launched study."""
    engine, facts = filled
    launched_from_run(engine, facts.run_id, n_heads=5)
    return engine, client_of(create_app(WebSettings(engine, accounts=True, describe=describe)))

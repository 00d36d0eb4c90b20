"""Databases for the tests of eval: both systems, empty and believable."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from eval.rating.store import open_studies
from tests.believable import Believable
from tests.conftest_records import believable, quick, small_template
from tests.postgres import postgres_server, postgres_url

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

"""Fixtures for tests that need a database: empty ones on both systems, and a believable one."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from agent.runs.database import open_database
from tests.conftest import MakeOnce
from tests.support.believable import Believable, fill_database
from tests.support.postgres import postgres_server, postgres_url

__all__ = ["any_engine", "believable", "postgres_server", "postgres_url", "quick", "small_template", "sqlite_engine"]


def quick(engine: Engine) -> Engine:
    """Without waiting for the disk at each commit: tests that do not cut the power need no durability."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        engine.dispose()
    return engine


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty SQLite database in a file."""
    engine = open_database(str(tmp_path / "records.sqlite"))
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def any_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        url = str(tmp_path / "records.sqlite")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pgserver's own folder warnings
            url = request.getfixturevalue("postgres_url")
    engine = quick(open_database(url))
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def small_template(made_once: MakeOnce) -> tuple[Path, Believable]:
    """A filled database file of 8 layers x 6 heads, to be copied."""

    def make(folder: Path) -> None:
        engine = quick(open_database(str(folder / "records.sqlite")))
        facts = fill_database(engine, n_layers=8, n_heads=6)
        engine.dispose()
        (folder / "facts.json").write_text(json.dumps(asdict(facts)))

    folder = made_once("template", make)
    return folder / "records.sqlite", Believable(**json.loads((folder / "facts.json").read_text()))


@pytest.fixture
def believable(small_template: tuple[Path, Believable], tmp_path: Path) -> Iterator[tuple[Engine, Believable]]:
    """An own copy of the small believable database."""
    path, facts = small_template
    copy = tmp_path / "believable.sqlite"
    shutil.copy(path, copy)
    engine = quick(open_database(str(copy)))
    yield engine, facts
    engine.dispose()

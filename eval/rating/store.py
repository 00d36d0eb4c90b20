"""Opens the database with the rating tables beside the records, and copies it while it is in use."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from agent.runs.database import open_database, upgrade_database
from agent.runs.records import storable
from eval.errors import BadStudy
from eval.rating.tables import Event
from maps_engine.errors import Failure
from maps_engine.files import whole_file

MIGRATIONS = Path(__file__).parent / "migrations"
Clock = Callable[[], float]


def open_studies(url: str | URL | None = None) -> Engine:
    """The database of `agent.runs.database.open_database` with the rating tables brought up to date."""
    engine = open_database(url)
    upgrade_database(engine, scripts=MIGRATIONS, version_table="rating_version")
    return engine


def add_event(
    session: Session,
    what: str,
    *,
    who: str,
    study_id: int | None = None,
    item_id: int | None = None,
    at: float | None = None,
    **details: object,
) -> None:
    """Add a line to the audit trail, in the transaction of what it tells about."""
    when = time.time() if at is None else at
    clean = {name: storable(v) if isinstance(v, str) else v for name, v in details.items()}
    session.add(Event(study_id=study_id, item_id=item_id, who=who[:100], what=what, details=clean, at=when))


def backup(engine: Engine, target: Path) -> int:
    """Copy a SQLite database into the new file `target` while it is being written; returns its bytes.

    The copy is one consistent moment, and is checked before it gets its name. Raises BadStudy, Failure.
    """
    if engine.dialect.name != "sqlite":
        raise BadStudy(
            "this backup copies SQLite files", got=engine.dialect.name, next_step="Use pg_dump for PostgreSQL."
        )
    if target.exists():
        raise BadStudy("the backup file is there already", got=target, next_step="Name a new file.")
    with whole_file(target) as part:
        healthy = _copy(str(engine.url.database), part)
        if healthy != "ok":
            raise Failure("the copied database is damaged", got=healthy)
    return target.stat().st_size


def _copy(database: str, part: Path) -> str:
    """Copy the SQLite file `database` to `part`; returns what SQLite's own check says of the copy."""
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            return str(copy.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite3.Error as error:
        raise Failure("the backup could not be made", got=error) from error
